"""LabelMe's JSON files as masks: a file's content, and its shapes drawn in their order."""

import base64
import io
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pyramidseg.annotations.polygons import (
    Location,
    Polygons,
    Runs,
    Shape,
    check_inside_image,
    disc,
    parse_points,
    parse_ring,
    rasterise,
    runs_of_pixels,
)
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import MAX_TOGETHER, members
from pyramidseg.base.safe_paths import is_valid_name, short
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.images.decode import image_size
from pyramidseg.images.file_checks import check_pixel_count

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Types of shapes that enclose nothing. They are not drawn, and a note says how many there are."""

Size = tuple[int, int]
"""Height and width."""


@dataclass
class LabelMeFile:
    """Content of a JSON file, not yet checked.

    Attributes:
        shapes: None if the file is not LabelMe's.
    """

    path: Path
    image_path: object = None
    height: object = None
    width: object = None
    shapes: list[Any] | None = None

    def size(self) -> Size | None:
        """Height and width of the image; None if not given.

        Raises:
            DefectError: they are not sizes.
        """
        if self.height is None or self.width is None:
            return None
        if not (_is_length(self.height) and _is_length(self.width)):
            raise Location(self.path).error("imageHeight and imageWidth have to be whole numbers from 1")
        return self.height, self.width


def read_labelme(path: Path) -> LabelMeFile:
    """Read a JSON file.

    Raises:
        DefectError: it is not JSON, or has more than `MAX_TOGETHER` bytes of shapes.
    """
    file = LabelMeFile(path)
    shape_bytes = 0
    for member in members(path):
        if member.key == "imagePath":
            file.image_path = member.value
        elif member.key == "imageHeight":
            file.height = member.value
        elif member.key == "imageWidth":
            file.width = member.value
        elif member.key == "shapes":
            file.shapes = file.shapes or []
            shape_bytes += member.end - member.start
            if shape_bytes > MAX_TOGETHER:
                raise Location(path).error(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            if member.value != []:
                file.shapes.append(member.value)
    return file


def label_of(shape: object) -> str | None:
    """The label of a shape; None if it has none that can be a name."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return label.strip() if isinstance(label, str) and label.strip() and is_valid_name(label.strip()) else None


def shape_type(shape: object) -> str:
    """The type of a shape; files of LabelMe before 3.2 hold only polygons and do not name it."""
    return str((isinstance(shape, dict) and shape.get("shape_type")) or "polygon")


def _is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 1 <= value < 2**31


@dataclass(frozen=True)
class LabelMeMasks:
    """Draws the mask of a record, whose `mask` is the JSON file.

    Attributes:
        values: by label.
        names: of the classes, by value; 0 is background.
    """

    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no LabelMe file")
        file = read_labelme(record.mask)
        size, defects = None, DefectCollector()
        with defects.collect():
            size = file.size()
        height, width = size or image_size(record.image)
        check_pixel_count(file.path, height, width)
        shapes: list[Shape] = []
        for number, shape in enumerate(file.shapes or []):
            where = Location(file.path, f"shape {number}")
            with defects.collect():
                value = self._value(shape, where)
                if shape_type(shape) not in WITHOUT_AREA:
                    shapes.append(_parse_shape(shape, value, number, where, (height, width), record.image))
        defects.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=Location(file.path))

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return record.mask is not None and read_labelme(record.mask).size() is not None

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _value(self, shape: object, where: Location) -> int:
        label, given = label_of(shape), shape.get("label") if isinstance(shape, dict) else None
        if label is None and given in (None, ""):
            raise where.error("has no label; give it one, or delete it")
        if label is None:
            raise where.error(f"has the label {short(given)}, where text on one line is needed; correct or delete it")
        if label not in self.values:
            raise where.error(f"label {label[:40]!r} was added after the dataset was opened; start again")
        return self.values[label]


def _parse_shape(shape: Mapping[str, Any], value: int, layer: int, where: Location, size: Size, image: Path) -> Shape:
    height, width = size
    type, points = shape_type(shape), shape.get("points")
    if type in ("polygon", "oriented_rectangle"):
        ring = parse_ring(points, where=where)
        check_inside_image(ring, height=height, width=width, image=image, where=where)
        return Polygons(value, [[ring]], layer)
    if type not in ("rectangle", "circle", "mask"):
        allowed = f"polygon, oriented_rectangle, rectangle, circle, mask and {', '.join(WITHOUT_AREA)}"
        raise where.error(f"has the shape_type {type[:40]!r}; allowed are {allowed}")
    corners = parse_points(points, where=where)
    if len(corners) != 2:
        raise where.error(f"a {type} of {len(corners)} points: 2 are needed")
    check_inside_image(corners, height=height, width=width, image=image, where=where)
    (left, top), (right, bottom) = corners.tolist()
    if type == "circle":  # its centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return disc(value, left, top, radius, height=height, width=width, layer=layer)
    if type == "mask":
        return _parse_mask(shape.get("mask"), corners, value, layer, where, size)
    ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return Polygons(value, [[ring]], layer)


def _parse_mask(
    text: object, corners: NDArray[np.float64], value: int, layer: int, where: Location, size: Size
) -> Runs:
    """A mask as a PNG in base64; its points are its first and its last pixel."""
    height, width = size
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    if right - left >= width or bottom - top >= height:
        raise where.error(f"its mask is larger than the image of {height} x {width} pixels (height x width)")
    try:
        image = PngImageFile(io.BytesIO(base64.b64decode(str(text), validate=True)))
        if image.size != (right - left + 1, bottom - top + 1):
            raise where.error(f"its mask is {image.size} (width, height), but its points are those of another size")
        pixels = np.asarray(image.convert("L")) > 0
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder raises nearly any exception for damaged data
        raise where.error(f"its mask cannot be read: {' '.join(str(error).split())[:80]}") from error
    return runs_of_pixels(value, pixels, top=top, left=left, height=height, width=width, layer=layer)
