"""Windows of scenes as images of their own: `field#y1024x2048h512w512.tif` is that part of `field.tif`.

There is no file of this name. `open_image` gets an uncompressed GeoTIFF that is made in memory, so that a window is
read exactly as a file cut by hand would be, and nothing else in the house has to know of windows.
"""

import re
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyramidseg.base.files import file_state
from pyramidseg.images.file_checks import import_rasterio
from pyramidseg.images.tiff import first_page

_NAME = re.compile(r"(.+)#y(\d+)x(\d+)h(\d+)w(\d+)(\.\w+)")
_CACHE_BYTES = 2**26
"""Of GDAL, for decoded blocks."""


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
        """The window as a GeoTIFF; without pixels only its tags, which takes a hundredth of the time."""
        return _encode(self, pixels=True) if pixels else _tags(self, file_state(self.scene))


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


@lru_cache(maxsize=2**13)  # some kilobytes each
def _tags(window: SceneWindow, state: tuple[object, ...]) -> bytes:
    return _encode(window, pixels=False)


def _encode(window: SceneWindow, *, pixels: bool) -> bytes:
    rasterio = import_rasterio(f"{window.scene}: reading it in windows")
    with window.scene.open("rb") as start:
        alpha = first_page(start).alpha
    part = rasterio.windows.Window(window.left, window.top, window.width, window.height)
    # GDAL would otherwise list the whole folder for every file.
    environment = rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR", GDAL_CACHEMAX=_CACHE_BYTES)
    with environment, rasterio.open(window.scene, driver="GTiff") as file, rasterio.MemoryFile() as memory:
        colors = [interpretation.name for interpretation in file.colorinterp]
        dtype, is_rgb = file.dtypes[0], colors[:3] == ["red", "green", "blue"]
        a, b, c, d, e, f = tuple(file.transform)[:6]
        place = a, b, a * window.left + b * window.top + c, d, e, d * window.left + e * window.top + f
        # As transparency, an internal mask makes pixels nodata, as in prediction.
        masked = [rasterio.enums.MaskFlags.per_dataset] in file.mask_flag_enums
        masked = masked and file.count == (3 if is_rgb else 1) and dtype == "uint8" and colors[0] != "palette"
        has_nodata = file.nodata is not None and rasterio.dtypes.in_dtype_range(file.nodata, dtype)
        profile = {
            "driver": "GTiff",
            "height": window.height,
            "width": window.width,
            "count": file.count + masked,
            "dtype": dtype,
            "crs": file.crs,
            "transform": None if file.transform.is_identity else rasterio.Affine(*place),
            "nodata": file.nodata if has_nodata else None,
            "photometric": "RGB" if is_rgb else "PALETTE" if colors[0] == "palette" else "MINISBLACK",
            "sparse_ok": not pixels,
        }
        with memory.open(**profile) as cut:
            if alpha or masked:
                cut.colorinterp = [*cut.colorinterp[:-1], rasterio.enums.ColorInterp.alpha]
            if colors[0] == "palette":
                cut.write_colormap(1, file.colormap(1))
            if pixels:
                values = file.read(window=part)
                cut.write(np.append(values, [file.dataset_mask(window=part)], axis=0) if masked else values)
        return bytes(memory.read())
