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
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

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
    runs_of_pixels,
)
from pyramidseg.data.records import Record
from pyramidseg.data.references import is_plain
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
        size: of the image; None where it is not said.
        shapes: as they are in the file; None where it is no LabelMe file.
    """

    path: Path
    image_path: object = None
    size: tuple[int, int] | None = None
    shapes: list[dict[str, Any]] | None = None

    def where(self, number: int) -> Where:
        """One of the shapes, in words."""
        return Where(self.path, f"shape {number}")


def read_labelme(path: Path) -> LabelMeFile:
    """Read a file.

    Raises:
        DataError: no JSON, an image size that is none, shapes without a label, or more than `MAX_TOGETHER` of them.
    """
    file = LabelMeFile(path)
    lengths: dict[str, Any] = {}
    volume = 0
    for member in members(path):
        if member.key == "imagePath":
            file.image_path = member.value
        elif member.key in ("imageHeight", "imageWidth"):
            lengths[member.key] = member.value
        elif member.key == "shapes":
            file.shapes = file.shapes or []
            volume += member.end - member.start
            if volume > MAX_TOGETHER:
                raise Where(path).flaw(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            if member.value != []:
                file.shapes.append(_checked(member.value, file.where(len(file.shapes))))
    file.size = _size(lengths.get("imageHeight"), lengths.get("imageWidth"), Where(path))
    return file


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
        height, width = file.size or image_size(record.image)
        refuse_huge(file.path, height, width)
        shapes: list[Shape] = []
        for number, shape in enumerate(file.shapes or []):
            where = file.where(number)
            if shape["label"] not in self.values:
                raise where.flaw(f"label {shape['label'][:40]!r} was not there when the dataset was listed; start anew")
            if shape["shape_type"] not in WITHOUT_AREA:
                shapes.append(_drawn(shape, self.values[shape["label"]], number, where, (height, width)))
        return rasterise(shapes, height=height, width=width, where=Where(file.path))

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_names(values, self.names)


def _checked(shape: Any, where: Where) -> dict[str, Any]:
    """A shape with a label, and with its kind, which old files leave out."""
    label = shape.get("label") if isinstance(shape, dict) else None
    if not isinstance(label, str) or not label.strip() or not is_plain(label.strip()):
        raise where.flaw("has no label; give it one, or delete it")
    return {**shape, "label": label.strip(), "shape_type": shape.get("shape_type") or "polygon"}


def _size(height: Any, width: Any, where: Where) -> Size | None:
    if height is None or width is None:
        return None
    if not all(isinstance(length, int) and 1 <= length < 2**31 for length in (height, width)):
        raise where.flaw("imageHeight and imageWidth have to be whole numbers from 1 on")
    return height, width


def _drawn(shape: Mapping[str, Any], value: int, layer: int, where: Where, size: Size) -> Shape:
    height, width = size
    kind, points = shape["shape_type"], shape.get("points")
    if kind in ("polygon", "oriented_rectangle"):
        return Polygons(value, [[as_ring(points, where=where)]], layer)
    if kind not in ("rectangle", "circle", "mask"):
        raise where.flaw(
            f"is a {str(kind)[:40]!r}: polygon, rectangle, circle, mask and {', '.join(WITHOUT_AREA)} are read"
        )
    corners = as_points(points, where=where)
    if len(corners) != 2:
        raise where.flaw(f"a {kind} of {len(corners)} points: 2 are needed")
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
    (left, top), (right, bottom) = corners.clip(-(2**31), 2**31).astype(np.int64).tolist()
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
