"""GeoJSON as masks: a file's polygons with the names of their classes, drawn on the grid of a georeferenced image.

Coordinates are longitude and latitude on WGS 84 (RFC 7946) unless the file names another system, as in the
specification of 2008, which most GIS software still writes. Only corners are moved between coordinate systems; edges
stay straight. A pixel belongs to a polygon if its centre does (`annotations.polygons`); where polygons overlap, the
smaller is on top.
"""

import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import (
    Location,
    Ring,
    Shape,
    count_contested,
    drawing_order,
    parse_points,
    rasterise,
)
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.files import file_state
from pyramidseg.base.json_stream import members
from pyramidseg.data.index_masks import NamedValues
from pyramidseg.data.records import Record
from pyramidseg.images.file_checks import check_pixel_count
from pyramidseg.images.georeference import WGS84, Georeference, is_geographic, parse_crs, read_georeference, reproject
from pyramidseg.images.open_image import apply_orientation, open_image
from pyramidseg.images.scene_windows import scene_of, window_at

T = TypeVar("T")

OF_IMAGE = "image"
"""Value of `vector_crs`: the coordinate system of each image."""


class Feature(NamedTuple):
    """A polygon or several, with the value of the property that names the class.

    Attributes:
        name: None if no property was given, or the feature lacks it.
        parts: polygons, each an outline followed by its holes; of a MultiPolygon there are several.
    """

    name: str | None
    parts: list[list[Ring]]


@dataclass(frozen=True, eq=False)
class Layer:
    """The features of one file.

    Attributes:
        crs: the name in the file, or None.
        properties: names of all properties.
    """

    path: Path
    crs: str | None
    features: Sequence[Feature]
    properties: frozenset[str] = frozenset()

    @cached_property
    def bounds(self) -> NDArray[np.float64]:
        """(N, 4): least x and y, largest x and y of each feature."""
        points = (np.concatenate([ring for part in feature.parts for ring in part]) for feature in self.features)
        return np.array([(*own.min(0), *own.max(0)) for own in points], np.float64).reshape(-1, 4)

    def within(self, box: tuple[float, float, float, float]) -> list[int]:
        """Indices of the features whose bounds meet a box: minimum x and y, maximum x and y."""
        least, largest = np.hsplit(self.bounds, 2)
        found: list[int] = np.flatnonzero(((least <= box[2:]) & (largest >= box[:2])).all(1)).tolist()
        return found


@dataclass(frozen=True)
class GeoJsonMasks(NamedValues):
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

    def _shape(self, feature: Feature, place: Georeference, where: Location, layer: int) -> Shape:
        name = feature.name or ""
        if self.class_property is not None and name not in self.values:
            raise where.error(f"{self.class_property}={name!r} was added after the dataset was opened; start again")
        value = 1 if self.class_property is None else self.values[name]
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
    return Layer(layer.path, target, features)


def _refuse_large_angles(layer: Layer, *, named: str | None) -> None:
    """Many files hold eastings and northings, although they declare (or omit, which means) degrees."""
    large = (np.abs(layer.bounds) > (360, 90, 360, 90)).any(axis=1)
    if large.any():
        x, y = layer.bounds[int(np.flatnonzero(large)[0]), :2]
        reason = f"which is what {named} has" if named else "which is what files without a crs member have (RFC 7946)"
        raise DataError(
            f"{layer.path}: coordinates such as ({x:.8g}, {y:.8g}) are not longitude and latitude, {reason}; set "
            f"data.vector_crs={OF_IMAGE} if they are in the image's coordinate system, or name theirs "
            "(data.vector_crs=EPSG:32616)"
        )


# Parsing.

_FARTHEST = 1e9
"""More than ten times around the Earth, in metres or in feet."""

_LINES = ("Point", "MultiPoint", "LineString", "MultiLineString")


def read_geojson(path: Path, class_property: str | None = None) -> Layer:
    """Parse a file: a FeatureCollection, a Feature or a single geometry.

    Raises:
        DefectError: everything that cannot be drawn: not GeoJSON, lines and points, or invalid coordinates.
    """
    top: dict[str, Any] = {}
    properties: set[str] = set()
    features: list[Feature] = []
    flaws = DefectCollector()
    count = 0
    for member in members(path):
        if member.key == "features":
            if member.value != []:
                with flaws.collect():
                    features += _feature(member.value, class_property, Location(path, f"feature {count}"))
                    properties |= _properties(member.value).keys()
                count += 1
        elif member.key in ("coordinates", "geometries"):  # elements come one by one
            top.setdefault(member.key, []).extend([] if member.value == [] else [member.value])
        else:
            top[member.key] = member.value
    crs = None
    with flaws.collect():
        crs = _named_crs(top.get("crs"), Location(path))
    if top.get("type") != "FeatureCollection":
        alone = top if top.get("type") == "Feature" else {"type": "Feature", "geometry": top}
        with flaws.collect():
            features = _feature(alone, class_property, Location(path))
    flaws.raise_if_any()
    return Layer(path, crs, features, frozenset(properties))


def _feature(content: Any, class_property: str | None, where: Location) -> list[Feature]:
    """A feature as a list, which is empty if it has no geometry (which is allowed)."""
    if not isinstance(content, dict) or content.get("type") != "Feature":
        raise where.error("is not a GeoJSON feature; export the layer as GeoJSON again")
    parts = list(_parts(content.get("geometry"), where))
    name = None if class_property is None else _name(_properties(content).get(class_property), class_property, where)
    return [Feature(name, parts)] if parts else []


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    found = feature.get("properties")
    return found if isinstance(found, dict) else {}


def _parts(geometry: Any, where: Location) -> Iterator[list[Ring]]:
    if geometry is None:
        return
    kind = geometry.get("type") if isinstance(geometry, dict) else None
    if kind == "GeometryCollection":
        for member in _list(geometry.get("geometries"), where):
            yield from _parts(member, where)
    elif kind in ("Polygon", "MultiPolygon"):
        coordinates = _list(geometry.get("coordinates"), where)
        for polygon in coordinates if kind == "MultiPolygon" else [coordinates]:
            if rings := [_ring(ring, where) for ring in _list(polygon, where)]:
                yield rings
    elif kind in _LINES:
        raise where.error(f"is a {kind}, which has no area; convert it to a polygon (buffer it), or remove it")
    else:
        raise where.error(f"geometry of type {str(kind)[:40]!r}; Polygon and MultiPolygon are read")


def _ring(positions: Any, where: Location) -> Ring:
    """Corners without heights."""
    points = _list(positions, where)
    if any(not isinstance(position, list) or len(position) < 2 for position in points):
        raise where.error("every point needs an x and a y ([[x1, y1], [x2, y2], ...])")
    ring = parse_points([position[:2] for position in points], where=where)
    if len(ring) < 3:
        raise where.error(f"a polygon of {len(ring)} points encloses nothing; 3 or more are needed")
    if (largest := np.abs(ring).max()) > _FARTHEST:
        raise where.error(f"the coordinate {largest:.6g} is not a place on Earth in any coordinate system; correct it")
    return ring


def _list(value: Any, where: Location) -> list[Any]:
    if not isinstance(value, list):
        raise where.error("coordinates are missing, or not nested as in GeoJSON")
    return value


def _name(value: Any, class_property: str, where: Location) -> str | None:
    """The value of a property (text, number or truth value) as the name of a class."""
    match value:
        case None:
            return None
        case bool():
            return str(value).lower()
        case float() if value.is_integer():
            return str(int(value))
        case str() | int() | float():
            return str(value).strip() or None
    raise where.error(f"{class_property} is a {type(value).__name__}, but the name of a class is text or a number")


def _named_crs(member: Any, where: Location) -> str | None:
    """The coordinate system of GeoJSON of 2008: by name, or by EPSG code."""
    if member is None:
        return None
    properties = member.get("properties") if isinstance(member, dict) else None
    name = properties.get("name", properties.get("code")) if isinstance(properties, dict) else None
    if isinstance(name, int) and not isinstance(name, bool):
        return f"EPSG:{name}"
    if not isinstance(name, str):
        raise where.error("its crs member names no coordinate system; name one (data.vector_crs), or remove it")
    return name
