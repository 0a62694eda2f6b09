"""YOLO's label files: a line for each object, `class x1 y1 x2 y2 x3 y3 ...` in shares of width and height."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from pathlib import Path

from pyramidseg.annotations.polygons import SLACK, Location, parse_ring
from pyramidseg.base.errors import DataError
from pyramidseg.base.text_files import read_text
from pyramidseg.data.index_masks import describe_ranges
from pyramidseg.data.records import Record
from pyramidseg.formats.region_masks import Objects, Region, Size

_BOX_FIELDS = 5
"""class, centre x and y, width, height"""

_LINES_SAMPLED = 1000
_MAX_DIGITS = 4
"""Of a class number."""


def objects(record: Record) -> Objects:
    """The fields of each line that is not empty; an image without a label file is all background."""
    lines = read_text(record.mask).splitlines() if record.mask else []
    return Objects(None, [(f"line {line}", text.split()) for line, text in enumerate(lines, start=1) if text.strip()])


def regions(fields: list[str], size: Size, where: Location, names: Mapping[int, str]) -> Iterator[Region]:
    """The region of a line.

    Args:
        names: of the classes, by number.

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
    if number not in names:
        named = f"only {describe_ranges(names)} have names; name it too, or correct the number"
        raise where.error(f"class {number}: {named}")
    height, width = size
    yield Region(names[number], [[ring * (width, height)]])


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
        raise Location(folder).error(
            "the labels are boxes (class, centre, width, height), and boxes are not masks; export the dataset for "
            "segmentation, with the outlines of objects (class x1 y1 x2 y2 x3 y3 ...)"
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
