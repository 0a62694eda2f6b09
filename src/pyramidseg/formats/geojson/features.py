"""Parse a GeoJSON file into polygons with the names of their classes, in the coordinates of the file.

Source: RFC 7946, and for the `crs` member the specification before it (2008), which most GIS software still writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Ring, parse_points
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.json_stream import members

_FARTHEST = 1e9
"""More than ten times around the Earth, in metres or in feet."""

_LINES = ("Point", "MultiPoint", "LineString", "MultiLineString")


class Feature(NamedTuple):
    """A polygon or several, with the value of the property that names the class.

    Attributes:
        number: position in the file, from 0.
        name: None if no property was given, or the feature lacks it.
        parts: polygons, each an outline followed by its holes; of a MultiPolygon there are several.
    """

    number: int
    name: str | None
    parts: list[list[Ring]]


@dataclass(frozen=True, eq=False)
class Layer:
    """The features of one file.

    Attributes:
        crs: the name in the file, or None.
        bounds: (N, 4) of each feature: least x and y, largest x and y.
        properties: names of all properties.
    """

    path: Path
    crs: str | None
    features: tuple[Feature, ...]
    bounds: NDArray[np.float64]
    properties: frozenset[str] = frozenset()

    def within(self, box: tuple[float, float, float, float]) -> list[int]:
        """Indices of the features whose bounds meet a box: minimum x and y, maximum x and y."""
        (left, low, right, high), bounds = box, self.bounds
        met = (bounds[:, 0] <= right) & (bounds[:, 2] >= left) & (bounds[:, 1] <= high) & (bounds[:, 3] >= low)
        found: list[int] = np.flatnonzero(met).tolist()
        return found


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
                    features += _feature(member.value, class_property, Location(path, f"feature {count}"), count)
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
            features = _feature(alone, class_property, Location(path), 0)
    flaws.raise_if_any()
    return Layer(path, crs, tuple(features), bounds_of(features), frozenset(properties))


def _feature(content: Any, class_property: str | None, where: Location, number: int) -> list[Feature]:
    """A feature as a list, which is empty if it has no geometry (which is allowed)."""
    if not isinstance(content, dict) or content.get("type") != "Feature":
        raise where.error("is not a GeoJSON feature; export the layer as GeoJSON again")
    parts = list(_parts(content.get("geometry"), where))
    name = None
    if class_property is not None:
        name = _name(_properties(content).get(class_property), class_property, where)
    return [Feature(number, name, parts)] if parts else []


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
            rings = [_ring(ring, where) for ring in _list(polygon, where)]
            if rings:
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
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, (str, int, float)):
        return str(value).strip() or None if value is not None else None
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


def bounds_of(features: list[Feature]) -> NDArray[np.float64]:
    """(N, 4): least x and y, largest x and y of each feature."""
    bounds = np.empty((len(features), 4))
    for index, feature in enumerate(features):
        points = np.concatenate([ring for part in feature.parts for ring in part])
        bounds[index] = (*points.min(axis=0), *points.max(axis=0))
    return bounds
