"""GeoTIFF, BigTIFF, COG and VRT files of any size, read in windows by rasterio."""

import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.safe_paths import open_regular
from pyramidseg.images.decode import PIXEL_TYPES, ImageHeader
from pyramidseg.images.file_checks import decoding_errors, import_rasterio
from pyramidseg.images.georeference import Georeference, ground_resolution
from pyramidseg.images.scene import Mask, Scene, ScenePlace
from pyramidseg.images.tiff import raw_tags

CACHE_BYTES = 2**26
"""GDAL's cache of decoded blocks; blocks as wide as the image need more."""


class RasterScene(Scene):
    """A raster file. Other files next to it (.tfw, .aux.xml) are ignored.

    It may be a mask (`labels`) of bits or with a palette; one with a place on a map can be read at metres per pixel.

    Raises:
        DataError: it cannot be opened, or has values that are not read.
        MissingExtra: rasterio is not installed.
    """

    def __init__(self, path: Path, *, labels: bool = False, resample_m: float | None = None) -> None:
        self._rasterio = import_rasterio(f"{path}: reading it in windows")
        super().__init__(path)
        self._row_bytes, self._grid = 0, dict[str, Any]()
        with decoding_errors(path):
            with open_regular(path) as start:
                tiff = raw_tags(start) if start.read(2) in (b"II", b"MM") else None
            self._driver = "VRT" if tiff is None else "GTiff"
            file = self.open()
            if resample_m is not None and file.crs and not file.transform.is_identity:
                file = self._resample(file, resample_m)
            self.idle.put(file)
        colors = [interpretation.name for interpretation in file.colorinterp]
        orientation = 1 if tiff is None else tiff.orientation
        special = {**file.tags(ns="IMAGE_STRUCTURE"), **file.tags(1, ns="IMAGE_STRUCTURE")}
        self.is_lossy = "JPEG" in special.get("COMPRESSION", "")
        kind = f"{colors[0]}, {', '.join(sorted(set(file.dtypes)))}, orientation {orientation}"
        types = len(set(file.dtypes)) == 1 and (labels or file.dtypes[0] in PIXEL_TYPES)
        inverted = "MINISWHITE" in special or (special.get("NBITS") == "1" and not labels)
        if colors[0] in ("palette", "cyan")[labels:] or not types or inverted or orientation != 1:
            detail = f"this kind ({kind}) is not read in windows; convert it (gdal_translate) to upright grey or RGB"
            raise DefectError(DefectKind.UNREADABLE_IMAGE, path, detail)
        dtype = "float32" if file.dtypes[0].startswith("float") else file.dtypes[0]
        alpha = colors[-1] == "alpha" or (tiff is not None and tiff.alpha)
        color = colors[:3] == ["red", "green", "blue"] and file.count == 3 + alpha and dtype in ("uint8", "uint16")
        points, points_crs = file.gcps
        transform = None if file.transform.is_identity else tuple(file.transform)[:6]
        mapped = transform is not None or bool(points)
        self._mask = [self._rasterio.enums.MaskFlags.per_dataset] in file.mask_flag_enums
        nodata = file.nodata is not None or dtype == "float32" or (mapped and alpha) or self._mask
        self.header = ImageHeader(file.height, file.width, file.count, dtype, alpha, color, nodata, 1, mapped)
        self.nodata_value = file.nodata
        crs = points_crs if points else file.crs
        corners = tuple((point.col, point.row, point.x, point.y, point.z or 0.0) for point in points)
        self.place = ScenePlace(crs.to_wkt() if crs else "", transform, corners)
        if self._driver == "VRT":  # its parts are shared by all handles: one that fails in a thread is zeros in others
            self.reading_threads = 1
        if file.block_shapes[0][1] > file.width // 2:  # all windows of a row need the same blocks
            self.reading_threads = 1
            self._row_bytes = file.width * file.count * np.dtype(file.dtypes[0]).itemsize

    def read(self, rows: slice, columns: slice) -> tuple[NDArray[Any], Mask | None]:
        window = self._rasterio.windows.Window.from_slices(rows, columns)
        try:
            with self._environment(), self.handle() as file, np.errstate(over="ignore"):
                values = np.moveaxis(file.read(window=window), 0, -1).astype(self.header.dtype, copy=False)
                return values, file.dataset_mask(window=window) == 0 if self._mask else None
        except self._rasterio.errors.RasterioError as error:  # its cause names the part of a mosaic
            raise DefectError(DefectKind.DAMAGED, self.path, str(error.__cause__ or error).rstrip(".")) from error

    def open(self) -> Any:
        with self._environment():
            file = self._rasterio.open(self.path, driver=self._driver)
            return self._rasterio.vrt.WarpedVRT(file, **self._grid) if self._grid else file

    def _resample(self, file: Any, metres: float) -> Any:
        """The file on a grid of this resolution, which covers the same area."""
        place = Georeference(file.crs.to_wkt(), tuple(file.transform)[:6])
        if (found := ground_resolution(place, *file.shape)) is None:
            return file
        if not 0.01 <= metres / found <= 100:
            detail = (
                f"has pixels of {found:.3g} m, and `resample={metres:g}` differs more than 100 times: choose metres"
            )
            raise DataError(f"{self.path}: {detail} per pixel, such as {found:.3g}")
        self.full, (a, b, c, d, e, f) = (ScenePlace(*place[:2]), file.shape), place.transform
        height, width = (max(1, round(side * found / metres)) for side in file.shape)
        x, y, enums = file.width / width, file.height / height, self._rasterio.enums
        self._grid = {"crs": file.crs, "transform": self._rasterio.Affine(a * x, b * y, c, d * x, e * y, f)}
        resampling = enums.Resampling.average if metres > found else enums.Resampling.bilinear
        self._grid |= {"height": height, "width": width, "resampling": resampling}
        self._grid["add_alpha"] = [enums.MaskFlags.per_dataset] in file.mask_flag_enums
        file.close()
        return self.open()

    def cache_bytes(self, window_rows: int) -> int:
        return max(CACHE_BYTES, int(1.25 * window_rows * self._row_bytes))

    def _environment(self) -> Any:
        cache = self.cache_bytes(self.window_rows)
        # GDAL would otherwise list the whole folder for every file.
        return self._rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=cache)


def mosaic_parts(path: Path) -> list[Path]:
    """The files that a VRT file names and that exist."""
    with open_regular(path) as file:
        named = re.findall("<SourceFilename[^>]*>([^<]+)<", file.read().decode(errors="replace"))
    return [part for name in sorted({*named}) if (part := path.parent / unescape(name)).exists()]
