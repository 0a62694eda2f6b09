"""Georeferences of images, coordinate systems and GeoTIFF output: everything that needs rasterio.

Coordinates are always (x, y), that is easting and northing, or longitude and latitude, as in GeoJSON and GDAL's API,
whatever axis order the authority of a coordinate system prescribes.
"""

import io
import math
import re
from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.images.file_checks import import_rasterio
from pyramidseg.images.open_image import apply_orientation, open_image

WGS84 = "EPSG:4326"
_URN = "urn:ogc:def:crs:"
_RADIUS, _ECCENTRICITY = 6378137.0, 0.0818191908426
"""Equatorial radius in metres, and eccentricity, of WGS 84."""

_STRAIGHT_PX = 32
"""Length of the pieces of edges whose corners are moved between coordinate systems for areas."""

_INVERSE_ORIENTATION = {6: 8, 8: 6}
"""The orientation that reverts another one; all others revert themselves."""

Points = NDArray[np.float64]
"""(N, 2), x and y."""


class Georeference(NamedTuple):
    """The position on a map of an image's pixels as stored.

    Attributes:
        crs: the coordinate system as WKT; empty if the file does not name one.
        transform: a, b, c, d, e, f of x = a * column + b * row + c, y = d * column + e * row + f, where (0, 0) is the
            outer corner of the first pixel.
        orientation: applied when the image is read, 1 to 8 as in EXIF; almost always 1.
    """

    crs: str
    transform: tuple[float, float, float, float, float, float]
    orientation: int = 1

    def to_pixels(self, points: Points) -> Points:
        """Map coordinates to column and row."""
        a, b, c, d, e, f = self.transform
        return np.asarray(np.linalg.solve(np.array([[a, b], [d, e]]), (points - (c, f)).T).T)

    def to_map(self, pixels: Points) -> Points:
        """Column and row to map coordinates."""
        a, b, c, d, e, f = self.transform
        return np.asarray(pixels @ np.array([[a, d], [b, e]]) + (c, f))

    def as_stored(self, picture: NDArray[Any]) -> NDArray[Any]:
        """An array (H, W, ...) in the orientation in which the image is shown, in that of its file."""
        return apply_orientation(picture, _INVERSE_ORIENTATION.get(self.orientation, self.orientation))

    def bounds(self, height: int, width: int, *, top: int = 0, left: int = 0) -> tuple[float, float, float, float]:
        """Minimum x and y, maximum x and y of an image, or of a window of it."""
        corners = self.to_map(np.array([*product((left, left + width), (top, top + height))], np.float64))
        return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def read_georeference(path: Path, content: bytes | None = None) -> Georeference | None:
    """The georeference in a GeoTIFF's own tags; None for other images. Sidecar files (.tfw, .aux.xml) are ignored.

    Args:
        content: of the file, if it is in memory; `path` is then only a name.

    Raises:
        DataError: the file is unreadable, or its transformation cannot be inverted.
        MissingExtra: rasterio is not installed.
    """
    with open_image(path, content, header_only=True) as image:
        header = image.tiff_tags
        if header is None or not header.georeferenced:
            return None
        rasterio = import_rasterio(f"{path}: its georeference")
        image.file.seek(0)
        source = image.file if isinstance(image.file, io.BytesIO) else path
        # GDAL would otherwise list the whole folder for every file.
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(source, driver="GTiff") as file:
            crs = file.crs.to_wkt() if file.crs else ""
            found = Georeference(crs, tuple(file.transform)[:6], header.orientation)
    a, b, _, d, e, _ = found.transform
    if (
        not np.isfinite(found.transform).all()
        or not 1e-30 < abs(a * e - b * d) < 1e30
        or np.ptp(found.transform) > 1e15
    ):
        detail = f"its georeference {found.transform} is not a valid transformation; correct or remove it"
        raise DefectError(DefectKind.DAMAGED, path, detail)
    return found


def parse_crs(name: str) -> str:
    """Convert the name of a coordinate system (code such as `EPSG:32616`, URN, PROJ string or WKT) to WKT.

    URNs are accepted in the usual variants: `urn:ogc:def:crs:EPSG::32616`, with a version, without the second colon, or
    with the authority twice.

    Raises:
        DataError: the name is unknown.
        MissingExtra: rasterio is not installed.
    """
    words = name.strip()
    if words.lower().startswith(_URN):
        parts = words[len(_URN) :].split(":")
        words = f"{parts[0]}:{parts[-1]}"
    known = import_rasterio("reading coordinate systems").crs.CRS
    # The kind of name is decided here: GDAL would also accept a file or URL, and read it.
    if re.fullmatch(r"[A-Za-z]+:\w+", words):
        read = known.from_user_input
    elif words.startswith("+proj="):
        read = known.from_proj4
    else:
        read = known.from_wkt
    try:
        return str(read(words).to_wkt())
    except Exception:  # of many types
        raise DataError(
            f"{name[:80]!r} is not a known coordinate system; use a code such as EPSG:32616, a PROJ string or WKT"
        ) from None


def is_geographic(crs: str) -> bool:
    """Whether the coordinates are longitude and latitude in degrees."""
    return bool(import_rasterio("reading coordinate systems").crs.CRS.from_wkt(crs).is_geographic)


def reproject(points: Points, *, source: str, target: str) -> Points:
    """Transform points from one coordinate system to another.

    Args:
        source, target: as WKT.

    Raises:
        DataError: a point has no coordinates in the target system.
    """
    if source == target or not len(points):
        return points
    rasterio = import_rasterio("transforming coordinates")
    systems = [rasterio.crs.CRS.from_wkt(crs) for crs in (source, target)]
    if systems[0] == systems[1]:
        return points
    try:
        columns = rasterio.warp.transform(*systems, points[:, 0], points[:, 1])
    except Exception as error:  # GDAL's own errors have no public class
        reason = " ".join(str(error).split())
        raise DataError(f"coordinates cannot be transformed to the image's coordinate system: {reason}") from None
    moved = np.array(columns, np.float64).T
    if not np.isfinite(moved).all():
        raise DataError("coordinates cannot be transformed to the image's coordinate system")
    return moved


def geodesic_areas(rings: Sequence[Points], place: Georeference) -> NDArray[np.float64]:
    """Signed areas in square metres of closed rings in pixels, on the ellipsoid of WGS 84; NaN for one around a pole.

    Edges are straight in the image; their pieces are straight on the ellipsoid's equal-area cylinder (Snyder, "Map
    projections: a working manual", 1987, page 16).
    """
    if not rings:
        return np.empty(0)
    tails = np.concatenate([ring[:-1] for ring in rings]).astype(np.float64)
    heads = np.concatenate([ring[1:] for ring in rings])
    pieces = np.ceil(np.abs(heads - tails).max(axis=1) / _STRAIGHT_PX).astype(np.int64)
    offsets = np.cumsum(pieces) - pieces
    edge = np.repeat(np.arange(len(pieces)), pieces)
    share = (np.arange(len(edge)) - offsets[edge]) / pieces[edge]
    points = tails[edge] + share[:, None] * (heads - tails)[edge]
    lon, lat = np.radians(reproject(place.to_map(points), source=place.crs, target=parse_crs(WGS84))).T
    begins = offsets[np.cumsum([0, *(len(ring) - 1 for ring in rings[:-1])])]
    following = np.arange(1, len(points) + 1)
    following[np.append(begins[1:], len(points)) - 1] = begins
    sine, e = np.sin(lat), _ECCENTRICITY
    q = (1 - e**2) * (sine / (1 - (e * sine) ** 2) + np.arctanh(e * sine) / e)
    turned = (lon[following] - lon + np.pi) % (2 * np.pi) - np.pi  # also across the 180th meridian
    areas = np.add.reduceat((q + q[following]) / 2 * turned, begins) * _RADIUS**2 / -2
    return np.where(np.abs(np.add.reduceat(turned, begins)) < np.pi, areas, np.nan)


def ground_resolution(place: Georeference | None, height: int, width: int) -> float | None:
    """Metres on the ground that a pixel in the middle of an image is wide and high; None without a place on Earth."""
    if place is None or not place.crs:
        return None
    square = np.array([(0, 0), (1, 0), (1, 1), (0, 1), (0, 0)]) * _STRAIGHT_PX + np.array([width, height]) / 2
    try:
        (area,) = geodesic_areas([square], place).tolist()
    except DataError:
        return None
    return math.sqrt(abs(area)) / _STRAIGHT_PX or None if math.isfinite(area) else None


def encode_geotiff(
    labels: NDArray[np.uint8], place: Georeference | None, *, palette: NDArray[np.uint8], tags: Mapping[str, str]
) -> bytes:
    """Encode labels as a GeoTIFF of one band with a colour table, deflate-compressed, and tiled if it is large.

    Args:
        labels: (H, W), of the image that `place` was read from, in its EXIF orientation.
        palette: (256, 3).
        tags: metadata by name.
    """
    stored = labels if place is None else place.as_stored(labels)
    height, width = stored.shape
    rasterio = import_rasterio("writing GeoTIFF")
    crs = rasterio.crs.CRS.from_wkt(place.crs) if place is not None and place.crs else None
    transform = None if place is None else rasterio.Affine(*place.transform)
    size = {"height": height, "width": width, "count": 1, "dtype": "uint8"}
    tiles = {"tiled": True, "blockxsize": 256, "blockysize": 256} if min(height, width) > 256 else {}
    with rasterio.MemoryFile() as memory:
        with memory.open("GTiff", crs=crs, transform=transform, compress="deflate", **size, **tiles) as file:
            file.write(stored, 1)
            file.write_colormap(1, {index: tuple(color) for index, color in enumerate(palette.tolist())})
            file.update_tags(**tags)
        return bytes(memory.read())
