"""Label Studio itself imports what we write, and what it exports is read equal: also predictions that were accepted."""

import io
import json
import re
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path

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
from real_label_studio import LabelStudio

NAMES = ("a.png", "deep/b 1.png", "deep/Straße.png", "c.png")


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
    convert_dataset(source, to="label-studio", out=written, data=DataConfig(val_share=0.4))
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


OTHER_NAMES = """<View>
  <Header value="What is bright?"/>
  <Image name="photo" value="$url"/>
  <BrushLabels name="light" toName="photo">
    <Label value="Night" predicted_values="dark"/><Label value="BRIGHT"/><Label value="Absent"/>
  </BrushLabels>
</View>"""


@pytest.mark.parametrize("kind", ["JSON", "JSON_MIN"])
@pytest.mark.parametrize(("config", "names"), [(None, ["dark", "bright"]), (OTHER_NAMES, ["Night", "BRIGHT"])])
def test_accepted_predictions_come_back_equal(
    server: LabelStudio, images: Path, tmp_path: Path, kind: str, config: str | None, names: list[str]
) -> None:
    if config:
        (tmp_path / "project.xml").write_text(config)
    given = tmp_path / "project.xml" if config else None
    predict_files(Predictor(Brightness()), [images], tmp_path / "out", save=("label-studio",), label_config=given)
    written = tmp_path / "out" / "label-studio"
    (version,) = {task["predictions"][0]["model_version"] for task in json.loads((written / "train.json").read_text())}
    project = server.project(written)
    for task in server.tasks(project):
        (prediction,) = task["predictions"]
        assert prediction["model_version"] == version and task["annotations"] == []
        accepted = {"result": prediction["result"], "parent_prediction": prediction["id"], "lead_time": 1}
        server.json("POST", f"/api/tasks/{task['id']}/annotations", accepted)
    found = names_by_image(exported(server, project, kind, tmp_path / "export"))
    assert found == {Path(name).name: np.array(names)[coarse(seed, 2)].tolist() for seed, name in enumerate(NAMES)}


@pytest.mark.parametrize("kind", ["BRUSH_TO_PNG", "BRUSH_TO_NUMPY"])
def test_masks_named_after_tasks_are_read_with_the_json(
    server: LabelStudio, images: Path, tmp_path: Path, kind: str
) -> None:
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
    with pytest.raises(DataError, match=r"named after Label Studio's tasks.*export JSON or JSON_MIN"):
        open_dataset(tmp_path / "export", DataConfig())
    (tmp_path / "export" / "export.json").write_bytes(server.export(project, "JSON_MIN"))
    found = open_dataset(tmp_path / "export", DataConfig())
    assert any("brushes are read from 8 masks" in note for note in found.notes)
    assert names_by_image(found) == {
        Path(name).name: np.array(["dark", "bright"])[coarse(seed, 2)].tolist() for seed, name in enumerate(NAMES)
    }
