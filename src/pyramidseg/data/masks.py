"""Masks: from the values that a file holds to class ids."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL.JpegImagePlugin import JpegImageFile

from pyramidseg.classes import IGNORE, MAX_CLASSES
from pyramidseg.data.image_files import OpenImage, opened, pixels, turn
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

MAX_VALUE = 65535
_UNKNOWN = 256  # beside the 256 labels, hence a lookup of 16 bits

_INTEGER_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")


class UnknownValues(DataError):
    """A mask holds values that are no class.

    Attributes:
        path: the mask.
        pixels: number of pixels by unknown value.
        known: what is allowed, in words.
    """

    def __init__(self, path: Path, *, pixels: Mapping[int, int], known: str) -> None:
        self.path, self.pixels, self.known = path, dict(pixels), known
        values = ", ".join(f"{value} ({count} pixels)" for value, count in list(self.pixels.items())[:8])
        more = f" and {len(pixels) - 8} more" if len(pixels) > 8 else ""
        verdict = "is no class" if len(pixels) == 1 else "are no classes"
        super().__init__(
            f"{path}: mask value{'s' if len(pixels) > 1 else ''} {values}{more} {verdict} of this dataset "
            f"({known}); {NEXT_STEP}"
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their message alone unless told otherwise."""
        return _unknown_values, (self.path, self.pixels, self.known)


NEXT_STEP = "name such values under classes, or list them under ignore"


@dataclass(frozen=True)
class IndexMasks:
    """Masks that hold one integer a pixel: each value is a class or ignored.

    Attributes:
        ids: (value, class id) pairs.
        ignored: values that count nowhere.

    Raises:
        DataError: a value that is two things at once, or out of 0-65535; an id that is none.
    """

    ids: tuple[tuple[int, int], ...]
    ignored: tuple[int, ...] = (IGNORE,)

    def __post_init__(self) -> None:
        values = [value for value, _ in self.ids] + list(self.ignored)
        for value in values:
            if not 0 <= value <= MAX_VALUE:
                raise DataError(f"mask value {value}: values from 0 to {MAX_VALUE} are possible")
        twice = sorted({value for value in values if values.count(value) > 1}) if len(set(values)) < len(values) else []
        if twice:
            what = "a class and ignored" if twice[0] in self.ignored else "two classes"
            raise DataError(f"mask value {twice[0]} is {what} at once: take it out of one")
        if any(not 0 <= index < MAX_CLASSES for _, index in self.ids):
            raise DataError(
                f"class ids {[index for _, index in self.ids]}: ids from 0 to {MAX_CLASSES - 1} are possible"
            )

    @classmethod
    def plain(cls, num_classes: int, *, ignore: Iterable[int] = ()) -> "IndexMasks":
        """The values are the class ids; 255 is ignored, and so is what `ignore` lists."""
        return cls.of_values({index: index for index in range(num_classes)}, ignore=ignore)

    @classmethod
    def of_values(cls, ids: Mapping[int, int], *, ignore: Iterable[int] = ()) -> "IndexMasks":
        """Class id by value; 255 is ignored unless it is a class, and so is what `ignore` lists."""
        ignored = set(ignore) | ({IGNORE} - set(ids))
        return cls(tuple(sorted(ids.items())), tuple(sorted(ignored)))

    def read(self, record: Record) -> NDArray[np.uint8]:
        """See `MaskSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        values = read_mask_values(record.mask)
        labels = np.take(self._lookup, values)
        if labels.max(initial=0) == _UNKNOWN:
            unknown, counts = np.unique(values[labels == _UNKNOWN], return_counts=True)
            by_value = dict(zip(unknown.tolist(), counts.tolist(), strict=True))
            raise UnknownValues(record.mask, pixels=by_value, known=self._known())
        return labels.astype(np.uint8)

    @cached_property
    def _lookup(self) -> NDArray[np.uint16]:
        """(65536,) label by value, or `_UNKNOWN`."""
        table = np.full(MAX_VALUE + 1, _UNKNOWN, np.uint16)
        for value, index in self.ids:
            table[value] = index
        table[list(self.ignored)] = IGNORE
        return table

    def _known(self) -> str:
        known, ignored = in_ranges(value for value, _ in self.ids), in_ranges(self.ignored)
        return f"known {known}, ignored {ignored}"

    def __reduce__(self) -> tuple[Any, ...]:
        """The table is made again where it is needed."""
        return type(self), (self.ids, self.ignored)


def read_mask_values(path: Path) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The integers that a mask file holds: grey levels, palette indices, or bits; never colours.

    A mask is turned by its own EXIF tag, as images are, so that what a viewer shows side by side belongs together.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        DataError: unreadable, JPEG (its losses change labels), or anything but one integer a pixel.
    """
    with opened(path) as file:
        if isinstance(file.image, JpegImageFile):
            raise DataError(f"{path}: a JPEG file cannot be a mask, as its compression changes labels; save it as PNG")
        if file.image.mode not in _INTEGER_MODES:
            raise DataError(
                f"{path}: a mask needs one integer a pixel (grey, palette or 1-bit PNG or TIFF), and this file "
                f"holds {file.image.mode} pixels; save the class index of each pixel instead"
            )
        values = turn(pixels(file.image), file.orientation)
        return _as_stored(path, values, file)


def in_ranges(values: Iterable[int]) -> str:
    """Integers in words: `0-18, 255`, or `none`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs) or "none"


def _as_stored(path: Path, values: NDArray[Any], file: OpenImage) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if file.image.mode == "L" and file.bits in (2, 4):
        return values // np.uint8(255 // (2**file.bits - 1))  # Pillow spreads small grey levels over 0-255
    if file.image.mode in ("1", "L", "P"):
        return values.astype(np.uint8, copy=False)
    low, high = int(values.min()), int(values.max())
    if low < 0 or high > MAX_VALUE:
        raise DataError(f"{path}: mask values from {low} to {high}: values from 0 to {MAX_VALUE} are possible")
    return values.astype(np.uint16)


def _unknown_values(path: Path, pixels: Mapping[int, int], known: str) -> UnknownValues:
    return UnknownValues(path, pixels=pixels, known=known)
