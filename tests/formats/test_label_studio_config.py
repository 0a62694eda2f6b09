"""Labels for a Label Studio project of other names: with its tags and labels, or refused."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_conversions import write_source
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset

BRUSHES = """<View>
  <Image name="photo" value="$url"/>
  <BrushLabels name="surface" toName="photo">
    <Label value="Street" predicted_values="Straße, wet"/><Label value="TREE"/>
  </BrushLabels>
  <BrushLabels name="things" toName="photo"><Label value="car" alias="c"/><Label value="boat"/></BrushLabels>
</View>"""

POLYGONS = BRUSHES.replace("BrushLabels", "PolygonLabels")

LABELS = {"Straße, wet": "Street", "tree": "TREE", "car": "c"}
TAGS = {"Street": "surface", "TREE": "surface", "c": "things"}


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source")


def write(folder: Path, config: str) -> Path:
    path = folder / "project.xml"
    path.write_text(config, encoding="utf-8")
    return path


def check(source: Path, out: Path, *, kind: str) -> list[dict[str, Any]]:
    """That all regions have the project's names, and all pixels their labels; returns the regions."""
    regions = []
    for task in json.loads((out / "train.json").read_text(encoding="utf-8")):
        assert list(task["data"]) == ["url"]
        (annotation,) = task["annotations"]
        for region in annotation["result"]:
            (label,) = region["value"][kind]
            assert (region["type"], region["to_name"], region["from_name"]) == (kind, "photo", TAGS[label])
            regions.append(region)
    before, after = (open_dataset(folder, DataConfig()) for folder in (source, out))
    of_id = {Path(record.id).name: record for record in before.splits["train"]}
    for record in after.splits["train"]:
        expected = read_labels(of_id[Path(record.id).name], before.masks)
        found = np.array(after.classes.names)[read_labels(record, after.masks)]
        names = np.array([LABELS.get(name, "background") for name in [*before.classes.names, *["-"] * 252]])
        np.testing.assert_array_equal(found, names[expected])
    return regions


@pytest.mark.parametrize("config", [BRUSHES, BRUSHES.replace("</View>", POLYGONS.partition('$url"/>')[2])])
def test_brushes_have_the_projects_names(config: str, source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="label-studio", out=tmp_path / "out", label_config=write(tmp_path, config))
    assert check(source, tmp_path / "out", kind="brushlabels")
    assert (tmp_path / "out" / "label_config.xml").read_text(encoding="utf-8") == config


def test_a_class_may_have_the_name_of_an_alias(source: Path, tmp_path: Path) -> None:
    config = BRUSHES.replace('value="car" alias="c"', 'value="automobile" alias="car"')
    convert_dataset(source, to="label-studio", out=tmp_path / "out", label_config=write(tmp_path, config))
    labels = re.findall(r'"brushlabels": \["(\w+)"\]', (tmp_path / "out" / "train.json").read_text(encoding="utf-8"))
    assert set(labels) == {"Street", "TREE", "car"}


def test_polygons_have_the_projects_names_and_holes_are_cut_open_without_a_brush(source: Path, tmp_path: Path) -> None:
    ring = np.zeros((9, 14), np.uint8)
    ring[1:8, 2:9], ring[3:5, 4:6] = 2, 0
    Image.fromarray(ring).save(source / "train" / "masks" / "a.png")
    config = write(tmp_path, POLYGONS)
    convert_dataset(source, to="label-studio-polygons", out=tmp_path / "out", label_config=config)
    assert check(source, tmp_path / "out", kind="polygonlabels")


@pytest.mark.parametrize(
    ("to", "config", "message"),
    [
        (
            "label-studio",
            BRUSHES.replace("TREE", "bush"),
            r"no label in BrushLabels for tree \(its labels: Street, bush",
        ),
        ("label-studio", POLYGONS, r"no label in BrushLabels for Straße, wet, tree, car \(its labels: none\)"),
        ("label-studio-polygons", BRUSHES, "no label in PolygonLabels for Straße, wet, tree, car"),
        ("label-studio", "<View/>", "needs BrushLabels or PolygonLabels for an Image"),
        ("label-studio", "<View>", "not valid XML"),
        ("coco", BRUSHES, "coco has no labelling configuration; .* write label-studio, label-studio-polygons"),
    ],
)
def test_a_project_without_a_label_for_a_class_is_refused(
    to: str, config: str, message: str, source: Path, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=message):
        convert_dataset(source, to=to, out=tmp_path / "out", label_config=write(tmp_path, config))
    assert not (tmp_path / "out").exists()


def test_a_configuration_that_does_not_exist_is_refused(source: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent.xml: does not exist; restore it, or correct its name"):
        convert_dataset(source, to="label-studio", out=tmp_path / "out", label_config=tmp_path / "absent.xml")


def test_a_conversion_for_another_project_is_not_overwritten(source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to="label-studio", out=tmp_path / "out")
    with pytest.raises(OutputError, match="or with other settings"):
        convert_dataset(source, to="label-studio", out=tmp_path / "out", label_config=write(tmp_path, BRUSHES))
