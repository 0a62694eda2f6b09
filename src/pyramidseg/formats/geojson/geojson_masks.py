"""GeoJSON as masks: polygons in map coordinates, drawn on the grid of a georeferenced image.

Coordinates are longitude and latitude on WGS 84 (RFC 7946) unless the file names another system. Only corners are moved
between coordinate systems; edges stay straight. A pixel belongs to a polygon if its centre does
(`annotations.polygons`); where polygons overlap, the smaller is on top.
"""

import threading
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Ring, Shape, count_contested, drawing_order, rasterise
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.files import file_state
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.geojson.features import Feature, Layer, bounds_of, read_geojson
from pyramidseg.images.file_checks import check_pixel_count
from pyramidseg.images.georeference import WGS84, Georeference, is_geographic, parse_crs, read_georeference, reproject
from pyramidseg.images.open_image import apply_orientation, open_image
from pyramidseg.images.scene_windows import scene_of, window_at

T = TypeVar("T")

OF_IMAGE = "image"
"""Value of `vector_crs`: the coordinate system of each image."""


@dataclass(frozen=True)
class GeoJsonMasks:
    """Draws the mask of a record, whose `mask` is the GeoJSON file. Without a class property, all polygons are 1.

    Attributes:
        values: by the property's value; polygons without it have the value of the empty string.
        names: of the classes, by value; 0 is background.
        class_property: name of the property.
        crs: of the coordinates, in place of the one that the files name: for `parse_crs`, or `OF_IMAGE`.
    """

    names: tuple[str, ...]
    values: Mapping[str, int]
    class_property: str | None = None
    crs: str | None = None
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        drawn, orientation = self._draw(rasterise, record)
        return apply_orientation(drawn, orientation).astype(np.uint16, copy=False)

    def count_contested(self, record: Record) -> int:
        """See `DrawnSource.count_contested`."""
        return self._draw(count_contested, record)[0]

    def _draw(self, draw: Callable[..., T], record: Record) -> tuple[T, int]:
        """Call a function of `polygons` with the shapes of a record, and return the orientation of its image too."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no GeoJSON file")
        image, window = scene_of(record.image), window_at(record.image)
        place = read_georeference(image)
        with open_image(image) as file:
            tags = file.tiff_tags
        if place is None or tags is None:
            detail = (
                f"has no position on the map, so {record.mask.name} cannot be drawn on it; it has to be a GeoTIFF with "
                "scale and tie point"
            )
            raise DefectError(DefectKind.UNREADABLE_IMAGE, record.image, detail)
        if window is None:
            check_pixel_count(image, tags.height, tags.width)
        with _ONE_AT_A_TIME:
            layer = _layer_on(record.mask, file_state(record.mask), self.class_property, self.crs, place.crs)
            layers = {} if window is None else _layers_on(layer, place, tags.height, tags.width)
        top, left, height, width = (0, 0, tags.height, tags.width) if window is None else window[1:]
        met, where = layer.within(place.bounds(height, width, top=top, left=left)), Location(layer.path)
        shapes = [self._shape(layer.features[index], place, where, layers.get(index, 0)) for index in met]
        return draw(shapes, height=height, width=width, where=where, corner=(top, left)), place.orientation

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _shape(self, feature: Feature, place: Georeference, where: Location, layer: int) -> Shape:
        value = 1
        if self.class_property is not None:
            name = feature.name or ""
            if name not in self.values:
                raise where.error(f"{self.class_property}={name!r} was added after the dataset was opened; start again")
            value = self.values[name]
        return Shape(value, _in_pixels(feature, place), layer)


def _in_pixels(feature: Feature, place: Georeference) -> list[list[Ring]]:
    return [[place.to_pixels(ring) for ring in part] for part in feature.parts]


_ONE_AT_A_TIME = threading.Lock()  # threads that need the same large file wait until the first has read it


@lru_cache(maxsize=64)  # scenes, whose windows need their file again and again
def _layer_on(path: Path, state: tuple[object, ...], class_property: str | None, crs: str | None, target: str) -> Layer:
    """The polygons of a file in the coordinate system of an image; `state` differs if the file was changed."""
    layer = read_geojson(path, class_property)
    if crs == OF_IMAGE or not layer.features:
        return layer
    try:
        source = parse_crs(crs or layer.crs or WGS84)
    except DataError as error:
        raise DataError(f"{path}: {error} (data.vector_crs)") from None
    if is_geographic(source):
        _refuse_large_angles(layer, named=crs or layer.crs)
    if not target:
        raise DataError(
            f"{path}: the image has a position but no coordinate system; set data.vector_crs={OF_IMAGE} if the "
            "polygons are in the same one"
        )
    return _moved(layer, source, target)


@lru_cache(maxsize=64)
def _layers_on(layer: Layer, place: Georeference, height: int, width: int) -> dict[int, int]:
    """By the index of each feature that meets a scene its layer in windows."""
    met = layer.within(place.bounds(height, width))
    areas = (_in_pixels(layer.features[index], place) for index in met)
    return dict(zip(met, drawing_order(areas, height=height, width=width, where=Location(layer.path)), strict=True))


def _moved(layer: Layer, source: str, target: str) -> Layer:
    rings = [ring for feature in layer.features for part in feature.parts for ring in part]
    try:
        moved = reproject(np.concatenate(rings), source=source, target=target)
    except DataError as error:
        raise DataError(f"{layer.path}: {error}") from None
    following = iter(np.split(moved, np.cumsum([len(ring) for ring in rings])[:-1]))
    features = [
        feature._replace(parts=[[next(following) for _ in part] for part in feature.parts])
        for feature in layer.features
    ]
    return Layer(layer.path, target, tuple(features), bounds_of(features))


def _refuse_large_angles(layer: Layer, *, named: str | None) -> None:
    """Many files hold eastings and northings, although they declare (or omit, which means) degrees."""
    large = (np.abs(layer.bounds[:, [0, 2]]) > 360).any(axis=1) | (np.abs(layer.bounds[:, [1, 3]]) > 90).any(axis=1)
    if large.any():
        x, y = layer.bounds[int(np.flatnonzero(large)[0]), :2]
        reason = f"which is what {named} has" if named else "which is what files without a crs member have (RFC 7946)"
        raise DataError(
            f"{layer.path}: coordinates such as ({x:.8g}, {y:.8g}) are not longitude and latitude, {reason}; set "
            f"data.vector_crs={OF_IMAGE} if they are in the image's coordinate system, or name theirs "
            "(data.vector_crs=EPSG:32616)"
        )
