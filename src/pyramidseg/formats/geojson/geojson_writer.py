"""Writer of GeoJSON (RFC 7946): a file for each image, with polygons that share borders, in longitude and latitude.

Ignored pixels are polygons without a class, so that every pixel of a dataset can be read back.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import yaml

from pyramidseg.annotations.contours import Region
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.errors import DataError
from pyramidseg.formats.label_regions import Outlines, not_outlined, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.polygon_labels import BACKGROUND
from pyramidseg.images.georeference import WGS84, Georeference, Points, parse_crs, read_georeference, reproject

CLASS_PROPERTY = "class"

_DECIMALS = 9
"""Of degrees: a tenth of a millimetre."""


def place_rings(
    regions: Sequence[Region], place: Georeference | None, *, in_degrees: bool, image: str
) -> list[list[Points]]:
    """The rings of each region on the map: closed, outer rings counterclockwise, holes clockwise (y up or down).

    Args:
        place: None leaves them in pixels.
        in_degrees: longitude and latitude on WGS 84, as in GeoJSON, in place of coordinates in the system of `place`.

    Raises:
        DataError: a ring has no coordinates in the coordinate system, or would have to be cut at the 180th meridian.
    """
    rings = [np.append(ring, ring[:1], axis=0).astype(np.float64) for region in regions for ring in region.rings]
    if not rings:
        return []
    points = np.concatenate(rings)
    if place is not None:
        points = reproject(place.to_map(points), source=place.crs, target=parse_crs(WGS84) if in_degrees else place.crs)
    placed = np.split(points, np.cumsum([len(ring) for ring in rings])[:-1])
    if place is not None and in_degrees and any(np.ptp(ring[:, 0]) > 180 for ring in placed):
        raise DataError(
            f"{image}: a polygon crosses the 180th meridian, where GeoJSON cannot have it in one piece; write "
            "--save polygons --polygon-format geopackage, or masks"
        )
    x, y = (placed[0] - placed[0][0]).T  # an outer ring; near 0, where products are exact enough
    step = 1 if (x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0 else -1
    following = iter(placed)
    return [[next(following)[::step] for _ in region.rings] for region in regions]


def encode_features(
    polygons: Sequence[Sequence[Points]],
    properties: Iterable[Mapping[str, Any]],
    *,
    head: Mapping[str, Any] | None = None,
) -> Iterator[bytes]:
    """A FeatureCollection of polygons, a line each; `head` has members before the others."""
    opened = json.dumps({**(head or {}), "type": "FeatureCollection"}, ensure_ascii=False)
    yield opened.removesuffix("}").encode() + b', "features": ['
    for number, (rings, own) in enumerate(zip(polygons, properties, strict=True)):
        geometry = {"type": "Polygon", "coordinates": [np.round(ring, _DECIMALS).tolist() for ring in rings]}
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
    stored = replace(image, labels=place.as_stored(image.labels))
    background = [index for index in not_outlined(classes) if index != IGNORE]
    outlines = Outlines.of(stored, skip=background, simplify_px=0)
    regions = outlines.regions
    polygons = place_rings(regions, place, in_degrees=True, image=str(image.image))
    names, found = dict(enumerate(classes.names)), {region.value for region in regions}
    properties = [{CLASS_PROPERTY: names.get(region.value)} for region in regions]
    content = b"".join(encode_features(polygons, properties))
    files = {f"labels/{image.split}/{image.name}.geojson": content}
    return WrittenLabels(files, sorted({*names} & {*found}), outlines.lost())


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    found = {index for some in parts.values() for _, own in some for index in own}
    names = [classes.names[index] for index in sorted(found)]
    if len(outlined_classes(classes)) < len(classes):
        names.insert(0, BACKGROUND)
    content = {"format": "geo", "class_property": CLASS_PROPERTY, "classes": names}
    yield "dataset.yaml", iter([yaml.safe_dump(content, sort_keys=False, allow_unicode=True).encode()])


GEOJSON = LabelWriter("images/{split}/{name}", _encode, _assemble, has_outlines=True)
