"""LabelMe's shapes as masks: a JSON file for each image.

    {"imagePath": "a.jpg", "imageHeight": 600, "imageWidth": 800,
     "shapes": [{"label": "fig", "points": [[10.5, 20], ...], "shape_type": "polygon"}, ...]}

Later shapes lie on top, whatever their size: so LabelMe itself draws them (`labelme.utils.shapes_to_label`). Its
embedded image (`imageData`) is passed over.
"""

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

from pyramidseg.data.flaws import Flaws
from pyramidseg.data.image_files import refuse_huge
from pyramidseg.data.images import image_size
from pyramidseg.data.json_files import MAX_TOGETHER, members
from pyramidseg.data.masks.names import in_names
from pyramidseg.data.masks.polygons import (
    Polygons,
    Runs,
    Shape,
    Where,
    as_points,
    as_ring,
    disc,
    rasterise,
    refuse_far,
    runs_of_pixels,
)
from pyramidseg.data.records import Record
from pyramidseg.data.references import is_plain, short
from pyramidseg.errors import DataError

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Kinds of shapes that enclose nothing. They are not drawn, and the reader says how many there are."""

Size = tuple[int, int]
"""Height and width."""


@dataclass
class LabelMeFile:
    """What a file says.

    Attributes:
        image_path: None where it is not said.
        height, width: of the image, as the file has them; None where it has none.
        shapes: as they are in the file, whatever they are; None where it is no LabelMe file.
    """

    path: Path
    image_path: object = None
    height: object = None
    width: object = None
    shapes: list[Any] | None = None

    def size(self) -> Size | None:
        """Of the image; None where it is not said.

        Raises:
            DataError: it is none.
        """
        if self.height is None or self.width is None:
            return None
        if not (_is_length(self.height) and _is_length(self.width)):
            raise Where(self.path).flaw("imageHeight and imageWidth have to be whole numbers from 1 on")
        return self.height, self.width


def read_labelme(path: Path) -> LabelMeFile:
    """Read a file.

    Raises:
        DataError: no JSON, or more than `MAX_TOGETHER` of shapes.
    """
    file = LabelMeFile(path)
    volume = 0
    for member in members(path):
        if member.key == "imagePath":
            file.image_path = member.value
        elif member.key == "imageHeight":
            file.height = member.value
        elif member.key == "imageWidth":
            file.width = member.value
        elif member.key == "shapes":
            file.shapes = file.shapes or []
            volume += member.end - member.start
            if volume > MAX_TOGETHER:
                raise Where(path).flaw(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            if member.value != []:
                file.shapes.append(member.value)
    return file


def label_of(shape: object) -> str | None:
    """The label of a shape; None where it has none."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return label.strip() if isinstance(label, str) and label.strip() and is_plain(label.strip()) else None


def kind_of(shape: object) -> str:
    """Its kind, which old files leave out."""
    return str((isinstance(shape, dict) and shape.get("shape_type")) or "polygon")


@dataclass(frozen=True)
class LabelMeValues:
    """Shapes by their labels.

    Attributes:
        values: by label.
        names: by value; 0 is what no shape covers.
    """

    values: Mapping[str, int]
    names: tuple[str, ...]
    void: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no LabelMe file")
        file = read_labelme(record.mask)
        size, flaws = None, Flaws()
        with flaws.caught():
            size = file.size()
        height, width = size or image_size(record.image)
        refuse_huge(file.path, height, width)
        shapes: list[Shape] = []
        for number, shape in enumerate(file.shapes or []):
            where = Where(file.path, f"shape {number}")
            with flaws.caught():
                value = self._value(shape, where)
                if kind_of(shape) not in WITHOUT_AREA:
                    shapes.append(_drawn(shape, value, number, where, (height, width), record.image))
        flaws.refuse()
        return rasterise(shapes, height=height, width=width, where=Where(file.path))

    def says_size(self, record: Record) -> bool:
        """See `OutlineSource.says_size`."""
        return record.mask is not None and read_labelme(record.mask).size() is not None

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_names(values, self.names)

    def _value(self, shape: object, where: Where) -> int:
        label, given = label_of(shape), shape.get("label") if isinstance(shape, dict) else None
        if label is None and given in (None, ""):
            raise where.flaw("has no label; give it one, or delete it")
        if label is None:
            raise where.flaw(f"has the label {short(given)}, where text on one line is needed; correct or delete it")
        if label not in self.values:
            raise where.flaw(f"label {label[:40]!r} was not there when the dataset was listed; start anew")
        return self.values[label]


def _is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 1 <= value < 2**31


def _drawn(shape: Mapping[str, Any], value: int, layer: int, where: Where, size: Size, image: Path) -> Shape:
    height, width = size
    kind, points = kind_of(shape), shape.get("points")
    if kind in ("polygon", "oriented_rectangle"):
        ring = as_ring(points, where=where)
        refuse_far(ring, height=height, width=width, image=image, where=where)
        return Polygons(value, [[ring]], layer)
    if kind not in ("rectangle", "circle", "mask"):
        raise where.flaw(f"is a {kind[:40]!r}: polygon, rectangle, circle, mask and {', '.join(WITHOUT_AREA)} are read")
    corners = as_points(points, where=where)
    if len(corners) != 2:
        raise where.flaw(f"a {kind} of {len(corners)} points: 2 are needed")
    refuse_far(corners, height=height, width=width, image=image, where=where)
    (left, top), (right, bottom) = corners.tolist()
    if kind == "circle":  # its centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return disc(value, left, top, radius, height=height, width=width, layer=layer)
    if kind == "mask":
        return _pixels(shape.get("mask"), corners, value, layer, where, size)
    ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return Polygons(value, [[ring]], layer)


def _pixels(text: object, corners: NDArray[np.float64], value: int, layer: int, where: Where, size: Size) -> Runs:
    """A mask in a PNG, in base64; its corners are those of its first and its last pixel."""
    height, width = size
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    if right - left >= width or bottom - top >= height:
        raise where.flaw(f"its mask is larger than the image of {height} x {width} pixels (height x width)")
    try:
        image = PngImageFile(io.BytesIO(base64.b64decode(str(text), validate=True)))
        if image.size != (right - left + 1, bottom - top + 1):
            raise where.flaw(f"its mask is {image.size} (width, height), and its points are those of another size")
        pixels = np.asarray(image.convert("L")) > 0
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a decoder answers damage with nearly any exception there is
        raise where.flaw(f"its mask cannot be read: {' '.join(str(error).split())[:80]}") from error
    return runs_of_pixels(value, pixels, top=top, left=left, height=height, width=width, layer=layer)
