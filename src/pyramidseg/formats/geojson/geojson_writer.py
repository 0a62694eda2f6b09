"""Writer of GeoJSON (RFC 7946): a file for each image, with polygons that share borders, in longitude and latitude.

Ignored pixels are polygons without a class, so that every pixel of a dataset can be read back.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from pyramidseg.annotations.contours import TracedRegion
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.errors import DataError, import_extra
from pyramidseg.formats.geojson.geojson_classes import NAMELESS
from pyramidseg.formats.label_regions import Outlines, not_outlined, outlined_classes
from pyramidseg.formats.label_writer import NO_CLASS_LIST, LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.polygon_labels import BACKGROUND, drawn_name
from pyramidseg.images.georeference import WGS84, Georeference, Points, parse_crs, read_georeference, reproject

CLASS_PROPERTY = "class"

_DECIMALS = 9
"""Of degrees: a tenth of a millimetre."""


Polygon = list[list[Points]]
"""Rings of each part, the outer one first; there is one part unless it has been cut at the 180th meridian."""


def place_rings(regions: Sequence[TracedRegion], place: Georeference | None, *, in_degrees: bool) -> list[Polygon]:
    """The rings of each region on the map: closed, outer rings counterclockwise, holes clockwise (y up or down).

    Args:
        place: None leaves them in pixels.
        in_degrees: longitude and latitude on WGS 84, in place of coordinates in the system of `place`; polygons that
            cross the 180th meridian are cut there, as GeoJSON asks (RFC 7946, section 3.1.9).

    Raises:
        DataError: a ring has no coordinates in the coordinate system, or is around a pole in degrees.
        MissingExtra: a polygon is to be cut, and shapely is not installed.
    """
    rings = [np.append(ring, ring[:1], axis=0).astype(np.float64) for region in regions for ring in region.rings]
    if not rings:
        return []
    points = np.concatenate(rings)
    if place is not None:
        points = reproject(place.to_map(points), source=place.crs, target=parse_crs(WGS84) if in_degrees else place.crs)
    placed = np.split(points, np.cumsum([len(ring) for ring in rings])[:-1])
    if in_degrees and place is not None:
        placed = [
            _continuous(ring, place) if np.ptp(own[:, 0]) > 180 else own
            for ring, own in zip(rings, placed, strict=True)
        ]
    x, y = (placed[0] - placed[0][0]).T  # an outer ring; near 0, where products are exact enough
    step = 1 if (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0 else -1
    following = iter(placed)
    polygons = [[next(following)[::step] for _ in region.rings] for region in regions]
    return [
        _cut(own) if in_degrees and place is not None and np.abs(own[0][:, 0]).max() > 180 else [own]
        for own in polygons
    ]


def _continuous(ring: Points, place: Georeference) -> Points:
    """Longitude and latitude of a ring in pixels, where longitude goes on beyond 180 and -180 degrees."""
    at = np.append(0, np.cumsum(np.ceil(np.abs(np.diff(ring, axis=0)).max(axis=1) / 4))).astype(np.int64)
    dense = np.stack([np.interp(np.arange(at[-1] + 1), at, side) for side in ring.T], axis=1)
    lon, lat = reproject(place.to_map(dense), source=place.crs, target=parse_crs(WGS84)).T
    lon = lon + 360 * np.round((np.unwrap(lon, period=360) - lon) / 360)  # rings that touch stay equal there
    if abs(lon[-1] - lon[0]) > 180:
        raise DataError(
            "a polygon is around a pole, where GeoJSON cannot have it; write masks, or polygons as "
            "geopackage (pyramidseg predict --save polygons --polygon-format geopackage)"
        )
    return np.stack([lon, lat], axis=1)[at]


def _cut(rings: Sequence[Points]) -> Polygon:
    """A polygon whose longitudes are continuous in parts between -180 and 180 degrees."""
    shapely = import_extra("shapely", extra="geo", purpose="cutting polygons at the 180th meridian")
    first, last = rings[0][:, 0].min(), rings[0][:, 0].max()
    holes = [np.add(hole, (360 * np.ceil((first - hole[:, 0].min() - 1e-9) / 360), 0)) for hole in rings[1:]]
    whole, parts = shapely.Polygon(rings[0], holes), []
    for turn in range(int(np.floor((first + 180) / 360)), int(np.ceil((last + 180) / 360))):
        own = shapely.get_parts(whole.intersection(shapely.box(360 * turn - 180, -90, 360 * turn + 180, 90)))
        for part in (shapely.geometry.polygon.orient(one) for one in own if one.geom_type == "Polygon"):
            parts.append([np.array(ring.coords) - (360 * turn, 0) for ring in (part.exterior, *part.interiors)])
    return parts


def encode_features(
    features: Iterable[tuple[Polygon, Mapping[str, Any]]], *, head: Mapping[str, Any] | None = None
) -> Iterator[bytes]:
    """A FeatureCollection of polygons with their properties, a line each; `head` has members before the others."""
    opened = json.dumps({**(head or {}), "type": "FeatureCollection"}, ensure_ascii=False)
    yield opened.removesuffix("}").encode() + b', "features": ['
    for number, (polygon, own) in enumerate(features):
        parts = [[np.round(ring, _DECIMALS).tolist() for ring in part] for part in polygon]
        whole = len(parts) == 1
        geometry = {"type": "Polygon" if whole else "MultiPolygon", "coordinates": parts[0] if whole else parts}
        feature = {"type": "Feature", "properties": dict(own), "geometry": geometry}
        yield (b",\n" if number else b"\n") + json.dumps(feature, ensure_ascii=False).encode()
    yield b"\n]}\n"


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    place = read_georeference(image.image)
    if place is None or not place.crs:
        raise DataError(
            f"{image.image}: has no place on the map in its own tags, so its labels cannot be written as GeoJSON; "
            "choose another format, such as labelme or coco"
        )
    certain = None if image.confidence is None else place.as_stored(image.confidence)
    stored = replace(image, labels=place.as_stored(image.labels), confidence=certain)
    background = [index for index in not_outlined(classes) if index != IGNORE]
    outlines = Outlines.of(stored, skip=background, simplify_px=0)
    regions = outlines.regions
    try:
        polygons = place_rings(regions, place, in_degrees=True)
    except DataError as error:
        raise DataError(f"{image.image}: {error}") from None
    names, found = dict(enumerate(classes.names)), {region.value for region in regions}
    properties: list[dict[str, Any]] = [{CLASS_PROPERTY: names.get(region.value)} for region in regions]
    for region, own in zip(regions, properties, strict=True) if certain is not None else ():
        own["confidence"] = stored.score(*outlines.pixels(region))["score"]
    content = b"".join(encode_features(zip(polygons, properties, strict=True)))
    files = {f"labels/{image.split}/{image.name}.geojson": content}
    return WrittenLabels(files, sorted({*names} & {*found}), outlines.lost())


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    found = {index for some in parts.values() for _, own in some for index in own}
    names = [classes.names[index] for index in sorted(found)]
    if len(outlined_classes(classes)) < len(classes):
        names.insert(0, BACKGROUND)
    content = {"format": "geo", "class_property": CLASS_PROPERTY, "classes": names}
    yield "dataset.yaml", iter([yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()])


def _read_as(name: str) -> str:
    return "" if name.strip() == NAMELESS else drawn_name(name)


GEOJSON = LabelWriter(
    "images/{split}/{name}", _encode, _assemble, has_outlines=True, lacks=NO_CLASS_LIST, read_as=_read_as
)
