"""Label Studio itself imports what we write, and what it exports is read equal: also predictions that were accepted."""

import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("label_studio", reason="make test-clients")

from made_backends import Brightness
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import Dataset
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor

TOKEN = "0123456789abcdef0123456789abcdef01234567"
START_SECONDS = 300
"""The first start makes the database."""

NAMES = ("a.png", "deep/b 1.png", "deep/Straße.png", "c.png")


class LabelStudio:
    """A running server; `files` is its document root for local files."""

    def __init__(self, url: str, files: Path) -> None:
        self.url, self.files = url, files

    def call(self, method: str, path: str, body: object = None) -> bytes:
        headers = {"Authorization": f"Token {TOKEN}", "Content-Type": "application/json"}
        data = None if body is None else json.dumps(body).encode()
        with urlopen(Request(self.url + path, data, headers, method=method), timeout=100) as answer:
            return answer.read()

    def json(self, method: str, path: str, body: object = None) -> Any:
        return json.loads(self.call(method, path, body))

    def project(self, written: Path) -> int:
        """A project with the labelling config and the tasks of all splits in a folder, and the served images."""
        content = {"title": "project", "label_config": (written / "label_config.xml").read_text(encoding="utf-8")}
        project = self.json("POST", "/api/projects", content)["id"]
        storage = {"project": project, "path": str(self.files / "images"), "use_blob_urls": True}
        self.json("POST", "/api/storages/localfiles", storage)
        for tasks in sorted(written.glob("*.json")):
            made = json.loads(tasks.read_text(encoding="utf-8"))
            assert self.json("POST", f"/api/projects/{project}/import", made)["task_count"] == len(made)
        return project

    def tasks(self, project: int) -> list[dict[str, Any]]:
        listed = self.json("GET", f"/api/tasks?project={project}&page_size=100")["tasks"]
        return [self.json("GET", f"/api/tasks/{task['id']}") for task in listed]

    def export(self, project: int, kind: str) -> bytes:
        return self.call("GET", f"/api/projects/{project}/export?exportType={kind}")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabelStudio]:
    """Label Studio on loopback with a database of its own, without telemetry."""
    folder = tmp_path_factory.mktemp("label_studio")
    (folder / "files" / "images").mkdir(parents=True)
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    settings = {
        "LABEL_STUDIO_LOCAL_FILES_SERVING_ENABLED": "true",
        "LABEL_STUDIO_LOCAL_FILES_DOCUMENT_ROOT": str(folder / "files"),
        "LABEL_STUDIO_ENABLE_LEGACY_API_TOKEN": "true",
        "COLLECT_ANALYTICS": "0",
        "LATEST_VERSION_CHECK": "0",
        "SENTRY_DSN": "",
        "FRONTEND_SENTRY_DSN": "",
    }
    command = [Path(sys.executable).with_name("label-studio"), "start", "--no-browser", "--data-dir", folder / "data"]
    command += ["--internal-host", "127.0.0.1", "--port", port, "--user-token", TOKEN]
    command += ["--username", "user@example.com", "--password", "a-password"]
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            list(map(str, command)), cwd=folder, env=os.environ | settings, stdout=log, stderr=log, text=True
        )
        try:
            url, end = f"http://127.0.0.1:{port}", time.monotonic() + START_SECONDS
            while not _answers(url):
                assert process.poll() is None and time.monotonic() < end, (folder / "log").read_text()[-3000:]
                time.sleep(0.5)
            yield LabelStudio(url, folder / "files")
        finally:
            process.terminate()
            process.wait(30)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/health", timeout=5):
            return True
    except (URLError, OSError):
        return False


def coarse(seed: int, values: int) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, values, (11, 13), np.uint8).repeat(4, 0).repeat(3, 1)


def exported(server: LabelStudio, project: int, kind: str, folder: Path) -> Dataset:
    """The export as a dataset, with the served images."""
    shutil.copytree(server.files / "images", folder / "images")
    (folder / "export.json").write_bytes(server.export(project, kind))
    return open_dataset(folder, DataConfig())


def names_by_image(dataset: Dataset) -> dict[str, list[list[str]]]:
    """The class name of each pixel."""
    names = np.array(dataset.classes.names)
    return {
        record.image.name: names[read_labels(record, dataset.masks)].tolist()
        for records in dataset.splits.values()
        for record in records
    }


@pytest.fixture
def images(server: LabelStudio) -> Iterator[Path]:
    """Four served images, bright and dark."""
    folder = server.files / "images" / "train"
    for seed, name in enumerate(NAMES):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(255 * coarse(seed, 2)).convert("RGB").save(folder / name)
    yield folder
    shutil.rmtree(server.files / "images")


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
def test_converted_labels_come_back_equal(server: LabelStudio, images: Path, tmp_path: Path, kind: str) -> None:
    classes = Classes.from_names(["background", 'wet "road" & kerb', "tree"])
    source = tmp_path / "source"
    for seed, name in enumerate(NAMES):
        for part, content in (("images", (images / name).read_bytes()), ("masks", None)):
            path = source / "train" / part / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content) if content else Image.fromarray(coarse(seed + 9, 3)).save(path)
    (source / "dataset.yaml").write_text(json.dumps({"classes": list(classes.names)}))
    written = tmp_path / "written"
    convert_dataset(source, to="label-studio", out=written)
    assert {path.name for path in written.glob("*.json")} == {"train.json", "val.json"}
    shutil.rmtree(images)
    shutil.copytree(written / "images", server.files / "images", dirs_exist_ok=True)
    project = server.project(written)
    tasks = server.tasks(project)
    assert len(tasks) == len(NAMES)
    for task in tasks:
        assert server.call("GET", task["data"]["image"]).startswith(b"\x89PNG")
    found = exported(server, project, kind, tmp_path / "export")
    assert names_by_image(found) == names_by_image(open_dataset(source, DataConfig()))


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
def test_accepted_predictions_come_back_equal(server: LabelStudio, images: Path, tmp_path: Path, kind: str) -> None:
    predict_files(Predictor(Brightness()), [images], tmp_path / "out", save=("label-studio",))
    written = tmp_path / "out" / "label-studio"
    (version,) = {task["predictions"][0]["model_version"] for task in json.loads((written / "train.json").read_text())}
    project = server.project(written)
    for task in server.tasks(project):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == version and task["annotations"] == []
        accepted = {"result": prediction["result"], "parent_prediction": prediction["id"], "lead_time": 1}
        server.json("POST", f"/api/tasks/{task['id']}/annotations", accepted)
    found = names_by_image(exported(server, project, kind, tmp_path / "export"))
    assert found == {
        Path(name).name: np.array(["dark", "bright"])[coarse(seed, 2)].tolist() for seed, name in enumerate(NAMES)
    }


@pytest.mark.parametrize("kind", ["BRUSH_TO_PNG", "BRUSH_TO_NUMPY"])
def test_masks_named_after_tasks_are_refused(server: LabelStudio, images: Path, tmp_path: Path, kind: str) -> None:
    predict_files(Predictor(Brightness()), [images], tmp_path / "out", save=("label-studio",))
    written = tmp_path / "out" / "label-studio"
    tasks = json.loads((written / "train.json").read_text())
    (written / "train.json").write_text(
        json.dumps([{**task, "annotations": task.pop("predictions")} for task in tasks])
    )
    project = server.project(written)
    shutil.copytree(images, tmp_path / "export" / "images")
    with zipfile.ZipFile(io.BytesIO(server.export(project, kind))) as archive:
        named = re.compile(r"task-\d+-annotation-\d+-by-\d+-label-(dark|bright)-0\.(png|npy)")
        assert len(archive.namelist()) == 2 * len(NAMES) and all(map(named.fullmatch, archive.namelist()))
        archive.extractall(tmp_path / "export" / "masks")
    refused = {"BRUSH_TO_PNG": "named after Label Studio's tasks.*export JSON", "BRUSH_TO_NUMPY": "8 .npy are not read"}
    with pytest.raises(DataError, match=refused[kind]):
        open_dataset(tmp_path / "export", DataConfig())
