"""Records of small images and masks, for checks of a dataset."""

from pathlib import Path

import numpy as np
from PIL import Image

from pyramidseg.base.classes import IGNORE
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Dataset, Record

CLASSES = ("a", "b", "c", "d")


def record(folder: Path, name: str, labels: np.ndarray, *, size: tuple[int, int] | None = None) -> Record:
    height, width = size or labels.shape
    made = Record(name, folder / f"{name}.jpg", folder / f"{name}_mask.png")
    Image.new("RGB", (width, height)).save(made.image)
    assert made.mask is not None
    Image.fromarray(labels.astype(np.uint8)).save(made.mask)
    return made


def several(folder: Path, count: int, *, seed: int = 0, values: tuple[int, ...] = (0, 1, 3, IGNORE)) -> list[Record]:
    rng = np.random.default_rng(seed)
    return [
        record(folder, f"{seed}-{index}", rng.choice(values[index % 3 :], (index + 2, 5)))  # not every class everywhere
        for index in range(count)
    ]


def dataset(train: list[Record], val: list[Record] | None = None) -> Dataset:
    return dataset_from_records(train=train, val=val or (), classes=CLASSES)
