"""Supervisely: polygons with holes, bitmaps, the order of drawing; and files that cannot be read."""

import base64
import io
import json
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_files import all_ids, has_note, ids, image, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10


def polygon(label: Any, exterior: Any, *interior: Any) -> dict[str, Any]:
    return {"classTitle": label, "geometryType": "polygon", "points": {"exterior": exterior, "interior": interior}}


def box(left: float, top: float, right: float, bottom: float) -> list[list[float]]:
    return [[left, top], [right, top], [right, bottom], [left, bottom]]


def bitmap(label: str, left: int, top: int, pixels: Any, *, mode: str = "1") -> dict[str, Any]:
    """As Supervisely's SDK writes it: a PNG of one bit with a transparent colour 0; or grey without transparency."""
    stream = io.BytesIO()
    drawn = Image.fromarray(np.array(pixels, np.uint8) * 255).convert(mode)
    drawn.save(stream, "PNG", **({"transparency": 0} if mode == "1" else {}))
    data = base64.b64encode(zlib.compress(stream.getvalue())).decode()
    return {"classTitle": label, "geometryType": "bitmap", "bitmap": {"origin": [left, top], "data": data}}


def add(root: Path, name: str, *objects: Any, **changes: Any) -> Path:
    image(root / "img" / name, height=HEIGHT, width=WIDTH)
    content = {"description": "", "tags": [], "size": {"height": HEIGHT, "width": WIDTH}, "objects": objects, **changes}
    return write(root / "ann" / f"{name}.json", json.dumps(content))


def mask(dataset: Dataset, id: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def test_classes_are_those_of_meta_and_holes_are_not_filled(tmp_path: Path) -> None:
    leaf, fig = {"title": "leaf", "color": "#102030"}, {"title": "fig", "color": "rot"}
    classes = [leaf, fig, {"title": "sign"}, {"title": " "}, {"title": 3}]
    write(tmp_path / "meta.json", json.dumps({"classes": classes, "tags": [], "projectType": "images"}))
    add(tmp_path / "ds1", "a.jpg", polygon("fig", box(0, 0, 6, 6), box(2, 2, 4, 4)))
    add(tmp_path / "ds1", "b.png", bitmap("leaf", 3, 2, [[1, 0], [1, 1]]))
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "leaf", "fig", "sign")
    assert dataset.classes.colors[1] == (16, 32, 48)
    assert mask(dataset, "ds1/img/a").sum() == 2 * (36 - 4)
    assert np.argwhere(mask(dataset, "ds1/img/b") == 1).tolist() == [[2, 3], [3, 3], [3, 4]]
    assert has_note(dataset, "no region has the classes 'sign'")


def test_later_objects_are_on_top_and_datasets_named_like_splits_are_splits(tmp_path: Path) -> None:
    small, large = polygon("fig", box(1, 1, 3, 3)), polygon("leaf", box(0, 0, 6, 6))
    add(tmp_path / "train", "a.jpg", small, large)
    add(tmp_path / "val", "a.jpg", large, small)
    dataset = opened(tmp_path)
    assert ids(dataset) == {"train": ["train/img/a"], "val": ["val/img/a"]}
    assert np.bincount(mask(dataset, "train/img/a").ravel()).tolist() == [44, 0, 36]
    assert np.bincount(mask(dataset, "val/img/a").ravel()).tolist() == [44, 4, 32]


def test_bitmap_without_transparency_is_what_is_above_0(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        add(tmp_path, name, bitmap("fig", 0, 0, [[1, 0, 1]], mode="L"))
    assert mask(opened(tmp_path), "img/a").sum() == 2


def test_rectangles_are_counted_and_images_without_objects_are_background(tmp_path: Path) -> None:
    rectangle = {**polygon("car", [[1, 1], [5, 5]]), "geometryType": "rectangle"}
    add(tmp_path, "a.jpg", rectangle, polygon("fig", box(0, 0, 4, 8)))
    add(tmp_path, "b.jpg")
    dataset = opened(tmp_path)
    assert mask(dataset, "img/a").sum() == 32 and not mask(dataset, "img/b").any()
    assert has_note(dataset, "(1 rectangle)")


def test_set_of_rectangles_alone_is_refused(tmp_path: Path) -> None:
    sign = {"classTitle": "sign", "geometryType": "rectangle", "points": {"exterior": [[0, 0], [4, 4]]}}
    for name in ("a.jpg", "b.jpg"):
        add(tmp_path / "ds1", name, sign)
    with pytest.raises(DefectError, match="has no outlined object with a label, but 2 rectangle, which are not masks"):
        opened(tmp_path)


def test_image_without_annotation_is_left_out_and_annotation_without_image_is_a_defect(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg"):
        add(tmp_path, name, polygon("fig", box(0, 0, 4, 8)))
    image(tmp_path / "img" / "c.jpg")
    assert all_ids(opened(tmp_path)) == ["img/a", "img/b"]
    (tmp_path / "img" / "b.jpg").unlink()
    _, defects = open_with_defects(tmp_path, DataConfig())
    assert [defect.kind for defect in defects] == [DefectKind.MISSING_IMAGE]


BOMB = base64.b64encode(zlib.compress(bytes(10**7))).decode()


@pytest.mark.parametrize(
    ("object", "message"),
    [
        (polygon("fig", [[0, 0], [float("inf"), 1], [2, 2]]), "not a finite number"),
        (polygon("fig", box(0, 0, 4, 4), [[0, 0]]), "needs at least 3 points"),
        ({**polygon("fig", []), "points": 3}, "its points need an exterior"),
        (polygon(["fig"], box(0, 0, 4, 4)), "where the name of a class is needed"),
        ({**polygon("fig", []), "geometryType": "multichannelBitmap"}, "has the geometryType 'multichannelBitmap'"),
        (bitmap("fig", 9, 0, [[1, 1]]), "is larger than the image"),
        (bitmap("fig", -1, 0, [[1, 1]]), "outside of the image"),
        ({**bitmap("fig", 0, 0, [[1]]), "bitmap": {"origin": [0, 0], "data": "%%"}}, "cannot be read"),
        ({**bitmap("fig", 0, 0, [[1]]), "bitmap": {"origin": [0, 0], "data": BOMB}}, "cannot be read"),
        ({**bitmap("fig", 0, 0, [[1]]), "bitmap": {"origin": "x"}}, "needs an origin of two whole numbers"),
        ("text", "where the name of a class is needed"),
    ],
)
def test_object_that_cannot_be_drawn_is_a_defect(tmp_path: Path, object: Any, message: str) -> None:
    add(tmp_path, "a.jpg", polygon("fig", box(0, 0, 4, 8)), object)
    add(tmp_path, "b.jpg", polygon("fig", box(0, 0, 4, 8)))
    with pytest.raises(DefectError) as caught:
        check_dataset(opened(tmp_path))
    assert message in str(caught.value)


def test_size_that_is_no_size_is_a_defect(tmp_path: Path) -> None:
    add(tmp_path, "a.jpg", polygon("fig", box(0, 0, 4, 8)), size={"height": "x", "width": 1})
    add(tmp_path, "b.jpg", polygon("fig", box(0, 0, 4, 8)))
    with pytest.raises(DefectError, match="height and width of its size have to be whole numbers from 1"):
        check_dataset(opened(tmp_path))
