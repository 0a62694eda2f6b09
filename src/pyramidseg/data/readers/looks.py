"""A look at masks: whether their pixels are integers or colours, and what is foreground where they are binary."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import IGNORE, Color
from pyramidseg.data.image_files import opened, pixels
from pyramidseg.data.masks.index import grey, read_mask_values
from pyramidseg.data.parallel import in_threads
from pyramidseg.errors import DataError


def only_0_and_255(masks: Iterable[Path]) -> bool:
    """Whether masks hold 255 and nothing else beside 0. Ends at the first that holds a third value."""
    found: set[int] = set()
    for look in _looks(masks):
        found |= look.levels
        if found - {0, IGNORE}:
            return False
    return IGNORE in found


def foreground_value(masks: Iterable[Path]) -> int:
    """Of masks that should be binary: 1 where the first that is not all 0 holds 0 and 1 alone, else 255."""
    for look in _looks(masks):
        if look.levels - {0}:
            return 1 if look.levels <= {0, 1} else IGNORE
    return IGNORE


def colored_mask(masks: Iterable[Path], labels: Iterable[tuple[int, Color | None]], *, tolerance: int) -> Path | None:
    """A mask that shows that the masks hold colours, or None where they hold integers.

    Coloured pixels show it by themselves. Grey masks can be read in two ways where a class is grey: white may be the
    colour of class 1, or the value 255 that counts nowhere. The reading that leaves fewer values unexplained counts;
    where both explain the same, the one by which more classes occur. A palette is read by its colours where these are
    the classes' colours, but at other indices than the classes' values.

    Args:
        labels: values and colours of the classes, as far as they are known.
    """
    by_value = dict(labels)
    colors = {color for color in by_value.values() if color is not None}
    greys = {red for red, green, blue in colors if red == green == blue}
    levels: set[int] = set()
    first: Path | None = None
    for look in _looks(masks):
        if look.colored:
            return look.mask
        if look.palette:
            in_place = all(by_value.get(index) == color for index, color in look.palette.items())
            if in_place and len(look.palette) == 1:
                continue  # all background: the next one will tell
            return look.mask if not in_place and colors.issuperset(look.palette.values()) else None
        if not greys and not look.as_rgb:
            return None
        first = first or look.mask
        levels |= look.levels
        no_colors = {level for level in levels if all(abs(level - known) > tolerance for known in greys)}
        no_values = levels - set(by_value) - ({IGNORE} - greys)
        if greys and len(no_colors) != len(no_values):
            return first if len(no_colors) < len(no_values) else None
    return first if len(levels & greys) > len(levels & set(by_value)) else None


class _Look(NamedTuple):
    """What a mask shows.

    Attributes:
        colored: some pixels are not grey.
        as_rgb: grey, but saved as RGB.
        palette: the palette's colours by the indices that occur.
        levels: the integers that occur, unless it is coloured.
    """

    mask: Path
    colored: bool = False
    as_rgb: bool = False
    palette: dict[int, Color] | None = None
    levels: frozenset[int] = frozenset()


def _looks(masks: Iterable[Path]) -> Iterator[_Look]:
    """A look at each mask that can be read; the check of all masks names the others."""
    for look in in_threads(_look, masks):
        if look is not None:
            yield look


def _look(mask: Path) -> _Look | None:
    try:
        with opened(mask) as file:
            if file.image.mode in ("RGB", "RGBA") and file.bits == 8:
                values = pixels(file.image).astype(np.uint8, copy=False)[..., :3]
                if not grey(values):
                    return _Look(mask, colored=True)
                return _Look(mask, as_rgb=True, levels=_distinct(values[..., 0]))
            if file.image.mode == "P":
                levels = _distinct(pixels(file.image))
                return _Look(mask, palette=_palette(file.image.getpalette("RGB") or [], levels), levels=levels)
            if file.image.mode == "L" and file.bits == 8:  # JPEG files too
                return _Look(mask, levels=_distinct(pixels(file.image)))
        return _Look(mask, levels=_distinct(read_mask_values(mask)))
    except DataError:
        return None


def _palette(flat: list[int], indices: Iterable[int]) -> dict[int, Color]:
    padded = [*flat, *[0] * (768 - len(flat))]
    return {index: (padded[3 * index], padded[3 * index + 1], padded[3 * index + 2]) for index in indices}


def _distinct(values: NDArray[Any]) -> frozenset[int]:
    # bincount of bytes is far quicker than unique, which sorts
    return frozenset(np.flatnonzero(np.bincount(values.ravel())).tolist())
