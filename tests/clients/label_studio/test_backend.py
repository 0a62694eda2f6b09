"""Label Studio itself asks our ML backend for predictions; they are shown, accepted, exported and read equal."""

import io
import json
import urllib.parse
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("label_studio", reason="make test-clients")

from chromium import CHROMIUM, Chromium
from made_server import server_process
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.demo.scenes import draw_scene
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor
from real_label_studio import PASSWORD, TOKEN, USER, LabelStudio

CLASSES = ("background", "road", "tree", "sky")
SECRET = "a-secret-of-the-backend"
CONFIG = """<View><Image name="picture" value="$photo" zoom="true"/>
  <BrushLabels name="areas" toName="picture"><Label value="Road"/><Label value="Wood" predicted_values="tree, bush"/>
  <Label value="sky"/><Label value="water"/></BrushLabels></View>"""
"""Labels: in other case, with a list of classes, of the class's name, without a class; `background` has none."""


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    import torch

    torch.manual_seed(1)
    path = tmp_path_factory.mktemp("model") / "street.safetensors"
    Segmenter(classes=CLASSES, encoder="test_resnet", encoder_weights="none", pyramid_channels=16).eval().save(path)
    return path


@pytest.fixture(scope="module")
def backend(server: LabelStudio, bundle: Path) -> Iterator[str]:
    """The URL of our server."""
    environment = {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": TOKEN, "PYRAMIDSEG_TOKEN": SECRET}
    with server_process(bundle, "--device", "cpu", environment=environment) as (url, _):
        yield url


def upload(server: LabelStudio, project: int, name: str, content: bytes) -> None:
    """Import an image file as its page does."""
    boundary = uuid.uuid4().hex
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="file"; filename="{name}"\r\n'
    body = head.encode() + b"Content-Type: image/png\r\n\r\n" + content + f"\r\n--{boundary}--\r\n".encode()
    headers = {"Authorization": f"Token {TOKEN}", "Content-Type": f"multipart/form-data; boundary={boundary}"}
    url = f"{server.url}/api/projects/{project}/import"
    with urlopen(Request(url, body, headers), timeout=60) as answer:
        assert json.load(answer)["task_count"] == 1


def connect(server: LabelStudio, backend: str, project: int, **more: object) -> int:
    """Add the backend to a project; returns its id."""
    given = {"project": project, "url": backend, "title": "pyramidseg", **more}
    return server.json("POST", "/api/ml", given)["id"]


AUTHENTICATION = {"auth_method": "BASIC_AUTH", "basic_auth_user": "any", "basic_auth_pass": SECRET}


def annotations_counted(backend: str) -> float:
    with urlopen(Request(f"{backend}/metrics", headers={"Authorization": f"Bearer {SECRET}"})) as answer:
        lines = answer.read().decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("pyramidseg_annotations "))


@pytest.fixture(scope="module")
def project(server: LabelStudio, backend: str) -> int:
    """A project with three uploaded images and the backend."""
    number = server.json("POST", "/api/projects", {"title": "street", "label_config": CONFIG})["id"]
    for scene in range(3):
        content = io.BytesIO()
        Image.fromarray(draw_scene(scene, height=72, width=96).image).save(content, "PNG")
        upload(server, number, f"scene {scene}.png", content.getvalue())
    connect(server, backend, number, **AUTHENTICATION)
    return number


def retrieve(server: LabelStudio, project: int) -> None:
    """Ask the backend for predictions of all tasks, as the action of the page does."""
    selected = {"selectedItems": {"all": True, "excluded": []}, "project": project}
    server.json("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", selected)


def test_a_wrong_password_is_refused(server: LabelStudio, backend: str) -> None:
    number = server.json("POST", "/api/projects", {"title": "other", "label_config": CONFIG})["id"]
    for given in ({}, AUTHENTICATION | {"basic_auth_pass": "wrong"}):
        with pytest.raises(HTTPError) as caught:
            connect(server, backend, number, **given)
        assert caught.value.code == 400 and b"authentication" in caught.value.read()


def test_labels_are_those_of_the_predictor(
    server: LabelStudio, backend: str, project: int, bundle: Path, tmp_path: Path
) -> None:
    (connected,) = server.json("GET", f"/api/ml?project={project}")
    assert connected["state"] == "CO"
    with urlopen(Request(f"{backend}/models", headers={"Authorization": f"Bearer {SECRET}"})) as answer:
        (model,) = json.load(answer)
    assert connected["model_version"] == model["version"]
    retrieve(server, project)
    tasks = server.tasks(project)
    predictor = Predictor(bundle, device="cpu")
    lone = [predictor.predict(draw_scene(scene, height=72, width=96).image, confidence=True) for scene in range(3)]
    for task, expected in zip(tasks, lone, strict=True):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == model["version"]
        assert prediction["score"] == pytest.approx(expected.confidence.mean(), abs=1e-6)
        accepted = {"result": prediction["result"], "parent_prediction": prediction["id"], "lead_time": 1}
        server.json("POST", f"/api/tasks/{task['id']}/annotations", accepted)
    retrieve(server, project)
    assert [len(task["predictions"]) for task in server.tasks(project)] == [1, 1, 1]

    (tmp_path / "images").mkdir()
    for task in tasks:
        place = urllib.parse.urlsplit(task["data"]["photo"]).path
        (tmp_path / "images" / place.rpartition("/")[2]).write_bytes(server.call("GET", place))
    (tmp_path / "export.json").write_bytes(server.export(project, "JSON"))
    dataset = open_dataset(tmp_path, DataConfig())
    names = np.array(dataset.classes.names)
    shown = np.array(["background", "Road", "Wood", "sky"])
    records = sorted((record for some in dataset.splits.values() for record in some), key=lambda one: one.id)
    assert len(records) == 3 and len(np.unique([expected.labels for expected in lone])) > 2
    for record in records:
        scene = int(record.image.stem[-1])
        assert (names[read_labels(record, dataset.masks)] == shown[lone[scene].labels]).all()


def test_webhooks_need_the_token_in_a_header(server: LabelStudio, backend: str, project: int) -> None:
    """Label Studio makes the webhook when the backend is connected, without its credentials."""
    (webhook,) = server.json("GET", f"/api/webhooks/?project={project}")
    assert webhook["url"] == f"{backend}/webhook" and webhook["headers"] == {}
    (first, *_) = server.tasks(project)
    assert annotations_counted(backend) == 0
    headers = {"headers": {"Authorization": f"Bearer {SECRET}"}}
    server.json("PATCH", f"/api/webhooks/{webhook['id']}/", webhook | headers)
    made = [server.json("POST", f"/api/tasks/{first['id']}/annotations", {"result": []})["id"] for _ in range(2)]
    assert annotations_counted(backend) == 2
    server.json("PATCH", f"/api/annotations/{made[0]}/", {"result": []})
    assert annotations_counted(backend) == 2
    server.call("DELETE", f"/api/annotations/{made[0]}/")
    assert annotations_counted(backend) == 1
    selected = {"selectedItems": {"all": False, "included": [first["id"]]}, "project": project}
    server.json("POST", f"/api/dm/actions?id=delete_tasks_annotations&project={project}", selected)
    assert annotations_counted(backend) == 0


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium")
def test_its_page_shows_the_regions(server: LabelStudio, project: int, tmp_path: Path) -> None:
    retrieve(server, project)
    task = server.tasks(project)[1]
    browser = Chromium(tmp_path / "profile")
    try:
        with browser.tab() as tab:
            tab.open(f"{server.url}/user/login/", ready="document.querySelector('input[name=password]') !== null")
            tab.evaluate(
                f"document.querySelector('input[name=email]').value = {USER!r};"
                f"document.querySelector('input[name=password]').value = {PASSWORD!r};"
                "document.querySelector('form').submit()"
            )
            tab.wait("location.pathname !== '/user/login/' && document.readyState === 'complete'", seconds=60)
            tab.open(f"{server.url}/projects/{project}/data?task={task['id']}")
            for region in task["predictions"][0]["result"]:
                label, score = region["value"]["brushlabels"][0], f"{region['score']:.2f}"
                tab.wait(f"/{label}\\s+{score}/.test(document.body.innerText)", seconds=60)
            tab.wait("document.querySelectorAll('canvas').length >= 2", seconds=60)
            tab.screenshot(tmp_path / "page.png")
    finally:
        browser.close()
