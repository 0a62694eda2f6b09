"""RUN/dataset.yaml opens the dataset of a run as the run did."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from PIL import Image

from made_files import color_mask, image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.formats.open_dataset import open_dataset


def sequences(folder: Path) -> Path:
    pairs(folder / "images", folder / "masks", [f"s{index // 3}_{index}" for index in range(12)], 0, 1, 3, 255)
    return folder


def binary(folder: Path) -> Path:
    pairs(folder / "images", folder / "masks", ["a", "b", "c"], 0, 3, 255)
    return folder


def camvid(folder: Path) -> Path:
    for split in ("train", "val"):
        pairs(folder / split, folder / f"{split}annot", ["a"], 0, 3, 11)
    return folder


def colours(folder: Path) -> Path:
    for name in ("a", "b"):
        image(folder / "JPEGImages" / f"{name}.jpg")
        color_mask(folder / "SegmentationClass" / f"{name}.png", (0, 0, 0), (250, 4, 3), (9, 9, 9))
    write(folder / "labelmap.txt", "background:0,0,0::\nfig:250,0,0::\n")
    return folder


def two_folders(folder: Path) -> Path:
    pairs(folder / "one", folder / "two", ["a"], 0, 1)
    pairs(folder / "three", folder / "four", ["b"], 0, 1)
    return write(folder / "mine.yaml", "train: {images: one, masks: two}\nval: {images: three, masks: four}")


def named_split(folder: Path) -> Path:
    for split in ("summer", "val"):
        pairs(folder / "inner" / split, folder / "inner" / f"{split}annot", ["a"], 0, 3, 11)
    return write(folder / "mine.yaml", "path: inner\ntrain: summer\nval: val\nclasses: [sky, road]\nignore: '*'")


def merged(folder: Path) -> Path:
    return write(
        camvid(folder) / "dataset.yaml", "classes: [{name: a, from: [road, sky], color: [1, 2, 3]}]\nignore: void"
    )


def other_sizes(folder: Path) -> Path:
    for name in ("a", "b"):
        image(folder / "images" / f"{name}.jpg", height=6, width=8)
        mask(folder / "masks" / f"{name}.png", 0, 1)
    return folder


@pytest.mark.parametrize(
    ("make", "settings"),
    [
        (sequences, {"ignore": [3], "group": "^s[0-9]", "val_share": 0.3}),
        (sequences, {"ignore": [3]}),
        (binary, {"binary": True, "ignore": [3], "inverted": True}),
        (binary, {"binary": True, "ignore": "*", "classes": ["road", "crack"]}),
        (binary, {"threshold": 100}),
        (camvid, {}),
        (camvid, {"ignore": ["road"]}),
        (colours, {"tolerance": 5, "ignore": ["#090909"]}),
        (two_folders, {}),
        (named_split, {}),
        (merged, {}),
        (other_sizes, {"resize_masks": True}),
    ],
)
def test_description_opens_the_same_dataset_from_elsewhere(
    tmp_path: Path, make: Callable[[Path], Path], settings: dict[str, Any]
) -> None:
    dataset = opened(make(tmp_path / "data"), **settings)
    recorded = {"recorded": {"layout": dataset.layout, "notes": list(dataset.notes)}}
    file = write(
        tmp_path / "run" / "dataset.yaml", yaml.safe_dump({**dataset.description, **recorded}, sort_keys=False)
    )
    for again in (opened(file), opened(file, **settings)):  # alone, and with the run's own config.yaml
        assert again.classes == dataset.classes
        assert again.masks == dataset.masks
        assert {key: set(value) for key, value in again.splits.items()} == {
            key: set(value) for key, value in dataset.splits.items()
        }
        assert again.layout == dataset.layout
        assert again.description == dataset.description


def test_inferred_classes_are_written_with_their_values(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 1)
    description = opened(tmp_path).description
    assert description["path"] == str(tmp_path.resolve())
    assert (description["format"], description["val_share"]) == ("paired", 0.2)
    assert [(entry["name"], entry["from"]) for entry in description["classes"]] == [("class 0", [0]), ("class 1", [1])]


def test_description_is_the_same_when_masks_change_their_values_later(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 1)
    file = write(tmp_path / "run" / "dataset.yaml", yaml.safe_dump(dict(opened(tmp_path).description)))
    Image.fromarray(np.full((3, 4), 2, np.uint8)).save(tmp_path / "masks" / "b.png")
    assert len(open_dataset(file, DataConfig()).classes) == 2  # not inferred again: 2 is not a class now
