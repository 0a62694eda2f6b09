"""Samples mask files: counts of values or colours, and whether masks hold integers or colours."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, MAX_CLASSES, Color
from pyramidseg.base.config import Transparent
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.color_masks import HIDDEN, read_colors
from pyramidseg.data.index_masks import (
    NODATA_VALUE,
    PLAIN_INDICES,
    IndexValues,
    is_grey,
    read_mask_values,
    visible_colors,
)
from pyramidseg.images.image_files import is_array_name
from pyramidseg.images.open_image import open_image
from pyramidseg.images.palette import is_reordered, matches_class_colors, palette_colors

SAMPLE = 15
"""Masks, spread over the dataset, that decide whether masks hold integers or colours."""


# Counts of values or colours over all masks.


@dataclass
class ValueCounts:
    """Counts of values, or of packed colours, over many masks.

    Attributes:
        pixels: number of pixels by value.
        masks: number of masks by value.
        first: the first mask with a value.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    masks: Counter[int] = field(default_factory=Counter)
    first: dict[int, Path] = field(default_factory=dict)

    def share(self, *values: int) -> float:
        """Share of all pixels that have one of the values."""
        return sum(self.pixels[value] for value in values) / max(1, self.pixels.total())

    @property
    def values_per_mask(self) -> float:
        """Mean number of different values in a mask, given that one value occurs in all of them."""
        return self.masks.total() / max([1, *self.masks.values()])


def count_mask_values(masks: Sequence[Path], *, how: IndexValues = PLAIN_INDICES) -> ValueCounts:
    """Count the integers in masks; unreadable masks are skipped, as the check of all masks reports them.

    Raises:
        DataError: no mask is readable; the error of the first.
    """

    def count(mask: Path) -> dict[int, int]:
        counts = np.bincount(read_mask_values(mask, how).ravel())[:NODATA_VALUE]
        return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}

    return _count(masks, count, task="counting the values in the masks")


def count_mask_colors(masks: Sequence[Path], *, transparent: Transparent | None) -> ValueCounts:
    """Count the packed colours in masks; stops early at more colours than there can be classes.

    Raises:
        DataError: no mask is readable; the error of the first.
    """

    def count(mask: Path) -> dict[int, int]:
        colors, counts = np.unique(read_colors(mask, lossy=True, transparent=transparent), return_counts=True)
        return {color: count for color, count in zip(colors.tolist(), counts.tolist(), strict=True) if color != HIDDEN}

    return _count(masks, count, task="counting the colours in the masks", max_values=MAX_CLASSES)


def _count(
    masks: Sequence[Path], count: Callable[[Path], dict[int, int]], *, task: str, max_values: int = NODATA_VALUE
) -> ValueCounts:
    def attempt(mask: Path) -> dict[int, int] | DataError:
        try:
            return count(mask)
        except DataError as error:
            return error

    total = ValueCounts()
    errors: list[DataError] = []
    for mask, counts in track(zip(masks, map_in_threads(attempt, masks), strict=False), total=len(masks), task=task):
        if isinstance(counts, DataError):
            errors.append(counts)
            continue
        total.pixels.update(counts)
        total.masks.update(counts.keys())
        for value in counts:
            total.first.setdefault(value, mask)
        if len(total.pixels) > max_values:
            break
    if errors and not total.pixels:
        raise errors[0]
    return total


# Questions that a few masks answer.


def any_255_without_class(masks: Sequence[Path], class_values: Set[int], *, how: IndexValues = PLAIN_INDICES) -> bool:
    """Whether 255 occurs while no mask holds the value of a class other than 0: then 255 may be the foreground."""
    found = False
    for content in _contents(masks, how):
        if content.values & class_values - {0}:
            return False
        found |= IGNORE in content.values
    return found


def foreground_value(masks: Sequence[Path], *, how: IndexValues = PLAIN_INDICES) -> int:
    """The foreground of binary masks: 1 if the first mask that is not all 0 holds only 0 and 1, otherwise 255."""
    shown = (content.values for content in _contents(masks, how) if content.values - {0})
    return 1 if next(shown, {IGNORE}) <= {0, 1} else IGNORE


def find_color_mask(
    masks: Sequence[Path],
    labels: Iterable[tuple[int, Color | None]],
    *,
    tolerance: int,
    how: IndexValues = PLAIN_INDICES,
) -> Path | None:
    """A mask that holds colours, or None if the masks hold integers.

    The majority of a sample decides; masks of the other kind are defects, which the check of all masks reports. In a
    tie, any pixel that is not grey decides for colours, and otherwise the reading in which more classes occur.

    Args:
        labels: values and colours of the classes, as far as known.
    """
    by_value = dict(labels)
    votes: dict[bool | None, list[Path]] = {True: [], False: [], None: []}
    values: set[int] = set()
    any_colored = False
    for content in _contents(_spread(masks), how):
        votes[_holds_colors(content, by_value, tolerance=tolerance)].append(content.mask)
        values |= content.values
        any_colored |= content.colored
        if max(len(votes[True]), len(votes[False])) > SAMPLE // 2:
            break
    colors = len(votes[True]) > len(votes[False])
    if len(votes[True]) == len(votes[False]):
        colors = any_colored or len(values & _grey_levels(by_value)) > len(values & set(by_value))
    return [*votes[True], *votes[None]][0] if colors else None


def _holds_colors(content: "_MaskContent", by_value: Mapping[int, Color | None], *, tolerance: int) -> bool | None:
    """Whether one mask holds colours; None if both readings explain it.

    Grey is ambiguous if a class has a grey colour: white may be the colour of class 1, or the ignored value 255. The
    reading that explains more values wins. A palette counts as colours if it holds the classes' colours at indices
    other than the classes' values.
    """
    if content.colored:
        return True
    if content.palette:
        if len(content.values) == 1 and matches_class_colors(content.values, content.palette, by_value):
            return None  # all background
        return is_reordered(content.values, content.palette, by_value)
    levels = _grey_levels(by_value)
    if not levels:
        return None if content.is_rgb and not content.values - {0} else False
    no_colors = {value for value in content.values if all(abs(value - level) > tolerance for level in levels)}
    no_values = content.values - set(by_value) - ({IGNORE} - levels)
    return None if len(no_colors) == len(no_values) else len(no_colors) < len(no_values)


def _grey_levels(by_value: Mapping[int, Color | None]) -> set[int]:
    return {color[0] for color in by_value.values() if color is not None and len(set(color)) == 1}


class _MaskContent(NamedTuple):
    """Content of one mask.

    Attributes:
        colored: some pixels are not grey.
        is_rgb: grey, but stored as RGB.
        palette: see `palette_colors`.
        values: the integers that occur; empty if `colored`.
    """

    mask: Path
    colored: bool = False
    is_rgb: bool = False
    palette: tuple[Color, ...] = ()
    values: frozenset[int] = frozenset()


def _contents(masks: Iterable[Path], how: IndexValues) -> Iterator[_MaskContent]:
    """The content of each readable mask."""
    return (content for content in map_in_threads(partial(_content, how=how), masks) if content is not None)


def _content(mask: Path, *, how: IndexValues) -> _MaskContent | None:
    try:
        if is_array_name(mask.name):
            return _MaskContent(mask, values=_distinct(read_mask_values(mask, how)) - {NODATA_VALUE})
        with open_image(mask) as file:
            if file.image.mode in ("RGB", "RGBA") and file.bits == 8:
                colors = visible_colors(file, how.transparent or "background")[0]
                if not is_grey(colors):
                    return _MaskContent(mask, colored=True)
                return _MaskContent(mask, is_rgb=True, values=_distinct(colors[..., 0]))
            if file.image.mode == "P":
                return _MaskContent(mask, palette=palette_colors(file.image), values=_distinct(file.pixels()))
            if file.image.mode == "L" and file.bits == 8:  # JPEG files too
                return _MaskContent(mask, values=_distinct(file.pixels()))
        return _MaskContent(mask, values=_distinct(read_mask_values(mask, how)) - {NODATA_VALUE})
    except DataError:
        return None


def _distinct(values: NDArray[Any]) -> frozenset[int]:
    # bincount of bytes is far faster than unique, which sorts
    return frozenset(np.flatnonzero(np.bincount(values.ravel())).tolist())


def _spread(masks: Sequence[Path]) -> Iterator[Path]:
    """The masks in an order in which the first `SAMPLE` are spread over the dataset."""
    step = max(1, -(-len(masks) // SAMPLE))
    return (mask for start in range(step) for mask in masks[start::step])
