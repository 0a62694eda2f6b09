"""Datasets with outlines as Ultralytics keeps them."""

from pathlib import Path

import numpy as np

from made_files import image, write
from pyramidseg.data.records import Dataset

HEIGHT, WIDTH = 8, 10
SQUARE = "0.0 0.0 0.4 0.0 0.4 0.5 0.0 0.5"
"""The first 4 pixels of the first 4 rows."""

NAMES = "names: [car, bus]\n"


def add(root: Path, images: str, *names: str, label: str | None = f"0 {SQUARE}\n") -> None:
    """Images in a folder below the root, and label files at the same places."""
    for name in names:
        image(root / images / f"{name}.jpg", height=HEIGHT, width=WIDTH)
        if label is not None:
            parts = ["labels" if part == "images" else part for part in Path(images).parts]
            write(root.joinpath(*parts) / f"{name}.txt", label)


def ultralytics(root: Path, label: str | None = f"0 {SQUARE}\n", yaml: str = NAMES) -> Path:
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        add(root, f"images/{split}", *names, label=label)
    write(root / "data.yaml", f"path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest:\n{yaml}")
    return root


def read(dataset: Dataset, split: str = "train") -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return dataset.masks.read(dataset.split(split)[0])
