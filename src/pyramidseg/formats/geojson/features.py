"""GeoJSON files: areas with the name of their class, whatever the coordinates mean.

    {"type": "FeatureCollection", "features": [{"type": "Feature", "properties": {"roof": "tin"},
     "geometry": {"type": "Polygon", "coordinates": [[[-84.48, 33.64], ...], [hole], ...]}}, ...]}

Source: RFC 7946, and for the `crs` member the specification before it (2008), which most GIS software still writes.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Ring, Where, parse_points
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.json_stream import members

_FARTHEST = 1e9
"""More than ten times around the Earth, in metres or in feet."""

_LINES = ("Point", "MultiPoint", "LineString", "MultiLineString")


class Feature(NamedTuple):
    """An area, with the value of the property that names its class.

    Attributes:
        number: its place in the file, from 0.
        name: None where no property was asked for, or the feature has none.
        parts: polygons, each an outline followed by its holes; of a MultiPolygon there are several.
    """

    number: int
    name: str | None
    parts: list[list[Ring]]


@dataclass(frozen=True, eq=False)
class Layer:
    """The areas of one file.

    Attributes:
        crs: what the file names; None where it names none.
        bounds: (N, 4) of each feature: least x and y, largest x and y.
    """

    path: Path
    crs: str | None
    features: tuple[Feature, ...]
    bounds: NDArray[np.float64]


def read_geojson(path: Path, class_property: str | None = None) -> Layer:
    """The areas of a file: a FeatureCollection, a Feature or a single geometry.

    Raises:
        DataError: no GeoJSON, lines or points (which have no area), or coordinates that are none; all that is so.
    """
    top: dict[str, Any] = {}
    features: list[Feature] = []
    flaws = DefectCollector()
    count = 0
    for member in members(path):
        if member.key == "features":
            if member.value != []:
                with flaws.collect():
                    features += _feature(member.value, class_property, Where(path, f"feature {count}"), count)
                count += 1
        elif member.key in ("coordinates", "geometries"):  # elements come one by one
            top.setdefault(member.key, []).extend([] if member.value == [] else [member.value])
        else:
            top[member.key] = member.value
    crs = None
    with flaws.collect():
        crs = _named_crs(top.get("crs"), Where(path))
    if top.get("type") != "FeatureCollection":
        alone = top if top.get("type") == "Feature" else {"type": "Feature", "geometry": top}
        with flaws.collect():
            features = _feature(alone, class_property, Where(path), 0)
    flaws.raise_if_any()
    return Layer(path, crs, tuple(features), bounds_of(features))


def _feature(content: Any, class_property: str | None, where: Where, number: int) -> list[Feature]:
    """A feature as a list, empty where it has no geometry, as is allowed."""
    if not isinstance(content, dict) or content.get("type") != "Feature":
        raise where.flaw("is no GeoJSON feature; export the layer as GeoJSON anew")
    parts = list(_parts(content.get("geometry"), where))
    name = None
    if class_property is not None:
        properties = content.get("properties")
        name = _name(properties.get(class_property) if isinstance(properties, dict) else None, class_property, where)
    return [Feature(number, name, parts)] if parts else []


def _parts(geometry: Any, where: Where) -> Iterator[list[Ring]]:
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
        raise where.flaw(f"is a {kind}, which has no area; make polygons of it (buffer it), or take it out")
    else:
        raise where.flaw(f"geometry of type {str(kind)[:40]!r}; Polygon and MultiPolygon are read")


def _ring(positions: Any, where: Where) -> Ring:
    """Corners without heights."""
    points = _list(positions, where)
    if any(not isinstance(position, list) or len(position) < 2 for position in points):
        raise where.flaw("every point needs an x and a y ([[x1, y1], [x2, y2], ...])")
    ring = parse_points([position[:2] for position in points], where=where)
    if len(ring) < 3:
        raise where.flaw(f"a polygon of {len(ring)} points encloses nothing; 3 or more are needed")
    if (largest := np.abs(ring).max()) > _FARTHEST:
        raise where.flaw(f"the coordinate {largest:.6g} is no place on Earth in any coordinate system; correct it")
    return ring


def _list(value: Any, where: Where) -> list[Any]:
    if not isinstance(value, list):
        raise where.flaw("coordinates are missing, or nested otherwise than GeoJSON has them")
    return value


def _name(value: Any, class_property: str, where: Where) -> str | None:
    """The value of a property as the name of a class: text, or a number or truth value in words."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float) and value.is_integer():
        return str(int(value))
    if value is None or isinstance(value, (str, int, float)):
        return str(value).strip() or None if value is not None else None
    raise where.flaw(f"{class_property} is a {type(value).__name__}, and the name of a class is a text or a number")


def _named_crs(member: Any, where: Where) -> str | None:
    """The coordinate system of GeoJSON of 2008: by name, or by EPSG code."""
    if member is None:
        return None
    properties = member.get("properties") if isinstance(member, dict) else None
    name = properties.get("name", properties.get("code")) if isinstance(properties, dict) else None
    if isinstance(name, int) and not isinstance(name, bool):
        return f"EPSG:{name}"
    if not isinstance(name, str):
        raise where.flaw("its crs member names no coordinate system; name one (data.vector_crs), or take it out")
    return name


def bounds_of(features: list[Feature]) -> NDArray[np.float64]:
    """(N, 4): least x and y, largest x and y of each feature."""
    bounds = np.empty((len(features), 4))
    for index, feature in enumerate(features):
        points = np.concatenate([ring for part in feature.parts for ring in part])
        bounds[index] = (*points.min(axis=0), *points.max(axis=0))
    return bounds
