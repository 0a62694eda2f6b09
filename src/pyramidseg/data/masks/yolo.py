"""YOLO's outlines as masks: a text file for each image, a line for each object, `class x1 y1 x2 y2 ...`.

Coordinates are shares of the image's width and height, from 0 to 1. Source: Ultralytics, "Instance Segmentation
Datasets Overview".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.images import image_size
from pyramidseg.data.masks.names import in_names
from pyramidseg.data.masks.polygons import Polygons, Ring, Where, as_ring, rasterise
from pyramidseg.data.records import Record
from pyramidseg.data.text_files import read_text

_SLACK = 0.01  # how far beyond the image a point may be, in shares of it; as Ultralytics has it
_BOX = 5


@dataclass(frozen=True)
class YoloValues:
    """Objects of a label file; an image without one is all background. Of those that overlap, the smaller lies on top.

    Attributes:
        values: by class number.
        names: by value; 0 is what no object covers.
    """

    values: Mapping[int, int]
    names: tuple[str, ...]
    void: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        height, width = image_size(record.image)
        if record.mask is None:
            return np.zeros((height, width), np.uint16)
        shapes: list[Polygons] = []
        for where, number, ring in read_objects(record.mask):
            if number not in self.values:
                raise where.flaw(f"class {number}: the classes from 0 to {max(self.values)} are named")
            shapes.append(Polygons(self.values[number], [[ring * (width, height)]]))
        return rasterise(shapes, height=height, width=width, where=Where(record.mask))

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_names(values, self.names)


def read_objects(file: Path) -> list[tuple[Where, int, Ring]]:
    """Line, class number and outline (in shares of the image) of each object.

    Raises:
        DataError: a line that is no outline: a box, too few points, anything but numbers, points beyond the image.
    """
    objects = []
    for number, line in enumerate(read_text(file).splitlines(), start=1):
        if not line.strip():
            continue
        where = Where(file, f"line {number}")
        fields = line.split()
        if len(fields) == _BOX:
            raise where.flaw(
                "holds a box (class, centre, width, height), and a box is no mask; label the outlines of objects "
                "(class x1 y1 x2 y2 x3 y3 ...), or take this line out"
            )
        ring = as_ring(fields[1:], where=where)
        if ring.min() < -_SLACK or ring.max() > 1 + _SLACK:
            raise where.flaw(
                f"coordinates from {ring.min():g} to {ring.max():g}: they are shares of the image's width and height, "
                "from 0 to 1; divide pixels by these"
            )
        objects.append((where, _class_number(fields[0], where), ring))
    return objects


def _class_number(field: str, where: Where) -> int:
    try:
        number = float(field)
    except ValueError:
        number = -1.0
    if not (0 <= number < 2**16 and number.is_integer()):
        raise where.flaw(f"begins with {field[:40]!r}, where the number of a class is needed")
    return int(number)
