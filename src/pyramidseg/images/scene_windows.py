"""Windows of scenes as images of their own: `field#y1024x2048h512w512.tif` is that part of `field.tif`.

No file has this name: `open_image` gets a GeoTIFF that is made in memory, as if it had been cut by hand.
"""

import re
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.images.file_checks import decoding_errors, import_rasterio
from pyramidseg.images.tiff import raw_tags

_NAME = re.compile(r"(.+)#y(\d+)x(\d+)h(\d+)w(\d+)(\.\w+)")


class SceneWindow(NamedTuple):
    """A part of a scene, in pixels."""

    scene: Path
    top: int
    left: int
    height: int
    width: int

    @property
    def path(self) -> Path:
        """The path that stands for it."""
        place = f"#y{self.top}x{self.left}h{self.height}w{self.width}"
        return self.scene.with_name(f"{self.scene.stem}{place}{self.scene.suffix}")

    def encode(self, *, pixels: bool = True) -> bytes:
        """The window as a GeoTIFF; without pixels only its tags, which takes a tenth of the time."""
        rasterio = import_rasterio(f"{self.scene}: reading it in windows")
        with self.scene.open("rb") as start:
            alpha = raw_tags(start).alpha
        part = rasterio.windows.Window(self.left, self.top, self.width, self.height)
        # GDAL would otherwise list the whole folder for every file.
        environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=2**26)
        with environment, rasterio.open(self.scene, driver="GTiff") as file, rasterio.MemoryFile() as memory:
            colors = [interpretation.name for interpretation in file.colorinterp]
            dtype, is_rgb = file.dtypes[0], colors[:3] == ["red", "green", "blue"]
            a, b, c, d, e, f = tuple(file.transform)[:6]
            place = a, b, a * self.left + b * self.top + c, d, e, d * self.left + e * self.top + f
            # As transparency, an internal mask makes pixels nodata, as in prediction.
            masked = [rasterio.enums.MaskFlags.per_dataset] in file.mask_flag_enums
            masked = masked and file.count == (3 if is_rgb else 1) and dtype == "uint8" and colors[0] != "palette"
            has_nodata = file.nodata is not None and rasterio.dtypes.in_dtype_range(file.nodata, dtype)
            size = {"height": self.height, "width": self.width, "count": file.count + masked, "dtype": dtype}
            where = {"crs": file.crs, "transform": None if file.transform.is_identity else rasterio.Affine(*place)}
            kind = "RGB" if is_rgb else "PALETTE" if colors[0] == "palette" else "MINISBLACK"
            nodata = file.nodata if has_nodata else None
            with memory.open("GTiff", **size, **where, nodata=nodata, photometric=kind, sparse_ok=not pixels) as cut:
                if alpha or masked:
                    cut.colorinterp = [*cut.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
                if colors[0] == "palette":
                    cut.write_colormap(1, file.colormap(1))
                if pixels:
                    values = file.read(window=part)
                    cut.write(np.append(values, [file.dataset_mask(window=part)], axis=0) if masked else values)
            return bytes(memory.read())


def window_at(path: Path) -> SceneWindow | None:
    """The window that a path stands for; None for the path of a file."""
    match = _NAME.fullmatch(path.name) if "#y" in path.name else None
    if match is None:
        return None
    stem, *place, suffix = match.groups()
    return SceneWindow(path.with_name(stem + suffix), *map(int, place))


def scene_of(path: Path) -> Path:
    """The file that holds an image: that of the scene for a window."""
    return path if (window := window_at(path)) is None else window.scene


def read_overview(scene: Path, side_px: int) -> tuple[NDArray[Any], tuple[int, int]]:
    """A scene at most `side_px` wide and high, (H, W, C), by the nearest pixels, and its height and width."""
    with decoding_errors(scene), import_rasterio(f"{scene}: its map").open(scene, driver="GTiff") as file:
        shown = [max(1, round(side * min(1.0, side_px / max(file.shape)))) for side in file.shape]
        bands = range(1, 4 if file.count >= 3 else 2)
        return np.moveaxis(file.read([*bands], out_shape=(len(bands), *shown)), 0, -1), file.shape
