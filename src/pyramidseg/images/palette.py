"""Colour palettes of masks, and indices that are reordered when a palette has the class colours in another order."""

from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.images.open_image import OpenImage

ColorsByValue = Mapping[int, Color | None]
"""The class colour of each mask value, as far as it is known."""


def palette_colors(image: Image.Image) -> tuple[Color, ...]:
    """The colours of a palette image by index, without trailing entries that only repeat others as padding."""
    flat = image.getpalette("RGB") or []
    colors = list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))
    return tuple(colors[: max(map(colors.index, colors), default=-1) + 1])


def palette_of(file: OpenImage) -> tuple[Color, ...]:
    """The palette of a mask, without decoding it; empty if it has none, or a grey ramp (index = grey level)."""
    palette = palette_colors(file.image) if not file.is_raster and file.image.mode == "P" else ()
    is_ramp = len(palette) > 1 and all(color == (index,) * 3 for index, color in enumerate(palette))
    return () if is_ramp else palette


def matches_class_colors(indices: Collection[int], palette: Sequence[Color], colors: ColorsByValue) -> bool:
    """Whether the palette gives every index the colour of the class of the same value."""
    return all(index < len(palette) and colors.get(index) == palette[index] for index in indices)


def is_reordered(indices: Collection[int], palette: Sequence[Color], colors: ColorsByValue) -> bool:
    """Whether the palette has the class colours in another order; index 255 stays ignored unless it is a class."""
    indices = [index for index in indices if index != IGNORE or IGNORE in colors]
    if matches_class_colors(indices, palette, colors) or any(index >= len(palette) for index in indices):
        return False
    return set(colors.values()).issuperset(palette[index] for index in indices)


def reorder_by_color(
    indices: NDArray[np.uint8], palette: Sequence[Color], colors: Mapping[int, Color]
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """Replace indices by the class values of their colours if the palette is reordered; else return the indices."""
    value_of = {color: value for value, color in reversed(list(colors.items()))}  # of equal colours, the first
    moved = {index: value_of[color] for index, color in enumerate(palette) if color in value_of}
    if IGNORE not in colors:
        moved.pop(IGNORE, None)
    if matches_class_colors(moved, palette, colors):
        return indices
    if not is_reordered(np.flatnonzero(np.bincount(indices.ravel())).tolist(), palette, colors):
        return indices
    table = np.arange(256, dtype=np.uint16)
    table[list(moved)] = list(moved.values())
    values = table[indices]
    return values if table.max() > IGNORE else values.astype(np.uint8)
