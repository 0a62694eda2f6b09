"""A dataset of index masks with known labels, for the tests with other programs."""

from pathlib import Path

import numpy as np
import yaml
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.data.pairs import read_labels
from pyramidseg.formats.open_dataset import open_dataset

CLASSES = ("background", "car", "tree", "wet road")
PLACES = (("train", "a"), ("train", "b"), ("val", "c"))


def labels(name: str, height: int = 37, width: int = 52) -> NDArray[np.uint8]:
    """Blobs of 5 pixels with diagonal neighbours, and an object in a hole of another one."""
    generator = np.random.default_rng(ord(name))
    coarse = generator.integers(0, len(CLASSES), (height // 5 + 1, width // 5 + 1), np.uint8)
    coarse[1:4, 1:5], coarse[2, 2:4] = 1, (0, 2)
    return coarse.repeat(5, 0).repeat(5, 1)[:height, :width]


def pixels(name: str) -> NDArray[np.uint8]:
    """An image for `labels`."""
    return np.random.default_rng(ord(name)).integers(0, 256, (*labels(name).shape, 3), np.uint8)


def write_source(folder: Path) -> Path:
    """The dataset of `PLACES` as paired folders."""
    for split, name in PLACES:
        for kind, content in (("images", pixels(name)), ("masks", labels(name))):
            path = folder / split / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(content).save(path)
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": list(CLASSES)}))
    return folder


def names_of(values: NDArray[np.uint8]) -> NDArray[np.str_]:
    """Names of the classes of labels."""
    return np.array(CLASSES)[values]


def read_names(root: Path) -> dict[str, NDArray[np.str_]]:
    """Class names of every pixel, by the name of the image, as pyramidseg reads a dataset."""
    opened = open_dataset(root, DataConfig())
    names = np.array([*opened.classes.names, *["?"] * (IGNORE - len(opened.classes)), "background"])
    return {
        Path(record.id).name: names[read_labels(record, opened.masks)]
        for records in opened.splits.values()
        for record in records
    }
