"""Pairs of an image and its mask that defects are planted in, and how a format writes them."""

import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.defects import DefectKind

HEIGHT, WIDTH = 30, 40
CLASSES = ("ground", "thing", "other")
COLORS = ((90, 120, 60), (200, 30, 40), (20, 60, 220))
Expected = tuple[DefectKind, Path]
Labels = NDArray[np.uint8]


@dataclass
class Layout:
    """Where a format keeps what, and how it writes masks.

    Attributes:
        source: what is given to the inspection.
        mask: the file that a defect of a mask is told of.
        write_mask: writes or notes down the labels of an image.
        defects: what can be planted.
        finish: writes what lists all files, with the stems of all images by split.
        labels: of each image, by split and name.
        spoils: what is found of the dataset itself where something is planted.
    """

    source: Path
    image: Callable[[str, str], Path]
    mask: Callable[[str, str], Path]
    write_mask: Callable[[Path, Labels], None]
    defects: "tuple[Callable[[Pair], Expected], ...]"
    finish: "Callable[[Layout], None]" = lambda layout: None
    labels: dict[tuple[str, str], Labels] = field(default_factory=dict)
    spoils: tuple[DefectKind, ...] = ()


def write_json(path: Path, **content: Any) -> None:
    """A JSON file; NaN as Python writes it."""
    path.write_text(json.dumps(content))


def scene(rng: np.random.Generator, height: int = HEIGHT, width: int = WIDTH) -> tuple[NDArray[np.uint8], Labels]:
    """An image that looks like no other, and labels that show all classes."""
    coarse = rng.integers(20, 236, (6, 8, 3), np.uint8)
    image = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    labels = np.zeros((height, width), np.uint8)
    top, left = rng.integers(0, height // 2), rng.integers(0, width // 2)
    labels[top : top + height // 3, left : left + width // 3] = 1
    labels[-2:] = 2
    labels[0, 0] = 255
    return image, labels


def write_pair(layout: Layout, split: str, name: str, image: NDArray[Any], labels: Labels) -> tuple[Path, Path]:
    """An image and its mask."""
    paths = layout.image(split, name), layout.mask(split, name)
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
    write_image(paths[0], image)
    write_labels(layout, split, name, labels)
    return paths


def write_labels(layout: Layout, split: str, name: str, labels: Labels) -> None:
    """The mask of an image."""
    layout.labels[split, name] = labels
    layout.write_mask(layout.mask(split, name), labels)


def write_image(path: Path, image: NDArray[Any], **options: Any) -> None:
    """By the name's ending, without loss."""
    Image.fromarray(image).save(path, **options)


def write_index(path: Path, labels: Labels) -> None:
    """Class ids as grey levels."""
    Image.fromarray(labels).save(path)


def write_colors(path: Path, labels: Labels) -> None:
    """Classes as colours, what is ignored black."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(COLORS)] = COLORS
    Image.fromarray(table[labels]).save(path)


@dataclass
class Pair:
    """A good pair that is about to be spoilt.

    Attributes:
        model: another image of the training split, to be copied.
    """

    layout: Layout
    split: str
    name: str
    image: NDArray[np.uint8]
    labels: Labels
    model: str
    rng: np.random.Generator

    @property
    def image_file(self) -> Path:
        return self.layout.image(self.split, self.name)

    @property
    def mask_file(self) -> Path:
        return self.layout.mask(self.split, self.name)

    def write(self, image: NDArray[Any] | None = None, labels: Labels | None = None) -> None:
        write_pair(
            self.layout,
            self.split,
            self.name,
            self.image if image is None else image,
            self.labels if labels is None else labels,
        )

    def relabel(self, labels: Labels) -> None:
        write_labels(self.layout, self.split, self.name, labels)
