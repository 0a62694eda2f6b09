"""Which images are read in windows, and the reader of each kind."""

from pathlib import Path

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene import Scene, SceneOptions

SCENE_EXTENSIONS = (".vrt",)
"""Extensions of files that are always read in windows, in lower case."""


def is_scene(path: Path) -> bool:
    """Whether a file is always read in windows, by its name."""
    return path.suffix.lower() in SCENE_EXTENSIONS


def needs_windows(path: Path, error: DataError | None) -> bool:
    """Whether a file that could not be decoded whole can be read in windows."""
    too_large = isinstance(error, DefectError) and error.defect.kind == DefectKind.TOO_LARGE
    return too_large and path.suffix.lower() in (".tif", ".tiff")


def open_scene(path: Path, options: SceneOptions) -> Scene:
    """Open an image that is read in windows; see the reader of each kind for errors."""
    return RasterScene(path)
