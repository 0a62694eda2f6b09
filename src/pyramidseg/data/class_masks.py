"""From the values that a dataset's masks hold to class ids."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, MAX_CLASSES
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.image_mask_checks import is_resizable, size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import MaskSource, Record, ValueSource
from pyramidseg.images.decode import image_size

MAX_VALUE = 2**24 - 1
"""The largest source value: white, where values are packed colours."""

_UNKNOWN = 256  # beside the 256 labels, hence a lookup of 16 bits

NEXT_STEP = "name such values under classes, or list them under ignore"


class UnknownValuesError(DefectError):
    """A mask holds values that are no class.

    Attributes:
        path: the mask.
        pixels: number of pixels by unknown value.
        known: what is allowed, in words.
        source: what the values come from, which has words for them.
    """

    def __init__(self, path: Path, *, pixels: Mapping[int, int], known: str, source: ValueSource | None = None) -> None:
        self.path, self.pixels, self.known, self.source = path, dict(pixels), known, source or IndexValues()
        values = first_few(
            [f"{self.source.describe([value])} ({count} pixels)" for value, count in self.pixels.items()], limit=8
        )
        verdict = "is no class" if len(pixels) == 1 else "are no classes"
        super().__init__(
            DefectKind.UNKNOWN_VALUE,
            path,
            f"mask value{'s' if len(pixels) > 1 else ''} {values} {verdict} of this dataset ({known}); {NEXT_STEP}",
        )

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their message alone unless told otherwise."""
        return _unknown_values, (self.path, self.pixels, self.known, self.source)


@dataclass(frozen=True)
class ClassMasks:
    """Decodes masks: each source value is a class or ignored.

    Attributes:
        ids: (value, class id) pairs; several values may be one class.
        ignored: values that count nowhere.
        values: reads the source values of a record.
        ignore_unlisted: whether all other values count nowhere too, instead of being errors.
        resize: whether a mask of another size than its image is resized to it (nearest), instead of being an error;
            not one of another shape.

    Raises:
        DataError: a value that is two things at once, or out of range; an id that is none.
    """

    ids: tuple[tuple[int, int], ...]
    ignored: tuple[int, ...] = (IGNORE,)
    values: ValueSource = field(default_factory=IndexValues)
    ignore_unlisted: bool = False
    resize: bool = False

    def __post_init__(self) -> None:
        values = [value for value, _ in self.ids] + list(self.ignored)
        for value in values:
            if not 0 <= value <= MAX_VALUE:
                raise DataError(f"mask value {value}: values from 0 to {MAX_VALUE} are possible")
        if len(set(values)) < len(values):
            twice = min(value for value in values if values.count(value) > 1)
            what = "a class and ignored" if twice in self.ignored else "two classes"
            raise DataError(f"mask value {self.values.describe([twice])} is {what} at once: take it out of one")
        if any(not 0 <= index < MAX_CLASSES for _, index in self.ids):
            raise DataError(
                f"class ids from {min(index for _, index in self.ids)} to {max(index for _, index in self.ids)}: 0 to "
                f"{MAX_CLASSES - 1} are possible; name fewer classes, and ignore the others (ignore: '*')"
            )

    @classmethod
    def identity(cls, num_classes: int, *, ignore: Iterable[int] = ()) -> "ClassMasks":
        """Index masks whose values are the class ids; 255 is ignored, and so is what `ignore` lists."""
        return cls.from_values({index: index for index in range(num_classes)}, ignore=ignore)

    @classmethod
    def from_values(
        cls, ids: Mapping[int, int], *, ignore: Iterable[int] = (), values: ValueSource | None = None, **options: bool
    ) -> "ClassMasks":
        """Class id by value; ignored is what `ignore` lists, and the source's `void` unless that is a class.

        Args:
            options: `ignore_unlisted` and `resize`.
        """
        source = values or IndexValues()
        ignored = set(ignore) | (set(source.ignored_values) - set(ids))
        return cls(tuple(sorted(ids.items())), tuple(sorted(ignored)), source, **options)

    def read(self, record: Record) -> NDArray[np.uint8]:
        """See `MaskSource.read`."""
        values = self.values.read(record)
        labels = self._label_bytes(values) if values.dtype == np.uint8 else None
        if labels is None:
            labels = self._label(record, values)
        return _resized(labels, record) if self.resize else labels

    def _label_bytes(self, values: NDArray[Any]) -> NDArray[np.uint8] | None:
        """As `_label`, in a fifth of the time; None where there is an unknown value."""
        labels, unknown = self._byte_lookups
        if unknown.any() and cv2.LUT(values, unknown).any():
            return None
        return np.asarray(cv2.LUT(values, labels), np.uint8)

    def _label(self, record: Record, values: NDArray[Any]) -> NDArray[np.uint8]:
        table = self._lookup
        if np.iinfo(values.dtype).max >= len(table):
            values = np.minimum(values, len(table) - 1)  # the last entry stands for all beyond
        labels = np.take(table, values)
        if labels.max(initial=0) == _UNKNOWN:
            raise self._unknown(record, labels)
        return labels.astype(np.uint8)

    def _unknown(self, record: Record, labels: NDArray[np.uint16]) -> UnknownValuesError:
        values = self.values.read(record)  # again, as values beyond the table have been cut off
        unknown, counts = np.unique(values[labels == _UNKNOWN], return_counts=True)
        by_value = dict(zip(unknown.tolist(), counts.tolist(), strict=True))
        return UnknownValuesError(record.mask or record.image, pixels=by_value, known=self._known(), source=self.values)

    @cached_property
    def _lookup(self) -> NDArray[np.uint16]:
        """Label by value, or `_UNKNOWN`; the last entry stands for all larger values."""
        largest = max(255, *(value for value, _ in self.ids), *self.ignored, 0)
        table = np.full(largest + 2, IGNORE if self.ignore_unlisted else _UNKNOWN, np.uint16)
        for value, index in self.ids:
            table[value] = index
        table[list(self.ignored)] = IGNORE
        return table

    @cached_property
    def _byte_lookups(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
        """By each value that a byte can have: its label, and 1 where it has none."""
        table = self._lookup[:256]
        return table.astype(np.uint8), (table == _UNKNOWN).astype(np.uint8)

    def _known(self) -> str:
        known, ignored = self.values.describe(value for value, _ in self.ids), self.values.describe(self.ignored)
        return f"known {known}, ignored {ignored}"

    def __reduce__(self) -> tuple[Any, ...]:
        """The table is made again where it is needed."""
        return type(self), (self.ids, self.ignored, self.values, self.ignore_unlisted, self.resize)


def _resized(labels: NDArray[np.uint8], record: Record) -> NDArray[np.uint8]:
    image, mask = image_size(record.image), (labels.shape[0], labels.shape[1])
    if mask == image:
        return labels
    if not is_resizable(image=image, mask=mask):  # what lies on its side or shows another part would still not fit
        raise size_mismatch(record, image=image, mask=mask)
    height, width = image
    return cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST_EXACT).astype(np.uint8, copy=False)


def value_source(masks: MaskSource) -> ValueSource | None:
    """What reads the values of masks; None where a source of one's own gives labels."""
    return masks.values if isinstance(masks, ClassMasks) else None


def _unknown_values(path: Path, pixels: Mapping[int, int], known: str, source: ValueSource) -> UnknownValuesError:
    return UnknownValuesError(path, pixels=pixels, known=known, source=source)
