"""YOLO's label files as masks: a line for each object, `class x1 y1 x2 y2 x3 y3 ...` in shares of width and height."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import SLACK, Location, Polygons, Ring, parse_ring, rasterise
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text_files import read_text
from pyramidseg.data.index_masks import describe_names, describe_ranges
from pyramidseg.data.records import Record
from pyramidseg.images.decode import image_size

_BOX_FIELDS = 5
"""class, centre x and y, width, height"""

_LINES_SAMPLED = 1000
_MAX_DIGITS = 4
"""Of a class number."""


@dataclass(frozen=True)
class YoloMasks:
    """Draws the mask of a record, whose `mask` is the label file; without one, the image is all background.

    Where objects overlap, the smaller is on top.

    Attributes:
        values: by class number.
        names: of the classes, by value; 0 is background.
    """

    values: Mapping[int, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        height, width = image_size(record.image)
        if record.mask is None:
            return np.zeros((height, width), np.uint16)
        shapes: list[Polygons] = []
        defects = DefectCollector()
        for line, text in enumerate(read_text(record.mask).splitlines(), start=1):
            with defects.collect():
                if text.strip():
                    value, ring = self._parse_line(text.split(), Location(record.mask, f"line {line}"))
                    shapes.append(Polygons(value, [[ring * (width, height)]]))
        defects.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=Location(record.mask))

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return False

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _parse_line(self, fields: list[str], where: Location) -> tuple[int, Ring]:
        """The value and the outline, in shares of the image, of an object.

        Raises:
            DefectError: it is a box, has too few points or points far outside of the image, or its class has no name.
        """
        if len(fields) == _BOX_FIELDS:
            raise where.error(
                "holds a box (class, centre, width, height), and a box is not a mask; label the outlines of objects "
                "(class x1 y1 x2 y2 x3 y3 ...), or remove this line"
            )
        ring = parse_ring(fields[1:], where=where)
        if ring.min() < -SLACK or ring.max() > 1 + SLACK:
            raise where.error(
                f"coordinates from {ring.min():g} to {ring.max():g}: they are shares of the image's width and height, "
                f"from 0 to 1 (up to {SLACK:g} beyond is cut off); divide pixels by these, or delete this object"
            )
        number = _class_number(fields[0], where)
        if number not in self.values:
            named = f"only {describe_ranges(self.values)} have names; name it too, or correct the number"
            raise where.error(f"class {number}: {named}")
        return self.values[number], ring


def _class_number(field: str, where: Location) -> int:
    try:
        number = float(field)
    except ValueError:
        number = -1.0
    if not (0 <= number < 2**16 and number.is_integer()):
        raise where.error(f"begins with {field[:40]!r}, where the number of a class is needed")
    return int(number)


def are_labels(files: Iterable[Path]) -> bool:
    """Whether text files can be labels: the first line begins with a class number, or all are empty."""
    return next((fields[0].isdecimal() for fields in _lines(files)), bool(files))


def check_not_boxes(folder: Path, files: Iterable[Path]) -> None:
    """Refuse labels for detection at once. A box among outlines is found when its mask is read.

    Raises:
        DefectError: the first lines are all boxes.
    """
    lengths = [len(fields) for fields in islice(_lines(files), _LINES_SAMPLED)]
    if lengths and all(length == _BOX_FIELDS for length in lengths):
        raise DefectError(
            DefectKind.BAD_ANNOTATION,
            folder,
            "the labels are boxes (class, centre, width, height), and boxes are not masks; export the dataset for "
            "segmentation, with the outlines of objects (class x1 y1 x2 y2 x3 y3 ...)",
        )


def numbered_names(files: Iterable[Path]) -> dict[int, str]:
    """`class 0`, `class 1` ... up to the highest number in the labels."""
    numbers = (fields[0] for fields in _lines(files))
    highest = max((int(number) for number in numbers if number.isdecimal() and len(number) <= _MAX_DIGITS), default=0)
    return {number: f"class {number}" for number in range(highest + 1)}


def _lines(files: Iterable[Path]) -> Iterator[list[str]]:
    """The fields of each line that is not empty. Files that cannot be read are reported when their masks are read."""
    for file in files:
        try:
            text = read_text(file)
        except DataError:
            continue
        yield from (line.split() for line in text.splitlines() if line.strip())
