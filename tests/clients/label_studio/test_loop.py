"""Label, train, pre-label, correct, train again: with Label Studio itself and a server that trains by itself."""

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

pytest.importorskip("label_studio", reason="make test-clients")

from made_server import server_process
from pyramidseg.annotations.brush_rle import decode_brush
from pyramidseg.annotations.polygons import Location
from pyramidseg.cli.main import main
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene, write_scenes
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.label_studio.label_studio_writer import brush_regions
from pyramidseg.predict.predictor import Predictor
from real_label_studio import TOKEN, LabelStudio
from support import TINY

HEIGHT, WIDTH = 48, 64
LABELLED, NEW, CORRECTED = 20, 40, 10
SETTINGS = "train: {epochs: 12, batch_size: 4, device: cpu}\ndata: {crop: 48, workers: 0}\n"
"""Of the second training."""


def labels_in(regions: list[dict[str, Any]]) -> NDArray[np.str_]:
    """The label of each pixel."""
    labels = np.full((HEIGHT, WIDTH), "background", object)
    for region in regions:
        pixels = decode_brush(region["value"]["rle"], height=HEIGHT, width=WIDTH, where=Location(Path("task"), "1"))
        labels[pixels] = region["value"]["brushlabels"][0]
    return labels


def wait_for(condition: Callable[[], object], *, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.2)


def predictions(server: LabelStudio, project: int, *, number: int) -> list[dict[str, Any]]:
    """Asks the backend; the last prediction of each new task."""
    selected = {"selectedItems": {"all": True, "excluded": []}, "project": project}
    server.json("POST", f"/api/dm/actions?id=retrieve_tasks_predictions&project={project}", selected)
    tasks = [task for task in server.tasks(project) if "/new/" in task["data"]["image"]]
    assert len(tasks) == NEW and {len(task["predictions"]) for task in tasks} == {number}
    return [task | {"last": max(task["predictions"], key=lambda one: one["id"])} for task in tasks]


def test_the_loop(server: LabelStudio, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scenes(Path("scenes"), train=LABELLED - 4, val=4, height=HEIGHT, width=WIDTH)
    convert_dataset("scenes", to="label-studio", out="labelled")
    shutil.copytree("labelled/images", server.files / "images", dirs_exist_ok=True)
    project = server.project(Path("labelled"))
    exported = json.loads(server.export(project, "JSON"))
    assert len(exported) == LABELLED
    Path("export").mkdir()
    Path("export/project.json").write_text(json.dumps(exported))
    shutil.copytree("labelled/images", "export/images")
    short = (*TINY, "train.epochs=1", "train.batch_size=4", "data.workers=0", "train.device=cpu")
    shutil.rmtree("export/images/val")
    shutil.copytree("labelled/images/val", "export/images/train", dirs_exist_ok=True)
    assert main(["train", "export", "--out", "runs/1", *short]) == 0

    truth = {}
    for number in range(100, 100 + NEW):
        scene = draw_scene(number, height=HEIGHT, width=WIDTH)
        place = server.files / "images" / "new" / f"scene_{number}.png"
        place.parent.mkdir(exist_ok=True)
        Image.fromarray(scene.image).save(place)
        truth[place.name] = scene
    tasks = [{"data": {"image": f"/data/local-files/?d=images/new/{name}"}} for name in truth]
    server.json("POST", f"/api/projects/{project}/import", tasks)

    Path("loop").mkdir()
    Path("loop/config.yaml").write_text(SETTINGS)
    words = ("runs/1/best.safetensors", "--device", "cpu", "--train-after", CORRECTED, "--train-in", "loop")
    environment = {"LABEL_STUDIO_URL": server.url, "LABEL_STUDIO_API_KEY": TOKEN}
    with server_process(*words, environment=environment) as (backend, _):
        server.json("POST", "/api/ml", {"project": project, "url": backend, "title": "loop"})
        found = predictions(server, project, number=1)
        first = Predictor("runs/1/best.safetensors", device="cpu")
        for task in found:
            scene = truth[task["data"]["image"].rpartition("/")[2]]
            lone = np.array(first.classes.names)[first.predict(scene.image).labels]
            assert (labels_in(task["last"]["result"]) == lone).all()

        def state() -> dict[str, Any]:
            return json.loads(Path("loop/state.json").read_text())

        for number, task in enumerate(found[:CORRECTED], start=1):
            assert (state()["round"], len(state()["annotations"])) == (0, number - 1)
            scene = truth[task["data"]["image"].rpartition("/")[2]]
            regions = brush_regions(scene.labels, dict(enumerate(SCENE_CLASSES.names)))
            corrected = {"result": regions, "parent_prediction": task["last"]["id"], "lead_time": 9}
            server.json("POST", f"/api/tasks/{task['id']}/annotations", corrected)
        wait_for(lambda: state()["round"] == 1 and not state()["running"])
        verdict = json.loads(Path("loop/round_1/verdict.json").read_text())
        assert verdict["accepted"] and verdict["miou"]["new"] > verdict["miou"]["served"], verdict
        assert state()["bundle"] == verdict["bundle"] and state()["annotations"] == []
        masks = [path.stem for path in Path("loop/round_1/data").glob("*/masks/*.png")]
        assert len(masks) == LABELLED + CORRECTED
        for task in found[:CORRECTED]:
            (mask,) = Path("loop/round_1/data").glob(f"*/masks/{task['id']}.png")
            trained = np.array(first.classes.names)[np.array(Image.open(mask))]
            scene = truth[task["data"]["image"].rpartition("/")[2]]
            assert (trained == np.array(SCENE_CLASSES.names)[scene.labels]).all()
            assert (mask.parents[1].name == "val") == (task["id"] % 5 == 0)

        again = predictions(server, project, number=2)
        second = Predictor(verdict["bundle"], device="cpu")
        scene = truth[again[-1]["data"]["image"].rpartition("/")[2]]
        lone = np.array(second.classes.names)[second.predict(scene.image).labels]
        assert (labels_in(again[-1]["last"]["result"]) == lone).all()
        with urlopen(f"{backend}/models") as answer:
            before = json.load(answer)
    with server_process(*words, environment=environment) as (backend, _), urlopen(f"{backend}/models") as answer:
        assert json.load(answer) == before
