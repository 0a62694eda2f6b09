"""Polygons of a segmentation as a layer for maps and databases: GeoJSON, GeoPackage, FlatGeobuf, GeoParquet.

A polygon is a region of one class, connected through the sides of pixels, with its holes; background has none. All
polygons of an image have been made from its finished label map and share their borders. Coordinates are those of the
image's coordinate system (in GeoJSON longitude and latitude), or of its pixels, with y downwards, where it has none.
"""

import importlib.util
import json
import struct
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import Region, number_regions
from pyramidseg.annotations.polygons import Location
from pyramidseg.annotations.small_regions import merge_small_regions
from pyramidseg.base.errors import ConfigError, import_extra, nearest
from pyramidseg.base.files import write_atomically
from pyramidseg.base.version import __version__
from pyramidseg.formats.geojson.geojson_writer import encode_features, place_rings
from pyramidseg.formats.label_regions import Outlines, not_outlined
from pyramidseg.images.georeference import Georeference, Points, geodesic_areas
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.segmentation import Segmentation

POLYGON_FORMATS = {"geojson": ".geojson", "geopackage": ".gpkg", "flatgeobuf": ".fgb", "geoparquet": ".parquet"}

_IN_PIXELS = "coordinates are pixels of the image, x to the right and y DOWN; (0, 0) is the outer corner of the first"


@dataclass(frozen=True)
class PolygonOptions:
    """How polygons are made.

    Attributes:
        format: a name in `POLYGON_FORMATS`.
        simplify_px: how far outlines may be moved to save corners (`removable_corners`).
        min_area_px: regions of fewer pixels are merged into a neighbour (`merge_small_regions`).
    """

    format: str = "geojson"
    simplify_px: float = 0.0
    min_area_px: int = 0

    def __post_init__(self) -> None:
        if self.format not in POLYGON_FORMATS:
            raise ConfigError(
                f"polygon format {self.format}: cannot be written; {nearest(self.format, POLYGON_FORMATS)}"
            )
        for name in ("simplify_px", "min_area_px"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ConfigError(f"{name}={value}: must be a number of pixels, from 0 on")


EXACT_POLYGONS = PolygonOptions()


def import_writer(format: str) -> Any:
    """The module that writes a format; None for GeoJSON, which needs none.

    Raises:
        MissingExtra: it is not installed.
    """
    if format == "geoparquet":
        return import_extra("pyarrow.parquet", extra="parquet", purpose=f"writing {format}")
    return None if format == "geojson" else import_extra("pyogrio.raw", extra="geo", purpose=f"writing {format}")


_Columns = dict[str, list[Any]]
"""Attributes of polygons by name: `class`, `pixels`, `area_m2` (None without a place on the map), `confidence`."""


def write_polygons(path: Path, segmentation: Segmentation, options: PolygonOptions) -> dict[str, int]:
    """Write the polygons of a segmentation that has confidence.

    Returns:
        `polygons`; pixels whose label changes if these are drawn again: `merged_px` by the minimum area, `moved_px` by
        the simplification; and `invalid`, the number of polygons that are not valid, if shapely is installed.

    Raises:
        DataError: a polygon has no coordinates in the format's coordinate system.
    """
    labels, confidence, classes = segmentation.labels, segmentation.confidence, segmentation.classes
    assert confidence is not None, "this output needs a segmentation with confidence"
    place = segmentation.georeference if segmentation.georeference and segmentation.georeference.crs else None
    if place is not None:
        labels, confidence = place.as_stored(labels), place.as_stored(confidence)
    merged = merge_small_regions(labels, confidence, min_pixels=options.min_area_px) if options.min_area_px else labels
    skip = not_outlined(classes)
    outlines = Outlines(merged, skip, options.simplify_px, Location(path))
    regions, moved = outlines.regions, outlines.count_moved()
    columns = _attributes(regions, merged, classes.names, np.where(merged == labels, confidence, np.nan), skip, place)
    crs = place.crs if place is not None else ""
    polygons = place_rings(regions, place, in_degrees=options.format == "geojson", image=str(path))
    invalid = {}
    if importlib.util.find_spec("shapely") is not None:
        shapely = importlib.import_module("shapely")
        invalid["invalid"] = int((~shapely.is_valid(shapely.from_wkb([_wkb(rings) for rings in polygons]))).sum())
    write_atomically(path, lambda part: _write(part, options.format, polygons, columns, crs))
    changed = int(np.count_nonzero(merged != labels))
    return {"polygons": len(regions), "merged_px": changed, "moved_px": moved, **invalid}


def _attributes(
    regions: Sequence[Region],
    labels_HW: NDArray[np.uint8],
    names: Sequence[str],
    confidence_HW: NDArray[np.floating],
    skip: Sequence[int],
    place: Georeference | None,
) -> _Columns:
    """Confidence is the mean of the pixels that the model gave this class; merged ones, which are NaN, do not count."""
    numbers = number_regions(labels_HW, skip=skip)
    known = ~np.isnan(confidence_HW)
    sums = np.bincount(numbers[known], weights=confidence_HW[known], minlength=len(regions) + 1)
    counts = np.bincount(numbers[known], minlength=len(regions) + 1)
    own = [region.number for region in regions]
    areas: list[float | None] = [None] * len(regions)
    if place is not None and regions:
        rings = [np.append(ring, ring[:1], axis=0).astype(np.float64) for region in regions for ring in region.rings]
        begins = np.cumsum([0, *(len(region.rings) for region in regions[:-1])])
        sizes = np.abs(np.add.reduceat(geodesic_areas(rings, place), begins)).tolist()
        areas = [None if np.isnan(size) else round(size, 4) for size in sizes]
    return {
        "class": [names[region.value] for region in regions],
        "pixels": [region.pixels for region in regions],
        "area_m2": areas,
        "confidence": np.round(sums[own] / counts[own], 4).tolist(),
    }


def _write(part: Path, format: str, polygons: Sequence[Sequence[Points]], columns: _Columns, crs: str) -> None:
    """Write a file in a format; `crs` is empty for pixel coordinates."""
    note = "" if crs else _IN_PIXELS
    if format == "geojson":
        properties = (dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True))
        head = {"pyramidseg": __version__, **({"coordinates": note} if note else {})}
        with part.open("wb") as file:
            file.writelines(encode_features(polygons, properties, head=head))
    elif format == "geoparquet":
        _write_geoparquet(part, polygons, columns, crs, note)
    else:
        layer = part.with_name(f"layer{POLYGON_FORMATS[format]}")  # GDAL wants the extension
        types = (object, np.int64, np.float64, np.float64)
        import_writer(format).write(
            layer,
            np.array([_wkb(rings) for rings in polygons], object),
            [np.array(values, kind) for values, kind in zip(columns.values(), types, strict=True)],
            [*columns],
            layer=SIGNATURE,
            driver={"geopackage": "GPKG", "flatgeobuf": "FlatGeobuf"}[format],
            geometry_type="Polygon",
            crs=crs or 'LOCAL_CS["image pixels, y down",UNIT["pixel",1]]',
            layer_options={"DESCRIPTION": f"{SIGNATURE} {__version__}; {note}"},
        )
        layer.replace(part)


def _write_geoparquet(part: Path, polygons: Sequence[Sequence[Points]], columns: _Columns, crs: str, note: str) -> None:
    """GeoParquet 1.1; its metadata has a coordinate system of null for pixels, as none would mean degrees."""
    writer, pa = import_writer("geoparquet"), sys.modules["pyarrow"]
    corners = np.concatenate([rings[0] for rings in polygons]) if polygons else np.zeros((1, 2))
    column = {
        "encoding": "WKB",
        "geometry_types": ["Polygon"] if polygons else [],
        "crs": sys.modules["rasterio"].crs.CRS.from_wkt(crs).to_dict(projjson=True) if crs else None,
        "orientation": "counterclockwise",
        "edges": "planar",
        "bbox": [*corners.min(0).tolist(), *corners.max(0).tolist()],
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
    types = (pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.binary())
    content = {**columns, "geometry": [_wkb(rings) for rings in polygons]}
    layer = pa.table(content, schema=pa.schema(list(zip(content, types, strict=True))))
    metadata = {"geo": json.dumps(geo), SIGNATURE: f"{__version__}; {note}"}
    writer.write_table(layer.replace_schema_metadata(metadata), part, compression="zstd")


def _wkb(rings: Sequence[Points]) -> bytes:
    """A polygon as well-known binary, little-endian."""
    parts = [struct.pack("<BII", 1, 3, len(rings))]
    for ring in rings:
        parts += [struct.pack("<I", len(ring)), np.ascontiguousarray(ring, "<f8").tobytes()]
    return b"".join(parts)
