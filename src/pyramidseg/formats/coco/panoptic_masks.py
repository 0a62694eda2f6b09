"""COCO's panoptic masks: PNG files whose colours are numbers of segments, and the category of each in a JSON file.

Source: Kirillov et al. 2019, arXiv 1801.00868, and the COCO data format: a segment's number is R + 256 G + 256^2 B, and
0 is void.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Where
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import JsonSlices
from pyramidseg.data.color_masks import read_colors
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.coco_masks import CategoryValues, Id, values_of

VOID = 0
"""The value, and the number of the segment, of pixels that count nowhere."""


@dataclass(frozen=True, eq=False)
class PanopticFile:
    """The segments of each PNG, as one JSON file has them."""

    slices: JsonSlices
    values: Mapping[Id, CategoryValues]


@dataclass(frozen=True, eq=False)
class PanopticValues:
    """The category of each pixel.

    Attributes:
        files: the JSON files.
        places: by the name of a PNG: its JSON file and its number in there.
        names: by value.
    """

    files: tuple[PanopticFile, ...]
    places: Mapping[str, tuple[int, int]]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = (VOID,)

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        place = self.places.get(str(record.mask))
        if place is None or record.mask is None:
            raise DataError(f"{record.image}: is in none of the annotation files that were listed")
        file = self.files[place[0]]
        (annotation,) = file.slices.read([place[1]])
        value_of, flaws = {VOID: VOID}, DefectCollector()
        for segment in annotation["segments_info"]:
            with flaws.collect():
                number, values = _segment(segment, file, record)
                value_of[number] = values.crowds if segment.get("iscrowd") else values.objects
        flaws.raise_if_any()
        red, green, blue = np.moveaxis(read_colors(record.mask).astype(np.uint32), -1, 0)
        return _looked_up(red + 256 * green + 65536 * blue, value_of, file, record)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)


def _segment(segment: Any, file: PanopticFile, record: Record) -> tuple[int, CategoryValues]:
    """Its number, and what its category becomes."""
    where = Where(file.slices.path, record.id)
    number = segment.get("id") if isinstance(segment, dict) else None
    if not isinstance(number, int) or not 0 < number < 2**24:
        raise where.flaw(f"segment id {str(number)[:40]}: whole numbers from 1 to {2**24 - 1} are possible")
    return number, values_of(segment, file.values, Where(where.file, f"segment {number} of {record.id}"))


def _looked_up(
    numbers: NDArray[np.uint32], value_of: Mapping[int, int], file: PanopticFile, record: Record
) -> NDArray[np.uint16]:
    """The value of each pixel. Runs of equal numbers are looked up once: there are far fewer of them than pixels."""
    flat = numbers.ravel()
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    known = np.array(sorted(value_of), np.uint32)
    place = np.searchsorted(known, flat[starts]).clip(max=len(known) - 1)
    unknown = np.unique(flat[starts][known[place] != flat[starts]])
    if len(unknown):
        more = f" and {len(unknown) - 1} more" if len(unknown) > 1 else ""
        raise Where(record.mask or record.image).flaw(
            f"holds pixels of segment {unknown[0]}{more}, which {file.slices.path} does not list for this image"
        )
    values = np.array([value_of[number] for number in known.tolist()], np.uint16)[place]
    return np.repeat(values, np.diff(starts, append=flat.size)).reshape(numbers.shape)
