"""Made GeoTIFF and GeoJSON files."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
import tifffile
from numpy.typing import NDArray

UTM = "EPSG:32616"
TRANSFORM = (0.5, 0.0, 733601.0, 0.0, -0.5, 3725139.0)

Ring = list[tuple[float, float]]


def write_image(
    path: Path,
    values: NDArray[Any],
    *,
    crs: str | None = UTM,
    transform: tuple[float, ...] = TRANSFORM,
    **options: Any,
) -> Path:
    """(H, W, C) as a GeoTIFF."""
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width, count = values.shape
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        height=height,
        width=width,
        count=count,
        dtype=values.dtype,
        crs=crs,
        transform=rasterio.Affine(*transform),
        **options,
    ) as file:
        file.write(np.moveaxis(values, 2, 0))
    return path


def write_turned(path: Path, pixels: NDArray[np.uint8], orientation: int) -> None:
    """A GeoTIFF in UTM with an EXIF orientation; its place on the map is that of its rows and columns."""
    a, _, x, _, e, y = TRANSFORM
    place = [(33550, "d", 3, (a, -e, 0.0), True), (33922, "d", 6, (0, 0, 0, x, y, 0), True)]
    keys = (1, 1, 0, 3, 1024, 0, 1, 1, 1025, 0, 1, 1, 3072, 0, 1, int(UTM.removeprefix("EPSG:")))
    tags = [*place, (34735, "H", len(keys), keys, True), (274, "H", 1, orientation, True)]
    tifffile.imwrite(path, pixels, photometric="rgb", metadata=None, extratags=tags)


def on_map(ring: Ring, transform: tuple[float, ...] = TRANSFORM) -> Ring:
    """Column and row to map coordinates."""
    a, b, c, d, e, f = transform
    return [(a * x + b * y + c, d * x + e * y + f) for x, y in ring]


def box(left: float, top: float, right: float, bottom: float) -> Ring:
    return [(left, top), (right, top), (right, bottom), (left, bottom), (left, top)]


def polygon(*rings: Ring) -> dict[str, Any]:
    return {"type": "Polygon", "coordinates": [[list(point) for point in ring] for ring in rings]}


def feature(geometry: dict[str, Any] | None, **properties: Any) -> dict[str, Any]:
    return {"type": "Feature", "properties": properties, "geometry": geometry}


def write_geojson(path: Path, features: list[dict[str, Any]], *, crs: str | None = UTM) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    content: dict[str, Any] = {"type": "FeatureCollection", "features": features}
    if crs is not None:
        authority, code = crs.split(":")
        content["crs"] = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:{authority}::{code}"}}
    path.write_text(json.dumps(content))
    return path
