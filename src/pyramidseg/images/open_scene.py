"""Which images are read in windows, and the reader of each kind."""

import importlib.util
import math
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene import FULL_RESOLUTION, Scene, SceneOptions
from pyramidseg.images.slides import SlideScene
from pyramidseg.images.zarr_scene import ZarrScene

SLIDE_EXTENSIONS = (".svs", ".ndpi", ".mrxs", ".scn", ".vms", ".vmu", ".svslide", ".bif", ".czi")
"""Extensions of slides, in lower case."""

ZARR = ".zarr"
"""Extension of folders that are read as one image."""

_TIFF = (".tif", ".tiff")


def is_scene(path: Path, options: SceneOptions) -> bool:
    """Whether a file is always read in windows, by its name and the options."""
    chosen = (options.level, options.mpp, options.resample, options.format) != (None, None, None, "geotiff")
    suffix = path.suffix.lower()
    return suffix in (".vrt", *SLIDE_EXTENSIONS) or is_zarr(path) or (chosen and suffix in _TIFF)


def is_zarr(path: Path) -> bool:
    """Whether a path is that of a Zarr store, or of an array in one, by its name."""
    return path.suffix.lower() == ZARR or (not path.suffix and any(part.lower().endswith(ZARR) for part in path.parts))


def check_options(options: SceneOptions, paths: Iterable[Path]) -> None:
    """Refuse options that have no effect, as no file can be read in windows.

    Raises:
        ConfigError: names the first of them.
    """
    if options.resample is not None and not 0 < options.resample < math.inf:
        raise ConfigError(f"`resample={options.resample:g}`: metres per pixel are more than 0, such as 0.25")
    chosen = [name for name, value in asdict(options).items() if value != getattr(FULL_RESOLUTION, name)]
    if chosen and not any(
        is_zarr(path) or path.suffix.lower() in (".vrt", *_TIFF, *SLIDE_EXTENSIONS) for path in paths
    ):
        raise ConfigError(f"`{chosen[0]}`: is for slides, Zarr, VRT and TIFF files only; leave it out")


def needs_windows(path: Path, error: DataError | None) -> bool:
    """Whether a file that could not be decoded whole can be read in windows."""
    if not isinstance(error, DefectError) or path.suffix.lower() not in _TIFF:
        return False
    kind = error.defect.kind
    return kind == DefectKind.TOO_LARGE or (kind == DefectKind.SEVERAL_PAGES and _is_scanned(path))


def open_scene(path: Path, options: SceneOptions) -> Scene:
    """Open an image that is read in windows; a TIFF file is a slide if a scanner wrote it, or a level is chosen."""
    chosen, suffix = options.level is not None or options.mpp is not None, path.suffix.lower()
    if is_zarr(path):
        return ZarrScene(path, options)
    if suffix in SLIDE_EXTENSIONS or (suffix in _TIFF and (chosen or _is_scanned(path))):
        return SlideScene(path, options)
    if chosen:
        raise ConfigError(f"{path}: has no levels; leave out `level` and `mpp`")
    return RasterScene(path, resample_m=options.resample)


def _is_scanned(path: Path) -> bool:
    """Whether a TIFF file is in the format of a slide scanner."""
    if importlib.util.find_spec("openslide") is None or not path.is_file():
        return False
    openslide = importlib.import_module("openslide")
    return openslide.OpenSlide.detect_format(path) not in (None, "generic-tiff")
