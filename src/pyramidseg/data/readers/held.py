"""Which integers or colours mask files hold, and how often."""

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyramidseg.cache import FORGETFUL, Memory, digest, file_state
from pyramidseg.classes import MAX_CLASSES
from pyramidseg.data.image_files import opened, pixels
from pyramidseg.data.masks.colors import packed, read_colors
from pyramidseg.data.masks.index import NOTHING, PLAIN, IndexValues, read_mask_values
from pyramidseg.data.parallel import Track, in_threads
from pyramidseg.data.readers.listing import Listing
from pyramidseg.errors import DataError

_LOOKED_AT = 20
_GREY, _NEAR, _NEARLY_ALL = 32, 64, 0.95
"""How far apart JPEG leaves grey channels, how many levels are near 0 and 255, and what share of pixels has these."""


@dataclass
class Held:
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
    def from_json(cls, content: Iterable[Sequence[Any]]) -> "Held":
        """The inverse of `to_json`."""
        held = cls()
        for value, *counts, first in content:
            held.pixels[value], held.masks[value] = counts
            held.first[value] = Path(first)
        return held


def mask_files(listing: Listing) -> list[Path]:
    """All masks of a listing, split by split."""
    return [record.mask for records in listing.splits.values() for record in records if record.mask is not None]


def held_values(masks: Sequence[Path], track: Track, memory: Memory = FORGETFUL, *, how: IndexValues = PLAIN) -> Held:
    """The integers in masks. Masks that cannot be read are left to the check of all of them, unless none can.

    Args:
        memory: of earlier passes over the same files.

    Raises:
        DataError: no mask can be read; the first one's error.
    """
    count = partial(_values, how=how)
    return memory.recall(
        f"values in {len(masks)} masks from {masks[0].resolve()}" if masks else "values in no masks",
        content=digest([how, *map(file_state, masks)]) if memory.folder else "",
        compute=lambda: _held(masks, count, track, what="reading the values in the masks", most=None),
        to_json=Held.to_json,
        from_json=Held.from_json,
    )


def held_colors(masks: Sequence[Path], track: Track) -> Held:
    """The colours in masks, likewise; ends early where there are more than can be classes."""
    return _held(masks, _colors, track, what="reading the colours in the masks", most=MAX_CLASSES)


def black_and_white(masks: Sequence[Path]) -> bool:
    """Whether the first masks are grey and nearly all 0 and 255, as binary masks are after compression."""
    counts = np.zeros(256, np.int64)
    for mask in masks[:_LOOKED_AT]:
        try:
            with opened(mask) as file:
                colors = pixels(file.image.convert("RGB")).astype(np.int16)
        except DataError:
            continue
        if np.ptp(colors, axis=2).max() > _GREY:
            return False
        counts += np.bincount(colors[..., 0].ravel(), minlength=256)
    black, white = int(counts[:_NEAR].sum()), int(counts[-_NEAR:].sum())
    return min(black, white) > 0 and black + white >= _NEARLY_ALL * int(counts.sum())


Counts = dict[int, int]


def _held(masks: Sequence[Path], count: Callable[[Path], Counts], track: Track, *, what: str, most: int | None) -> Held:
    def attempt(mask: Path) -> Counts | DataError:
        try:
            return count(mask)
        except DataError as error:
            return error

    held = Held()
    errors: list[DataError] = []
    for mask, counts in track(zip(masks, in_threads(attempt, masks), strict=False), total=len(masks), what=what):
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
    counts = np.bincount(read_mask_values(mask, how).ravel())[:NOTHING]
    return {value: int(counts[value]) for value in np.flatnonzero(counts).tolist()}


def _colors(mask: Path) -> Counts:
    colors, counts = np.unique(packed(read_colors(mask, lossy=True)), return_counts=True)
    return dict(zip(colors.tolist(), counts.tolist(), strict=True))
