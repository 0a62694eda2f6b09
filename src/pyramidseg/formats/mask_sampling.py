"""A look at masks: whether their pixels are integers or colours, and what is foreground where they are binary."""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Set
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, MAX_CLASSES, Color
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.base.result_cache import digest, file_state, user_cache
from pyramidseg.data.color_masks import packed, read_colors
from pyramidseg.data.index_masks import NODATA_VALUE, PLAIN_INDICES, IndexValues, grey, has_nodata, read_mask_values
from pyramidseg.formats.dataset_format import ParsedDataset
from pyramidseg.images.open_image import open_image, pixels
from pyramidseg.images.palette import is_reordered, matches_class_colors, palette_colors

# Which integers or colours mask files hold, and how often.

_LOOKED_AT = 20
_GREY, _NEAR, _NEARLY_ALL = 32, 64, 0.95
"""How far apart JPEG leaves grey channels, how many levels are near 0 and 255, and what share of pixels has these."""


@dataclass
class ValueCounts:
    """Values, or packed colours, of many masks.

    Attributes:
        pixels: pixels by value.
        masks: masks by value.
        first: the first mask that holds a value.
    """

    pixels: Counter[int] = field(default_factory=Counter)
    masks: Counter[int] = field(default_factory=Counter)
    first: dict[int, Path] = field(default_factory=dict)

    def share(self, value: int) -> float:
        """The part of all pixels that have a value."""
        return self.pixels[value] / max(1, self.pixels.total())

    def to_json(self) -> list[list[Any]]:
        """For `from_json`: value, pixels, masks and first mask."""
        return [[value, self.pixels[value], self.masks[value], str(self.first[value])] for value in self.pixels]

    @classmethod
    def from_json(cls, content: Iterable[Sequence[Any]]) -> "ValueCounts":
        """The inverse of `to_json`."""
        held = cls()
        for value, *counts, first in content:
            held.pixels[value], held.masks[value] = counts
            held.first[value] = Path(first)
        return held


def mask_files(listing: ParsedDataset) -> list[Path]:
    """All masks of a listing, split by split."""
    return [record.mask for records in listing.splits.values() for record in records if record.mask is not None]


def count_mask_values(masks: Sequence[Path], *, how: IndexValues = PLAIN_INDICES) -> ValueCounts:
    """The integers in masks. Masks that cannot be read are left to the check of all of them, unless none can.

    Raises:
        DataError: no mask can be read; the first one's error.
    """
    count = partial(_values, how=how)
    return user_cache().get_or_compute(
        f"values in {len(masks)} masks from {masks[0].resolve()}" if masks else "values in no masks",
        content=lambda: digest([how, *map(file_state, masks)]),
        compute=lambda: _held(masks, count, what="reading the values in the masks", most=None),
        to_json=ValueCounts.to_json,
        from_json=ValueCounts.from_json,
    )


def count_mask_colors(masks: Sequence[Path]) -> ValueCounts:
    """The colours in masks, likewise; ends early where there are more than can be classes."""
    return _held(masks, _colors, what="reading the colours in the masks", most=MAX_CLASSES)


def black_and_white(masks: Sequence[Path]) -> bool:
    """Whether the first masks are grey and nearly all 0 and 255, as binary masks are after compression."""
    counts = np.zeros(256, np.int64)
    for mask in masks[:_LOOKED_AT]:
        try:
            with open_image(mask) as file:
                colors = pixels(file.image.convert("RGB")).astype(np.int16)
        except DataError:
            continue
        if np.ptp(colors, axis=2).max() > _GREY:
            return False
        counts += np.bincount(colors[..., 0].ravel(), minlength=256)
    black, white = int(counts[:_NEAR].sum()), int(counts[-_NEAR:].sum())
    return min(black, white) > 0 and black + white >= _NEARLY_ALL * int(counts.sum())


Counts = dict[int, int]


def _held(masks: Sequence[Path], count: Callable[[Path], Counts], *, what: str, most: int | None) -> ValueCounts:
    def attempt(mask: Path) -> Counts | DataError:
        try:
            return count(mask)
        except DataError as error:
            return error

    held = ValueCounts()
    errors: list[DataError] = []
    for mask, counts in track(zip(masks, in_threads(attempt, masks), strict=False), total=len(masks), task=what):
        if isinstance(counts, DataError):
            errors.append(counts)
            continue
        held.pixels.update(counts)
        held.masks.update(counts.keys())
        for value in counts:
            held.first.setdefault(value, mask)
        if most is not None and len(held.pixels) > most:
            break
    if errors and not held.pixels:
        raise errors[0]
    return held


def _values(mask: Path, *, how: IndexValues) -> Counts:
    counts = np.bincount(read_mask_values(mask, how).ravel())[:NODATA_VALUE]
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}


def _colors(mask: Path) -> Counts:
    colors, counts = np.unique(packed(read_colors(mask, lossy=True)), return_counts=True)
    return dict(zip(colors.tolist(), counts.tolist(), strict=True))


T = TypeVar("T")

SAMPLE = 15
"""Of so many masks that show whether they hold colours, most decide."""


def only_255_beside_0(masks: Sequence[Path], values: Set[int], *, how: IndexValues = PLAIN_INDICES) -> bool:
    """Whether masks hold 255, and of these values none but 0. Ends at the first that holds one."""

    def look_for_them() -> bool:
        found = False
        for look in _looks(masks, how):
            if look.levels & values - {0}:
                return False
            found |= IGNORE in look.levels
        return found

    return _remembered("255 beside 0", masks, [sorted(values), how], look_for_them)


def foreground_value(masks: Sequence[Path], *, how: IndexValues = PLAIN_INDICES) -> int:
    """Of masks that should be binary: 1 where the first that is not all 0 holds 0 and 1 alone, else 255."""

    def look_for_it() -> int:
        shown = (look.levels for look in _looks(masks, how) if look.levels - {0})
        return 1 if next(shown, {IGNORE}) <= {0, 1} else IGNORE

    return _remembered("foreground", masks, [how], look_for_it)


def mask_with_nodata(masks: Sequence[Path]) -> Path | None:
    """One of a sample of masks that holds what can be no index, and says so itself: see `has_nodata`."""
    sample = _spread(masks)[:SAMPLE]

    def look_for_it() -> str | None:
        for mask in sample:
            with suppress(DataError):
                if has_nodata(mask):
                    return str(mask)
        return None

    found = _remembered("nodata", sample, [], look_for_it)
    return None if found is None else Path(found)


def colored_mask(
    masks: Sequence[Path],
    labels: Iterable[tuple[int, Color | None]],
    *,
    tolerance: int,
    how: IndexValues = PLAIN_INDICES,
) -> Path | None:
    """A mask that shows that the masks hold colours, or None where they hold integers.

    Most of a sample from all over the dataset decides, so that a few masks of the other kind are told as such. Where as
    many show either, coloured pixels count, and else the reading by which more classes occur.

    Args:
        labels: values and colours of the classes, as far as they are known.
    """
    by_value = dict(labels)

    def look_for_it() -> str | None:
        found = _colored_mask(masks, by_value, tolerance=tolerance, how=how)
        return None if found is None else str(found)

    found = _remembered("colours", masks, [by_value, tolerance, how], look_for_it)
    return None if found is None else Path(found)


def _remembered(what: str, masks: Sequence[Path], by: Sequence[object], look: Callable[[], T]) -> T:
    """What a look at masks shows, as JSON has it; `by` is all that it depends on beside the files."""
    shown: T = user_cache().get_or_compute(
        f"{what} in {len(masks)} masks from {masks[0].resolve()}" if masks else f"{what} in no masks",
        content=lambda: digest([*by, *map(file_state, masks)]),
        compute=look,
        to_json=lambda found: found,
        from_json=lambda found: found,
    )
    return shown


def _colored_mask(
    masks: Sequence[Path], by_value: Mapping[int, Color | None], *, tolerance: int, how: IndexValues
) -> Path | None:
    shown: dict[bool | None, list[Path]] = {True: [], False: [], None: []}
    levels: set[int] = set()
    any_colored = False
    for look in _looks(_spread(masks), how):
        shown[_shows_colors(look, by_value, tolerance=tolerance)].append(look.mask)
        levels |= look.levels
        any_colored |= look.colored
        if max(len(shown[True]), len(shown[False])) > SAMPLE // 2:
            break
    colors = len(shown[True]) > len(shown[False])
    if len(shown[True]) == len(shown[False]):
        colors = any_colored or len(levels & _greys(by_value)) > len(levels & set(by_value))
    return [*shown[True], *shown[None]][0] if colors else None


def _shows_colors(look: "_Look", by_value: Mapping[int, Color | None], *, tolerance: int) -> bool | None:
    """Whether one mask holds colours; None where both readings explain it.

    Grey can be read in two ways where a class is grey: white may be the colour of class 1, or the value 255 that counts
    nowhere. The reading that leaves fewer values unexplained counts. A palette is read by its colours where these are
    the classes' colours, but at other indices than the classes' values.
    """
    if look.colored:
        return True
    if look.palette:
        if len(look.levels) == 1 and matches_class_colors(look.levels, look.palette, by_value):
            return None  # all background
        return is_reordered(look.levels, look.palette, by_value)
    greys = _greys(by_value)
    if not greys:
        return None if look.as_rgb and not look.levels - {0} else False
    no_colors = {level for level in look.levels if all(abs(level - known) > tolerance for known in greys)}
    no_values = look.levels - set(by_value) - ({IGNORE} - greys)
    return None if len(no_colors) == len(no_values) else len(no_colors) < len(no_values)


def _greys(by_value: Mapping[int, Color | None]) -> set[int]:
    """The levels of those colours that are grey."""
    return {color[0] for color in by_value.values() if color is not None and len(set(color)) == 1}


def _spread(masks: Sequence[Path]) -> list[Path]:
    """The masks in an order in which the first ones are from all over."""
    step = max(1, -(-len(masks) // SAMPLE))
    return [mask for start in range(step) for mask in masks[start::step]]


class _Look(NamedTuple):
    """What a mask shows.

    Attributes:
        colored: some pixels are not grey.
        as_rgb: grey, but saved as RGB.
        palette: see `palette_colors`.
        levels: the integers that occur, unless it is coloured.
    """

    mask: Path
    colored: bool = False
    as_rgb: bool = False
    palette: tuple[Color, ...] = ()
    levels: frozenset[int] = frozenset()


def _looks(masks: Iterable[Path], how: IndexValues) -> Iterator[_Look]:
    """A look at each mask that can be read; the check of all masks names the others."""
    for look in in_threads(partial(_look, how=how), masks):
        if look is not None:
            yield look


def _look(mask: Path, *, how: IndexValues) -> _Look | None:
    try:
        with open_image(mask) as file:
            if file.image.mode in ("RGB", "RGBA") and file.bits == 8:
                values = pixels(file.image).astype(np.uint8, copy=False)[..., :3]
                if not grey(values):
                    return _Look(mask, colored=True)
                return _Look(mask, as_rgb=True, levels=_distinct(values[..., 0]))
            if file.image.mode == "P":
                levels = _distinct(pixels(file.image))
                return _Look(mask, palette=palette_colors(file.image), levels=levels)
            if file.image.mode == "L" and file.bits == 8:  # JPEG files too
                return _Look(mask, levels=_distinct(pixels(file.image)))
        return _Look(mask, levels=_distinct(read_mask_values(mask, how)) - {NODATA_VALUE})
    except DataError:
        return None


def _distinct(values: NDArray[Any]) -> frozenset[int]:
    # bincount of bytes is far quicker than unique, which sorts
    return frozenset(np.flatnonzero(np.bincount(values.ravel())).tolist())
