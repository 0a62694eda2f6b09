"""Polygons of a segmentation as a layer for maps and databases: GeoJSON, GeoPackage, FlatGeobuf, GeoParquet.

A polygon is a region of one class, connected through the sides of pixels, with its holes; background has none. All
polygons of an image are made from its finished label map, by blocks of rows from the top, and share their borders.
They are written as they end. Coordinates are those of the image's coordinate system (in GeoJSON longitude and
latitude), or of its pixels, with y downwards, where it has none.
"""

import importlib.util
import json
import struct
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import RegionTracer, TracedRegion, doubled_area
from pyramidseg.annotations.polygons import Location, Shape, rasterise
from pyramidseg.annotations.small_regions import merge_small_regions
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.errors import ConfigError, import_extra, nearest
from pyramidseg.base.files import write_atomically
from pyramidseg.base.version import __version__
from pyramidseg.formats.geojson.geojson_writer import Polygon, encode_features, place_rings
from pyramidseg.formats.label_regions import not_outlined
from pyramidseg.images.georeference import Georeference, Points, geodesic_areas
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.segmentation import Segmentation

POLYGON_FORMATS = {"geojson": ".geojson", "geopackage": ".gpkg", "flatgeobuf": ".fgb", "geoparquet": ".parquet"}

_PIXELS, _AT_ONCE = 2**21, 2**14
"""Of an image whose regions are traced at a time; and polygons that are written at a time."""

_IN_PIXELS = "coordinates are pixels of the image, x to the right and y DOWN; (0, 0) is the outer corner of the first"


@dataclass(frozen=True)
class PolygonOptions:
    """How polygons are made.

    Attributes:
        format: a name in `POLYGON_FORMATS`.
        simplify_px: how far outlines may be moved to save corners (`removable_corners`).
        min_area_px: regions of fewer pixels are merged into a neighbour (`merge_small_regions`).
        block_rows: polygons are cut after so many rows of the image, which bounds the memory; 0 for none.
    """

    format: str = "geojson"
    simplify_px: float = 0.0
    min_area_px: float = 0
    block_rows: int = 0

    def __post_init__(self) -> None:
        if self.format not in POLYGON_FORMATS:
            raise ConfigError(
                f"polygon format {self.format}: cannot be written; {nearest(self.format, POLYGON_FORMATS)}"
            )
        for name in ("simplify_px", "min_area_px", "block_rows"):
            if not 0 <= (value := getattr(self, name)) < float("inf"):
                raise ConfigError(f"`{name}={value}`: must be a number of pixels, from 0 on")

    @property
    def suffix(self) -> str:
        """The file is `<stem><suffix>`."""
        return f"_polygons{POLYGON_FORMATS[self.format]}"


EXACT_POLYGONS = PolygonOptions()


def import_writer(format: str) -> Any:
    """The module that writes a format; None for GeoJSON, which needs none.

    Raises:
        MissingExtra: it is not installed.
    """
    if format == "geoparquet":
        return import_extra("pyarrow.parquet", extra="parquet", purpose=f"writing {format}")
    return None if format == "geojson" else import_extra("pyogrio.raw", extra="geo", purpose=f"writing {format}")


_Row = tuple[str, int, float | None, float]
_Features = Iterator[tuple[Polygon, _Row]]
_COLUMNS = ("class", "pixels", "area_m2", "confidence")
"""Attributes of polygons; the area is None without a place on the map."""

Read = Callable[[slice], tuple[NDArray[np.uint8], NDArray[np.float32]]]
"""Gives the labels and the confidence of rows of an image."""


def write_polygons(path: Path, segmentation: Segmentation, options: PolygonOptions) -> dict[str, int]:
    """Write the polygons of a segmentation that has confidence; returns `PolygonLayer.counts`."""
    labels, confidence, place = segmentation.labels, segmentation.confidence, segmentation.georeference
    assert confidence is not None, "this output needs a segmentation with confidence"
    if place is not None:
        labels, confidence = place.as_stored(labels), place.as_stored(confidence)
    pixels = labels, confidence
    layer = PolygonLayer(
        lambda rows: (pixels[0][rows], pixels[1][rows]), labels.shape, segmentation.classes, place, options
    )
    layer.write(path)
    return layer.counts


class PolygonLayer:
    """The polygons of an image whose rows are read several times, in blocks.

    Args:
        size: height and width, as stored.

    Attributes:
        counts: of what is written: `polygons`; pixels whose label changes if these are drawn again: `merged_px` by the
            minimum area, `moved_px` by the simplification; and `invalid`, the number of polygons that are not valid, if
            shapely is installed.
    """

    def __init__(
        self, read: Read, size: Sequence[int], classes: Classes, place: Georeference | None, options: PolygonOptions
    ) -> None:
        self._read, (self._height, self._width), self._options = read, size, options
        self._names, self._skip = classes.names, not_outlined(classes)
        self._place = place if place is not None and place.crs else None
        self.counts = {"polygons": 0, "merged_px": 0, "moved_px": 0}

    def write(self, path: Path) -> None:
        """Write the layer in the format of the options.

        Raises:
            DataError: a polygon has no coordinates in the format's coordinate system.
        """
        crs, note = (self._place.crs, "") if self._place is not None else ("", _IN_PIXELS)
        write = {"geojson": _write_geojson, "geoparquet": _write_geoparquet}.get(self._options.format, _write_by_gdal)
        write_atomically(path, lambda part: write(part, self._features(path), crs, note, self._options.format))

    def _features(self, path: Path) -> _Features:
        """The polygons, each with its attributes."""
        in_degrees = self._options.format == "geojson"
        shapely = importlib.import_module("shapely") if importlib.util.find_spec("shapely") is not None else None
        for regions in self._regions(Location(path)):
            polygons = place_rings(regions, self._place, in_degrees=in_degrees)
            if shapely is not None:
                parts = [_wkb(part) for parts in polygons for part in parts]
                own = int((~shapely.is_valid(shapely.from_wkb(parts))).sum())
                self.counts["invalid"] = self.counts.get("invalid", 0) + own
            self.counts["polygons"] += len(regions)
            yield from zip(polygons, self._attributes(regions), strict=True)

    def _regions(self, where: Location) -> Iterator[list[TracedRegion]]:
        """The regions, as they end; counts the pixels that change."""
        tracer = RegionTracer(self._width, skip=self._skip, simplify_px=self._options.simplify_px)
        starts = range(0, self._height, self._options.block_rows or self._height)
        for start in starts:
            for rows, before, labels, confidence in self._labels(start):
                self.counts["merged_px"] += int(np.count_nonzero(labels != before))
                own = np.where(labels == before, confidence, np.nan)  # not those that the model gave another class
                found = tracer.add(labels, own, cut=rows.start == start > 0)
                self._count_moved(found, start - starts.step, where)
                yield found
        found = tracer.finish()
        self._count_moved(found, starts[-1], where)
        yield found

    def _labels(self, start: int) -> Iterator[tuple[slice, NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]]:
        """Rows from one on to the next cut: labels without and with the small regions merged, and confidence."""
        end, step = min(self._height, start + (self._options.block_rows or self._height)), _PIXELS // self._width + 1
        parts = [slice(top, min(top + step, end)) for top in range(start, end, step)]
        if least := self._options.min_area_px:
            merged = merge_small_regions(lambda: map(self._read, parts), min_pixels=least, skip=[IGNORE])
        else:
            merged = (self._read(rows)[0] for rows in parts)
        for rows, labels in zip(parts, merged, strict=True):
            before, confidence = self._read(rows)
            yield rows, before, labels, confidence

    def _count_moved(self, regions: Sequence[TracedRegion], start: int, where: Location) -> None:
        """Count the pixels of other regions than the outlines enclose; where these are exact, by area alone."""
        if not self._options.simplify_px:
            areas = (sum(map(doubled_area, region.rings)) / 2 - region.pixels for region in regions)
            self.counts["moved_px"] += int(sum(map(abs, areas)))
            return
        limits = np.array([(region.rings[0][:, 1].min(), region.rings[0][:, 1].max()) for region in regions])
        for rows, _, labels, _ in self._labels(start) if regions else ():
            is_met = (limits[:, 0] < rows.stop) & (limits[:, 1] > rows.start)
            met = [regions[index] for index in np.flatnonzero(is_met).tolist()]
            rings = [[near for ring in region.rings if len(near := _near(ring, rows))] for region in met]
            shapes = [Shape(region.value + 1, [own]) for region, own in zip(met, rings, strict=True)]
            drawn = rasterise(shapes, height=len(labels), width=self._width, where=where)
            expected = np.where(np.isin(labels, self._skip), 0, labels.astype(np.uint16) + 1)
            self.counts["moved_px"] += int(np.count_nonzero(drawn != expected))

    def _attributes(self, regions: Sequence[TracedRegion]) -> Iterator[_Row]:
        areas: list[float | None] = [None] * len(regions)
        if self._place is not None and regions:
            rings = [
                np.append(ring, ring[:1], axis=0).astype(np.float64) for region in regions for ring in region.rings
            ]
            begins = np.cumsum([0, *(len(region.rings) for region in regions[:-1])])
            sizes = np.abs(np.add.reduceat(geodesic_areas(rings, self._place), begins)).tolist()
            areas = [None if np.isnan(size) else round(size, 4) for size in sizes]
        for region, area in zip(regions, areas, strict=True):
            yield self._names[region.value], region.pixels, area, round(region.mean, 4)


def _near(ring: NDArray[np.int64], rows: slice) -> Points:
    """A ring counted from the first of some rows, without corners between others on the same side of these rows."""
    y = ring[:, 1]
    side = (y > rows.stop).astype(np.int8) - (y < rows.start)
    kept = (side == 0) | (side != np.roll(side, 1)) | (side != np.roll(side, -1))
    return np.asarray(ring[kept] - (0, rows.start), np.float64)


def _write_geojson(part: Path, features: _Features, crs: str, note: str, _: str) -> None:
    head = {"pyramidseg": __version__, **({"coordinates": note} if note else {})}
    with part.open("wb") as file:
        named = ((polygon, dict(zip(_COLUMNS, row, strict=True))) for polygon, row in features)
        file.writelines(encode_features(named, head=head))


def _write_by_gdal(part: Path, features: _Features, crs: str, note: str, format: str) -> None:
    """A GeoPackage, to which features are appended; or a FlatGeobuf file, whose index needs all at once."""
    layer = part.with_name(f"layer{POLYGON_FORMATS[format]}")  # GDAL wants the extension
    at_once = _AT_ONCE if format == "geopackage" else None
    while (batch := list(islice(features, at_once))) or not layer.exists():
        columns = [*zip(*(row for _, row in batch), strict=True)] or [()] * len(_COLUMNS)
        import_writer(format).write(
            layer,
            np.array([_wkb(part) for (part,), _ in batch], object),
            [
                np.array(own, kind)
                for own, kind in zip(columns, (object, np.int64, np.float64, np.float64), strict=True)
            ],
            [*_COLUMNS],
            layer=SIGNATURE,
            driver={"geopackage": "GPKG", "flatgeobuf": "FlatGeobuf"}[format],
            geometry_type="Polygon",
            crs=crs or 'LOCAL_CS["image pixels, y down",UNIT["pixel",1]]',
            layer_options={"DESCRIPTION": f"{SIGNATURE} {__version__}; {note}"},
            append=layer.exists(),
        )
    layer.replace(part)


def _write_geoparquet(part: Path, features: _Features, crs: str, note: str, _: str) -> None:
    """GeoParquet 1.1; its metadata has a coordinate system of null for pixels, as none would mean degrees."""
    parquet, pa = import_writer("geoparquet"), sys.modules["pyarrow"]
    kinds = (pa.string(), pa.int64(), pa.float64(), pa.float64(), pa.binary())
    schema = pa.schema(list(zip((*_COLUMNS, "geometry"), kinds, strict=True)))
    low, high = np.full(2, np.inf), np.full(2, -np.inf)
    with parquet.ParquetWriter(part, schema, compression="zstd", store_schema=False) as file:
        while batch := list(islice(features, _AT_ONCE)):
            corners = np.concatenate([part[0] for (part,), _ in batch])
            low, high = np.minimum(low, corners.min(0)), np.maximum(high, corners.max(0))
            rows = [dict(zip(schema.names, (*row, _wkb(part)), strict=True)) for (part,), row in batch]
            file.write_table(pa.Table.from_pylist(rows, schema=schema))
        column = {
            "encoding": "WKB",
            "geometry_types": ["Polygon"] if np.isfinite(low).all() else [],
            "crs": sys.modules["rasterio"].crs.CRS.from_wkt(crs).to_dict(projjson=True) if crs else None,
            "orientation": "counterclockwise",
            "edges": "planar",
            "bbox": np.nan_to_num([*low, *high], posinf=0, neginf=0).tolist(),
        }
        geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": column}}
        file.add_key_value_metadata({"geo": json.dumps(geo), SIGNATURE: f"{__version__}; {note}"})


def _wkb(rings: Sequence[Points]) -> bytes:
    """A polygon as well-known binary, little-endian."""
    parts = [struct.pack("<BII", 1, 3, len(rings))]
    for ring in rings:
        parts += [struct.pack("<I", len(ring)), np.ascontiguousarray(ring, "<f8").tobytes()]
    return b"".join(parts)
