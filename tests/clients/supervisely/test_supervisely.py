"""Supervisely's SDK reads what we write with equal pixels, and we read what it writes."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("supervisely", reason="make test-clients")

import supervisely as sly

from made_labels import CLASSES, PLACES, labels, names_of, pixels, read_names, write_source
from pyramidseg.formats.convert_dataset import convert_dataset

pytestmark = pytest.mark.filterwarnings("default")  # of the library


def test_the_sdk_reads_equal_pixels(tmp_path: Path) -> None:
    convert_dataset(write_source(tmp_path / "in"), to="supervisely", out=tmp_path / "out")
    project = sly.Project(str(tmp_path / "out"), sly.OpenMode.READ)
    assert [one.name for one in project.meta.obj_classes] == list(CLASSES[1:])
    found = {}
    for dataset in project.datasets:
        for item in dataset.get_items_names():
            annotation = dataset.get_ann(item, project.meta)
            drawn = np.zeros(annotation.img_size, np.int32)
            for label in annotation.labels:
                label.geometry.draw(drawn, CLASSES.index(label.obj_class.name))
            found[dataset.name, Path(item).stem] = drawn
    assert found.keys() == set(PLACES)
    for (_, name), drawn in found.items():
        np.testing.assert_array_equal(drawn, labels(name))


@pytest.mark.parametrize("kind", ["bitmap", "polygon"])
def test_what_the_sdk_writes_is_read(kind: str, tmp_path: Path) -> None:
    """Bitmaps equal. Its polygons lead through the centres of border pixels, which are lost at two sides."""
    geometry = sly.Bitmap if kind == "bitmap" else sly.Polygon
    classes = {name: sly.ObjClass(name, geometry) for name in CLASSES[1:]}
    meta = sly.ProjectMeta(obj_classes=sly.ObjClassCollection([*classes.values()]))
    (tmp_path / "p").mkdir()
    (tmp_path / "p" / "meta.json").write_text(json.dumps(meta.to_json()))
    for split, name in PLACES:
        made = [
            sly.Label(part, classes[CLASSES[value]])
            for value in range(1, len(CLASSES))
            for part in (
                [sly.Bitmap(labels(name) == value)]
                if kind == "bitmap"
                else sly.Bitmap(labels(name) == value).to_contours()
            )
        ]
        annotation = sly.Annotation(labels(name).shape, made)
        for folder in ("ann", "img"):
            (tmp_path / "p" / split / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / "p" / split / "ann" / f"{name}.png.json").write_text(json.dumps(annotation.to_json()))
        Image.fromarray(pixels(name)).save(tmp_path / "p" / split / "img" / f"{name}.png")
    found = read_names(tmp_path / "p")
    differing = [float((found[name] != names_of(labels(name))).mean()) for _, name in PLACES]
    assert max(differing) == 0 if kind == "bitmap" else max(differing) < 0.25
