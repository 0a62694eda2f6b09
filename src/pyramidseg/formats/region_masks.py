"""Masks of formats that keep regions of images: each region is an area with the name of its class."""

import io
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pyramidseg.annotations.polygons import (
    Area,
    Location,
    Ring,
    Runs,
    Shape,
    check_inside_image,
    count_contested,
    rasterise,
)
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import JsonSlices
from pyramidseg.base.safe_paths import short
from pyramidseg.data.index_masks import NamedValues, read_mask_values
from pyramidseg.data.records import Record
from pyramidseg.images.decode import image_size
from pyramidseg.images.file_checks import check_pixel_count

T = TypeVar("T")

Size = tuple[int, int]
"""Height and width."""

ONE_CLASS = "foreground"
"""The class of regions that nobody named."""


class Region(NamedTuple):
    """An area and the name of its class. Higher layers are on top; within a layer, smaller regions."""

    label: str
    area: Area
    layer: int = 0


class Objects(NamedTuple):
    """What an annotation file holds of an image.

    Attributes:
        size: as the file states it, if it does.
        named: each object, unchecked, with the name that errors give it.
    """

    size: Size | None
    named: Iterable[tuple[str, Any]]


@dataclass(frozen=True, eq=False)
class RegionMasks(NamedValues):
    """Draws the mask of a record, whose `mask` is the annotation file.

    The two functions are at the top level of a module, so that they can be pickled.

    Attributes:
        objects: of a record.
        regions: of an object, given the size of its image and the place that errors name.
        values: by label.
        names: of the classes, by value; 0 is background.
    """

    objects: Callable[[Record], Objects]
    regions: Callable[[Any, Size, Location], Iterable[Region]]
    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        return self._draw(rasterise, record)

    def count_contested(self, record: Record) -> int:
        """See `DrawnSource.count_contested`."""
        return self._draw(count_contested, record)

    def _draw(self, draw: Callable[..., T], record: Record) -> T:
        """Call a function of `polygons` with the shapes of a record."""
        stated, named = self.objects(record)
        file, defects = record.mask or record.image, DefectCollector()
        size = stated or image_size(record.image)
        check_pixel_count(file, *size)
        shapes: list[Shape] = []
        for name, object in named:
            where = Location(file, name)
            with defects.collect():
                for region in self.regions(object, size, where):
                    shapes.append(self._shape(region, size, record, where))
        defects.raise_if_any()
        return draw(shapes, height=size[0], width=size[1], where=Location(file, record.id))

    def _shape(self, region: Region, size: Size, record: Record, where: Location) -> Shape:
        if region.label not in self.values:
            raise where.error(f"label {short(region.label)} was added after the dataset was opened; start again")
        if not isinstance(region.area, Runs):
            for ring in (ring for part in region.area for ring in part):
                check_inside_image(ring, height=size[0], width=size[1], image=record.image, where=where)
        return Shape(self.values[region.label], region.area, region.layer)

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return self.objects(record).size is not None


@dataclass(frozen=True, eq=False)
class SharedFile:
    """The entries of an annotation file of many images.

    Attributes:
        slices: where the annotations of all images are.
        positions: of images, by the id of their record.
        first: (images + 1,) the first slice of each image.
        sizes: (images, 2) height and width; 0 if not stated, -1 if not a whole number from 1.
    """

    slices: JsonSlices
    positions: Mapping[str, int]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class SharedFiles:
    """Reads the objects of a record from one of several files of many images.

    Attributes:
        files: by path.
        parse: takes the slices of an image apart.
    """

    files: Mapping[str, SharedFile]
    parse: Callable[[Sequence[bytes], Location], Iterable[tuple[str, Any]]]

    def objects(self, record: Record) -> Objects:
        """The objects of an image.

        Raises:
            DataError: it was not described when the dataset was opened, or the file is unreadable.
        """
        file = self.files.get(str(record.mask))
        position = None if file is None else file.positions.get(record.id)
        if file is None or position is None:
            raise DataError(f"{record.image}: is in none of the annotation files of this dataset")
        height, width = file.sizes[position].tolist()
        where = Location(file.slices.path, record.id)
        if min(height, width) < 0:
            raise where.error("height and width have to be whole numbers from 1")
        named = self.parse(file.slices.read(range(file.first[position], file.first[position + 1])), where)
        size = (height, width) if min(height, width) > 0 else None
        return Objects(size, [(f"{name} of {record.id}", object) for name, object in named])


def numbered(objects: Iterable[T]) -> list[tuple[str, T]]:
    """Objects by their number from 1."""
    return [(f"object {number}", object) for number, object in enumerate(objects, start=1)]


def stated_size(height: object, width: object) -> Size | None:
    """Height and width, if both are whole numbers from 1."""
    if type(height) is type(width) is int and 0 < height < 2**31 and 0 < width < 2**31:  # true is an int, too
        return height, width
    return None


def finite_number(value: object) -> float:
    """A number of JSON as a float; NaN for other values, and for what a float cannot hold or is infinite."""
    try:
        number = float(value) if isinstance(value, (int, float)) else math.nan
    except OverflowError:
        return math.nan
    return number if math.isfinite(number) else math.nan


def png_pixels(png: bytes, *, top: int, left: int, size: Size, where: Location) -> NDArray[np.bool_]:
    """The pixels of a PNG file that are not transparent; of a PNG without transparency, those above 0.

    Args:
        top, left: where it begins in the image.

    Raises:
        DataError: damaged, or not inside the image.
    """
    height, width = size
    if not (0 <= left < width and 0 <= top < height):
        raise where.error(f"its mask begins at ({left}, {top}), outside of the image of {height} x {width} pixels")
    try:
        image = PngImageFile(io.BytesIO(png))
        if image.width > width - left or image.height > height - top:
            raise where.error(f"its mask of {image.height} x {image.width} pixels is larger than the image")
        has_alpha = "A" in image.getbands() or "transparency" in image.info
        pixels: NDArray[Any] = (
            np.asarray(image.convert("RGBA"))[..., 3] if has_alpha else np.asarray(image.convert("L"))
        )
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder raises nearly any exception for damaged data
        raise where.error(f"its mask cannot be read: {' '.join(str(error).split())[:80]}") from error
    return pixels > 0


def mask_pixels(file: Path, size: Size) -> NDArray[np.unsignedinteger[Any]]:
    """The values of a mask file of one region; raises `DataError` if they are not of the size of its image."""
    values = read_mask_values(file)
    if values.shape != size:
        raise Location(file).error(f"its size is {values.shape} (height, width), that of the image is {size}")
    return values


def ellipse(x: float, y: float, rx: float, ry: float, *, degrees: float = 0.0, size: Size, where: Location) -> Ring:
    """An ellipse as a ring of 256 points, whose area differs from the ellipse's by 0.01 %.

    Raises:
        DataError: a number is not finite, or a radius is not positive.
    """
    numbers = np.array([x, y, rx, ry, degrees], np.float64)
    if not np.isfinite(numbers).all() or min(rx, ry) <= 0 or max(rx, ry) > 4 * max(size):
        raise where.error("its centre and radii have to be finite numbers, the radii above 0; draw it again")
    angles = np.linspace(0, 2 * np.pi, 256, endpoint=False)
    turn = np.deg2rad(degrees)
    along, across = rx * np.cos(angles), ry * np.sin(angles)
    points: Ring = np.stack(
        [x + along * np.cos(turn) - across * np.sin(turn), y + along * np.sin(turn) + across * np.cos(turn)], 1
    )
    return np.clip(points, 0, (size[1], size[0]))
