"""COCO files for tests, made in a few lines."""

import json
from pathlib import Path
from typing import Any

from made_files import image, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset

HEIGHT, WIDTH = 8, 10


CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 44, "name": "bottle", "supercategory": "kitchen"},
]


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    """The outline of a rectangle."""
    return [left, top, right, top, right, bottom, left, bottom]


def objects(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations with what they need: of image 0, category 3, numbered from 100 on."""
    needed = {
        "image_id": 0,
        "category_id": 3,
        "iscrowd": 0,
        "segmentation": [box(0, 0, 4, 4)],
        "area": 16,
        "bbox": [0, 0, 4, 4],
    }
    return [{"id": 100 + index, **needed, **entry} for index, entry in enumerate(entries)]


def coco(path: Path, names: list[str], annotations: list[dict[str, Any]], **changes: Any) -> Path:
    """An annotation file, in the order of COCO's own members."""
    content = {
        "info": {"year": 2017},
        "licenses": [{"id": 1}],
        "images": [
            {"id": index, "file_name": name, "height": HEIGHT, "width": WIDTH} for index, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": CATEGORIES,
        **changes,
    }
    return write(path, json.dumps({key: value for key, value in content.items() if value is not None}))


def images(folder: Path, *names: str) -> None:
    for name in names:
        image(folder / name, height=HEIGHT, width=WIDTH)


def single(root: Path, annotations: list[dict[str, Any]], **changes: Any) -> Dataset:
    """A dataset of one file, with two images for training and one for validation in a folder beside it."""
    images(root / "images", "a.jpg", "b.jpg")
    coco(root / "annotations.json", ["a.jpg", "b.jpg"], annotations, **changes)
    return opened(root)


def errors(dataset: Dataset) -> list[str]:
    found = []
    for records in dataset.splits.values():
        for record in records:
            try:
                dataset.masks.read(record)
            except DataError as error:
                found.append(str(error))
    return found
