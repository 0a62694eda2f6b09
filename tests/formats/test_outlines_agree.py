"""The same outlines, in every format that keeps outlines, are the same masks."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from made_files import image, opened, write
from pyramidseg.annotations.polygons import Location, Shape, rasterise

HEIGHT, WIDTH = 40, 64
NAMES = ("car", "tree")

Outlines = list[tuple[int, "np.ndarray[tuple[int, ...], np.dtype[np.float64]]"]]


def outlines(seed: int) -> Outlines:
    """Class numbers and corners, the largest first: then the order of area is that of LabelMe too."""
    rng = np.random.default_rng(seed)
    found = []
    for radius in (18, 11, 6, 3):
        angles = np.sort(rng.uniform(0, 2 * np.pi, 7))
        centre = rng.uniform((10, 10), (WIDTH - 10, HEIGHT - 10))
        corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)
        found.append((int(rng.integers(2)), corners.clip(0, (WIDTH, HEIGHT))))
    shapes = [Shape(1, [[corners]]) for _, corners in found]
    areas = [rasterise([shape], height=HEIGHT, width=WIDTH, where=Location(Path())).sum() for shape in shapes]
    return [found[index] for index in np.argsort(areas)[::-1]]


def as_coco(root: Path, scenes: list[Outlines]) -> None:
    annotations = [
        {
            "id": 10 * place + index,
            "image_id": place,
            "category_id": 7 + number,
            "segmentation": [corners.ravel().tolist()],
        }
        for place, scene in enumerate(scenes)
        for index, (number, corners) in enumerate(scene)
    ]
    content = {
        "images": [
            {"id": place, "file_name": f"{place}.png", "height": HEIGHT, "width": WIDTH} for place in range(len(scenes))
        ],
        "annotations": annotations,
        "categories": [{"id": 7 + number, "name": name} for number, name in enumerate(NAMES)],
    }
    write(root / "annotations" / "instances_default.json", json.dumps(content))


def as_yolo(root: Path, scenes: list[Outlines]) -> None:
    write(root / "data.yaml", f"train: images\nnames: [{', '.join(NAMES)}]\n")
    for place, scene in enumerate(scenes):
        lines = [
            " ".join([str(number), *map(repr, (corners / (WIDTH, HEIGHT)).ravel().tolist())])
            for number, corners in scene
        ]
        write(root / "labels" / f"{place}.txt", "\n".join(lines))


def as_labelme(root: Path, scenes: list[Outlines]) -> None:
    for place, scene in enumerate(scenes):
        shapes = [{"label": NAMES[number], "points": corners.tolist()} for number, corners in scene]
        write(root / "images" / f"{place}.json", json.dumps({"shapes": shapes, "imagePath": f"{place}.png"}))


@pytest.mark.parametrize("written", [as_yolo, as_labelme])
def test_masks_are_those_of_coco(tmp_path: Path, written: Callable[[Path, list[Outlines]], None]) -> None:
    scenes = [outlines(seed) for seed in range(6)]
    masks = []
    for root, write_scenes in ((tmp_path / "one", as_coco), (tmp_path / "other", written)):
        for place in range(len(scenes)):
            image(root / "images" / f"{place}.png", height=HEIGHT, width=WIDTH)
        write_scenes(root, scenes)
        dataset = opened(root)
        records = {record.image.stem: record for some in dataset.splits.values() for record in some}
        assert dataset.classes.names == ("background", *NAMES)
        masks.append(np.stack([dataset.masks.read(records[str(place)]) for place in range(len(scenes))]))
    assert set(np.unique(masks[0])) == {0, 1, 2}
    assert np.array_equal(masks[0], masks[1])
