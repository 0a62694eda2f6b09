"""Where images lie on a map, and the way from one map's coordinates to another's: all that needs rasterio, and no more.

Coordinates are always (x, y): easting and northing, or longitude and latitude, as GeoJSON and GDAL's API have them,
whatever order the authority of a coordinate system prescribes.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.images.open_image import apply_orientation, decoding_errors
from pyramidseg.images.tiff import read_tiff_header

WGS84 = "EPSG:4326"
_URN = "urn:ogc:def:crs:"
_TURNED_BACK = {6: 8, 8: 6}
"""The orientation that undoes another one; all others undo themselves."""

Points = NDArray[np.float64]
"""(N, 2), x and y."""


class Georeference(NamedTuple):
    """How the pixels of an image, as they are stored, lie on a map.

    Attributes:
        crs: the map's coordinate system as WKT; empty where the file names none.
        transform: a, b, c, d, e, f of x = a * column + b * row + c, y = d * column + e * row + f, where (0, 0) is the
            outer corner of the first pixel.
        orientation: how the image is turned when it is read, 1 to 8 as in EXIF; 1 but for rare files.
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

    def bounds(self, height: int, width: int) -> tuple[float, float, float, float]:
        """Least x and y, largest x and y of an image."""
        corners = self.to_map(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
        return (*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist())


def read_georeference(path: Path) -> Georeference | None:
    """Where a GeoTIFF lies by its own tags, without files beside it; None for images that do not say.

    Raises:
        DataError: unreadable, or placed by a matrix that cannot be inverted.
        MissingExtra: rasterio is not installed.
    """
    header = read_tiff_header(path)
    if header is None or not header.georeferenced:
        return None
    rasterio = _rasterio(f"{path}: its place on the map")
    # Without a look at the folder, which GDAL would list anew for every file of a hundred thousand.
    alone = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR")
    with decoding_errors(path), alone, rasterio.open(path, driver="GTiff") as file:
        crs = file.crs.to_wkt() if file.crs else ""
        found = Georeference(crs, tuple(file.transform)[:6], header.orientation)
    a, b, _, d, e, _ = found.transform
    if (
        not np.isfinite(found.transform).all()
        or not 1e-30 < abs(a * e - b * d) < 1e30
        or np.ptp(found.transform) > 1e15
    ):
        raise DefectError(DefectKind.DAMAGED, path, f"its georeference {found.transform} is none that a map could have")
    return found


def parse_crs(name: str) -> str:
    """A coordinate system, by code (`EPSG:32616`), URN, PROJ string or WKT, as WKT.

    URNs are read as people write them: `urn:ogc:def:crs:EPSG::32616`, with a version, without the second colon, or with
    the authority twice.

    Raises:
        DataError: there is none of this name.
        MissingExtra: rasterio is not installed.
    """
    words = name.strip()
    if words.lower().startswith(_URN):
        parts = words[len(_URN) :].split(":")
        words = f"{parts[0]}:{parts[-1]}"
    known = _rasterio("reading coordinate systems").crs.CRS
    # Which of them a name is, is decided here: GDAL would also take it for a file or an address, and read that.
    if re.fullmatch(r"[A-Za-z]+:\w+", words):
        read = known.from_user_input
    elif words.startswith("+proj="):
        read = known.from_proj4
    else:
        read = known.from_wkt
    try:
        return str(read(words).to_wkt())
    except Exception:  # of many kinds, for names of many kinds
        raise DataError(
            f"{name[:80]!r} is no coordinate system that is known; EPSG:32616 is one, for instance"
        ) from None


def is_geographic(crs: str) -> bool:
    """Whether coordinates are longitudes and latitudes in degrees."""
    return bool(_rasterio("reading coordinate systems").crs.CRS.from_wkt(crs).is_geographic)


def reproject(points: Points, *, source: str, target: str) -> Points:
    """Points of one coordinate system in another one.

    Args:
        source, target: as WKT.

    Raises:
        DataError: a point that has no place there.
    """
    if source == target or not len(points):
        return points
    rasterio = _rasterio("changing coordinate systems")
    systems = [rasterio.crs.CRS.from_wkt(crs) for crs in (source, target)]
    if systems[0] == systems[1]:
        return points
    try:
        columns = rasterio.warp.transform(*systems, points[:, 0], points[:, 1])
    except Exception as error:  # GDAL's own errors have no public class
        reason = " ".join(str(error).split())
        raise DataError(f"coordinates have no place on the image's map: {reason}") from None
    moved = np.array(columns, np.float64).T
    if not np.isfinite(moved).all():
        raise DataError("coordinates have no place on the image's map")
    return moved


def encode_geotiff(
    labels: NDArray[np.uint8], place: Georeference, *, palette: NDArray[np.uint8], tags: Mapping[str, str]
) -> bytes:
    """Labels as a GeoTIFF file of one band with a colour table, deflate-compressed, in tiles where it is large.

    Args:
        labels: (H, W), of the image that `place` was read from, turned as it was.
        palette: (256, 3).
        tags: metadata by name.
    """
    stored = apply_orientation(labels, _TURNED_BACK.get(place.orientation, place.orientation))
    height, width = stored.shape
    rasterio = _rasterio("writing GeoTIFF")
    options: dict[str, Any] = {
        "driver": "GTiff",
        "height": height,
        "width": width,
        "count": 1,
        "dtype": "uint8",
        "crs": rasterio.crs.CRS.from_wkt(place.crs) if place.crs else None,
        "transform": rasterio.Affine(*place.transform),
        "compress": "deflate",
        **({"tiled": True, "blockxsize": 256, "blockysize": 256} if min(height, width) > 256 else {}),
    }
    with rasterio.MemoryFile() as memory:
        with memory.open(**options) as file:
            file.write(stored, 1)
            file.write_colormap(1, {index: tuple(color) for index, color in enumerate(palette.tolist())})
            file.update_tags(**tags)
        return bytes(memory.read())


def _rasterio(purpose: str) -> Any:
    try:
        import rasterio
        import rasterio.crs
        import rasterio.errors
        import rasterio.warp
    except ImportError:
        raise MissingExtra("rasterio", extra="geo", purpose=purpose) from None
    return rasterio
