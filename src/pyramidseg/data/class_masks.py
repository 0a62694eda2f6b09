"""Mask values to class ids by a lookup table."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, MAX_CLASSES
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.image_mask_checks import Size, is_resizable, size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import MaskSource, Record, ValueSource
from pyramidseg.images.decode import image_size

MAX_VALUE = 2**24
"""The largest mask value: if values are packed colours, that of ignored transparent pixels, after white."""

_UNKNOWN = 256  # one more than the largest label, so the lookup table has 16 bits


def next_step(source: ValueSource, them: str = "them") -> str:
    """What to do about values that are not known classes."""
    if isinstance(source, IndexValues) and source.binary:
        return f"list {them} under ignore, or set data.threshold to the lowest value of the foreground"
    return f"add {them} to classes, or list {them} under ignore"


class UnknownValuesError(DefectError):
    """A mask has values that are neither a class nor ignored.

    Attributes:
        path: of the mask.
        pixels: number of pixels by unknown value.
        known: the allowed values, as text.
        source: the reader of the mask, which describes its values.
        size: height and width of the mask, if they are known.
    """

    size: Size | None = None

    def __init__(self, path: Path, *, pixels: Mapping[int, int], known: str, source: ValueSource | None = None) -> None:
        self.path, self.pixels, self.known, self.source = path, dict(pixels), known, source or IndexValues()
        values = first_few(
            [f"{self.source.describe([value])} ({count} pixels)" for value, count in self.pixels.items()], limit=8
        )
        verdict, advice = "are not known classes", next_step(self.source)
        if len(pixels) == 1:
            verdict, advice = "is not a known class", next_step(self.source, "it")
        if len(pixels) > MAX_CLASSES and not isinstance(self.source, IndexValues):
            advice = "it looks like a picture, or labels blended with one: replace it by the mask"
        super().__init__(
            DefectKind.UNKNOWN_VALUE,
            path,
            f"mask value{'s' if len(pixels) > 1 else ''} {values} {verdict} ({known}); {advice}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """By default only the message of an exception is pickled."""
        again = partial(UnknownValuesError, self.path, pixels=self.pixels, known=self.known, source=self.source)
        return again, ()


@dataclass(frozen=True)
class ClassMasks:
    """The `MaskSource` of all formats: each mask value is a class or ignored.

    Attributes:
        ids: (value, class id) pairs; several values may belong to one class.
        ignored: values to ignore.
        values: reads the values of a mask.
        ignore_unlisted: ignore all other values instead of rejecting them.
        rest: class id of all other values, if they are a class.
        resize: resize a mask to the size of its image (nearest neighbour) instead of rejecting it; masks of another
            aspect ratio are always rejected.

    Raises:
        DataError: a value is listed twice or out of range, or a class id is out of range.
    """

    ids: tuple[tuple[int, int], ...]
    ignored: tuple[int, ...] = (IGNORE,)
    values: ValueSource = field(default_factory=IndexValues)
    ignore_unlisted: bool = False
    resize: bool = False
    rest: int | None = None

    def __post_init__(self) -> None:
        values = [value for value, _ in self.ids] + list(self.ignored)
        for value in values:
            if not 0 <= value <= MAX_VALUE:
                raise DataError(f"mask value {value} is not between 0 and {MAX_VALUE}; correct it")
        if len(set(values)) < len(values):
            twice = min(value for value in values if values.count(value) > 1)
            what = "both a class and ignored" if twice in self.ignored else "two classes"
            raise DataError(f"mask value {self.values.describe([twice])} is {what}; remove one of the two entries")
        if self.rest is not None and self.ignore_unlisted:
            raise DataError("'*' is both a class and ignored; remove one of the two entries")
        if any(not 0 <= index < MAX_CLASSES for _, index in self.ids):
            raise DataError(
                f"class ids range from {min(index for _, index in self.ids)} to {max(index for _, index in self.ids)}, "
                f"but only 0 to {MAX_CLASSES - 1} are supported; list fewer classes and ignore the rest (ignore: '*')"
            )

    @classmethod
    def identity(cls, num_classes: int, *, ignore: Iterable[int] = ()) -> "ClassMasks":
        """Index masks whose values are the class ids; 255 and the values in `ignore` are ignored."""
        return cls.from_values({index: index for index in range(num_classes)}, ignore=ignore)

    @classmethod
    def from_values(
        cls,
        ids: Mapping[int, int],
        *,
        ignore: Iterable[int] = (),
        values: ValueSource | None = None,
        ignore_unlisted: bool = False,
        resize: bool = False,
        rest: int | None = None,
    ) -> "ClassMasks":
        """Masks with a class id by value; the source's `ignored_values` are ignored unless they are in `ids`.

        255 is not ignored by default where all other values are the class `rest`.

        Args:
            ids: class id by mask value.
            ignore: further values to ignore.
        """
        source = values or IndexValues()
        ignored = set(ignore) | (set(source.ignored_values) - set(ids) - (set() if rest is None else {IGNORE}))
        return cls(tuple(sorted(ids.items())), tuple(sorted(ignored)), source, ignore_unlisted, resize, rest)

    def read(self, record: Record) -> NDArray[np.uint8]:
        values = self.values.read(record)
        labels = self._label_bytes(values) if values.dtype == np.uint8 else None
        if labels is None:
            labels = self._label(record, values)
        return _resized(labels, record) if self.resize else labels

    def _label_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8] | None:
        """Like `_label`, in a fifth of the time; None if there is an unknown value."""
        labels, unknown = self._byte_lookups
        if unknown.any() and cv2.LUT(values, unknown).any():
            return None
        return np.asarray(cv2.LUT(values, labels), np.uint8)

    def _label(self, record: Record, values: NDArray[Any]) -> NDArray[np.uint8]:
        table = self._lookup
        is_wide = np.iinfo(values.dtype).max >= len(table)  # the last entry is for all larger values
        labels = np.take(table, np.minimum(values, len(table) - 1) if is_wide else values)
        if labels.max(initial=0) == _UNKNOWN:
            raise self._unknown(record, values, labels)
        return labels.astype(np.uint8)

    def _unknown(self, record: Record, values: NDArray[Any], labels: NDArray[np.uint16]) -> UnknownValuesError:
        unknown, counts = np.unique(values[labels == _UNKNOWN], return_counts=True)
        by_value = dict(zip(unknown.tolist(), counts.tolist(), strict=True))
        known, ignored = self.values.describe(value for value, _ in self.ids), self.values.describe(self.ignored)
        known = f"known: {known}; ignored: {ignored}"
        error = UnknownValuesError(record.mask or record.image, pixels=by_value, known=known, source=self.values)
        error.size = None if self.resize else (labels.shape[0], labels.shape[1])
        return error

    @cached_property
    def _lookup(self) -> NDArray[np.uint16]:
        """Label by value, or `_UNKNOWN`; the last entry is for all larger values."""
        largest = max(255, *(value for value, _ in self.ids), *self.ignored, 0)
        rest = self.rest if self.rest is not None else IGNORE if self.ignore_unlisted else _UNKNOWN
        table = np.full(largest + 2, rest, np.uint16)
        for value, index in self.ids:
            table[value] = index
        table[list(self.ignored)] = IGNORE
        return table

    @cached_property
    def _byte_lookups(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """Two tables by byte value: the label, and 1 if there is none."""
        table = self._lookup[:256]
        return table.astype(np.uint8), (table == _UNKNOWN).astype(np.uint8)

    def __reduce__(self) -> tuple[Any, ...]:
        """The lookup tables are not pickled."""
        return type(self), (self.ids, self.ignored, self.values, self.ignore_unlisted, self.resize, self.rest)


def _resized(labels: NDArray[np.uint8], record: Record) -> NDArray[np.uint8]:
    image, mask = image_size(record.image), (labels.shape[0], labels.shape[1])
    if mask == image:
        return labels
    if not is_resizable(image=image, mask=mask):  # a rotated or cropped mask would still not match
        raise size_mismatch(record, image=image, mask=mask)
    # not cv2.resize, whose nearest pixels are not those of the centres before OpenCV 5
    rows, columns = (((np.arange(new) + 0.5) * old / new).astype(np.intp) for new, old in zip(image, mask, strict=True))
    return np.ascontiguousarray(labels[rows].take(columns, axis=1))


def value_source(masks: MaskSource) -> ValueSource | None:
    """The reader of mask values; None for a user's own mask source."""
    return masks.values if isinstance(masks, ClassMasks) else None
