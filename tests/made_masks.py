"""Folders of images and masks that show a square."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from made_files import image

BLACK, WHITE, RED, BLUE = (0, 0, 0), (255, 255, 255), (255, 0, 0), (0, 0, 255)
SIDE = 32


def made(folder: Path, write_mask: Callable[[Path], object], *, suffix: str = "png") -> Path:
    """Two images of one mask each, in paired folders."""
    for name in ("a", "b"):
        image(folder / "images" / f"{name}.jpg")
        write_mask(folder / "masks" / f"{name}.{suffix}")
    return folder


def square(
    folder: Path, *, suffix: str, low: tuple[int, ...] = (0,), high: tuple[int, ...] = (255,), **options: int
) -> Path:
    """Large masks whose middle is `high`, for files that do not keep single pixels."""
    (folder / "masks").mkdir(parents=True)
    values = np.broadcast_to(np.array(low, np.uint8), (SIDE, SIDE, len(low))).copy()
    values[8:24, 8:24] = high
    for name in ("a", "b"):
        image(folder / "images" / f"{name}.jpg", height=SIDE, width=SIDE)
        Image.fromarray(values.squeeze()).save(folder / "masks" / f"{name}.{suffix}", **options)
    return folder


def middle_is(dataset_labels: np.ndarray, inside: int, outside: int) -> bool:
    expected = np.full((SIDE, SIDE), outside)
    expected[8:24, 8:24] = inside
    return bool(np.array_equal(dataset_labels, expected))
