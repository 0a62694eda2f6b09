"""Palettes of masks: the colours that a file gives to its indices, and indices in another order than a class list's."""

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.images.open_image import open_image

ByValue = Mapping[int, Color | None]
"""The colours of a class list, as far as they are known."""


def palette_colors(image: Image.Image) -> tuple[Color, ...]:
    """The colours of a palette image by index, without those at its end that only repeat others to fill it up."""
    flat = image.getpalette("RGB") or []
    colors = list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))
    return tuple(colors[: max(map(colors.index, colors), default=-1) + 1])


def read_palette(path: Path) -> tuple[Color, ...]:
    """The colours of a mask file, from its header; none where it has no palette, or one of the indices' own greys.

    Raises:
        DataError: unreadable.
    """
    with open_image(path) as file:
        palette = palette_colors(file.image) if file.image.mode == "P" else ()
    is_ramp = len(palette) > 1 and all(color == (index,) * 3 for index, color in enumerate(palette))
    return () if is_ramp else palette


def matches_class_colors(indices: Collection[int], palette: Sequence[Color], by_value: ByValue) -> bool:
    """Whether indices have the colours of the classes of these values."""
    return all(index < len(palette) and by_value.get(index) == palette[index] for index in indices)


def is_reordered(indices: Collection[int], palette: Sequence[Color], by_value: ByValue) -> bool:
    """Whether indices have the colours of classes, but not of those of these values; 255 stays void unless listed."""
    indices = [index for index in indices if index != IGNORE or IGNORE in by_value]
    if matches_class_colors(indices, palette, by_value) or any(index >= len(palette) for index in indices):
        return False
    return set(by_value.values()).issuperset(palette[index] for index in indices)


def in_order(
    indices: NDArray[np.uint8], palette: Sequence[Color], by_value: Mapping[int, Color]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The values of a class list, where a palette holds the list's colours in another order; else the indices."""
    value_of = {color: value for value, color in reversed(list(by_value.items()))}  # of equal colours, the first
    moved = {index: value_of[color] for index, color in enumerate(palette) if color in value_of}
    if IGNORE not in by_value:
        moved.pop(IGNORE, None)
    if matches_class_colors(moved, palette, by_value):
        return indices
    if not is_reordered(np.flatnonzero(np.bincount(indices.ravel())).tolist(), palette, by_value):
        return indices
    table = np.arange(256, dtype=np.uint16)
    table[list(moved)] = list(moved.values())
    values = table[indices]
    return values if table.max() > IGNORE else values.astype(np.uint8)
