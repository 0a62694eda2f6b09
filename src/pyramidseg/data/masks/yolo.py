"""YOLO's outlines as masks: a text file for each image, a line for each object, `class x1 y1 x2 y2 ...`.

Coordinates are shares of the image's width and height, from 0 to 1. Source: Ultralytics, "Instance Segmentation
Datasets Overview".
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.flaws import Flaws
from pyramidseg.data.images import image_size
from pyramidseg.data.masks.index import in_ranges
from pyramidseg.data.masks.names import in_names
from pyramidseg.data.masks.polygons import SLACK, Polygons, Ring, Where, as_ring, rasterise
from pyramidseg.data.records import Record
from pyramidseg.data.text_files import read_text

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
        flaws = Flaws()
        for line, text in enumerate(read_text(record.mask).splitlines(), start=1):
            with flaws.caught():
                if text.strip():
                    value, ring = self._object(text.split(), Where(record.mask, f"line {line}"))
                    shapes.append(Polygons(value, [[ring * (width, height)]]))
        flaws.refuse()
        return rasterise(shapes, height=height, width=width, where=Where(record.mask))

    def says_size(self, record: Record) -> bool:
        """See `OutlineSource.says_size`."""
        return False

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_names(values, self.names)

    def _object(self, fields: list[str], where: Where) -> tuple[int, Ring]:
        """The value and the outline (in shares of the image) that a line holds.

        Raises:
            DataError: a box, too few points, anything but numbers, points far beyond the image, a class without a name.
        """
        if len(fields) == _BOX:
            raise where.flaw(
                "holds a box (class, centre, width, height), and a box is no mask; label the outlines of objects "
                "(class x1 y1 x2 y2 x3 y3 ...), or take this line out"
            )
        ring = as_ring(fields[1:], where=where)
        if ring.min() < -SLACK or ring.max() > 1 + SLACK:
            raise where.flaw(
                f"coordinates from {ring.min():g} to {ring.max():g}: they are shares of the image's width and height, "
                f"from 0 to 1 (up to {SLACK:g} beyond is cut off); divide pixels by these, or delete this object"
            )
        number = _class_number(fields[0], where)
        if number not in self.values:
            named = f"only {in_ranges(self.values)} have names; name it too, or correct the number"
            raise where.flaw(f"class {number}: {named}")
        return self.values[number], ring


def _class_number(field: str, where: Where) -> int:
    try:
        number = float(field)
    except ValueError:
        number = -1.0
    if not (0 <= number < 2**16 and number.is_integer()):
        raise where.flaw(f"begins with {field[:40]!r}, where the number of a class is needed")
    return int(number)
