"""Tiny datasets in their true layouts, for the tests of readers and masks."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.open_dataset import open_dataset, open_with_defects

HEIGHT, WIDTH = 3, 4


def image(path: Path, *, height: int = HEIGHT, width: int = WIDTH) -> Path:
    """A black image."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (width, height)).save(path)
    return path


def mask(path: Path, *values: int) -> Path:
    """An index mask in which the values repeat in rows; 0 and 1 if none are given."""
    path.parent.mkdir(parents=True, exist_ok=True)
    dtype = np.uint8 if max(values or (1,)) < 256 else np.uint16
    Image.fromarray(np.resize(np.array(values or (0, 1), dtype), (HEIGHT, WIDTH))).save(path)
    return path


def color_mask(path: Path, *colors: tuple[int, int, int], **options: Any) -> Path:
    """An RGB mask in which the colours repeat in rows; `options` are for Pillow's `save`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    cells = [colors[index % len(colors)] for index in range(HEIGHT * WIDTH)]
    Image.fromarray(np.array(cells, np.uint8).reshape(HEIGHT, WIDTH, 3)).save(path, **options)
    return path


def palette_mask(path: Path, palette: Sequence[tuple[int, int, int]], *indices: int) -> Path:
    """A palette mask in which the indices repeat in rows."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made = Image.fromarray(np.resize(np.array(indices, np.uint8), (HEIGHT, WIDTH))).convert("P")
    made.putpalette([value for color in palette for value in color])
    made.save(path)
    return path


def pairs(images: Path, masks: Path, names: Iterable[str], *values: int) -> None:
    """`name.jpg` and `name.png` of each name in two folders."""
    for name in names:
        image(images / f"{name}.jpg")
        mask(masks / f"{name}.png", *values)


def write(path: Path, text: str) -> Path:
    """A text file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


def save(path: Path, values: NDArray[Any]) -> Record:
    """A mask of any content, and a record of it."""
    Image.fromarray(values).save(path)
    return Record(path.stem, path.with_suffix(".jpg"), path)


def opened(source: Path, **settings: Any) -> Dataset:
    """`open_dataset` with settings of the section `data`."""
    return open_dataset(source, DataConfig(**settings))


def ids(dataset: Dataset) -> dict[str, list[str]]:
    """Ids by split."""
    return {split: [record.id for record in records] for split, records in dataset.splits.items()}


def all_ids(dataset: Dataset) -> list[str]:
    """Ids of all splits, sorted."""
    return sorted(record.id for records in dataset.splits.values() for record in records)


def labels(dataset: Dataset, split: str = "train") -> list[int]:
    """The labels that occur in the masks of a split."""
    return sorted({int(label) for record in dataset.split(split) for label in dataset.masks.read(record).flat})


def first_row(dataset: Dataset, split: str = "train") -> list[int]:
    """The first row of labels of the first mask of a split."""
    row: list[int] = dataset.masks.read(dataset.split(split)[0])[0].tolist()
    return row


def has_note(dataset: Dataset, *parts: str) -> bool:
    """Whether one note holds all of these."""
    return any(all(part in note for part in parts) for note in dataset.notes)


def mask_of(dataset: Dataset, id: str) -> NDArray[np.uint8]:
    """The labels of the only record of this id."""
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def defects(root: Path) -> list[Defect]:
    """What is wrong with a dataset as far as opening it shows."""
    return open_with_defects(root, DataConfig())[1]
