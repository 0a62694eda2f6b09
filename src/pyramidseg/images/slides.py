"""Whole-slide images: one level of a slide, read in windows by OpenSlide."""

import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import ConfigError, DataError, import_extra
from pyramidseg.images.decode import ImageHeader
from pyramidseg.images.file_checks import decoding_errors
from pyramidseg.images.scene import Mask, Scene, SceneOptions

logger = logging.getLogger(__name__)


class SlideScene(Scene):
    """A level of a slide; transparent areas have no data and are white for the model.

    Raises:
        ConfigError: the slide has several levels and none is chosen, or one that it does not have.
        DataError: it cannot be opened.
    """

    means = (255.0, 255.0, 255.0)

    def __init__(self, path: Path, options: SceneOptions) -> None:
        self._openslide = import_extra("openslide", extra="slides", purpose=f"{path}: reading slides")
        super().__init__(path)
        with decoding_errors(path):
            if path.is_file() and self._openslide.OpenSlide.detect_format(path) is None:
                raise DataError(f"{path}: is not a slide that OpenSlide reads; convert it to a tiled pyramid TIFF")
            self.idle.put(slide := self.open())
        found = slide.properties
        level = self._choose(slide, options)
        self._level, self._scale, (width, height) = level, slide.level_downsamples[level], slide.level_dimensions[level]
        self._left = self._top = 0
        if "openslide.bounds-x" in found:
            left, top, wide, high = (int(found[f"openslide.bounds-{name}"]) for name in ("x", "y", "width", "height"))
            area = f"{wide} x {high} pixels of level 0 from column {left}, row {top}"
            logger.info(
                f"{path}: scanned area: {area}" + ("" if options.scanned_area else "; all of the slide is read")
            )
            if options.scanned_area:
                self._left, self._top, width, height = left, top, int(wide / self._scale), int(high / self._scale)
        tags = {"slide_level": level, "slide_downsample": self._scale, "slide_x": self._left, "slide_y": self._top}
        self.header = ImageHeader(height, width, 3, "uint8", color=True)
        self.tags = {name: str(value) for name, value in tags.items()}

    def read(self, rows: slice, columns: slice) -> tuple[NDArray[Any], Mask | None]:
        at = round(self._left + columns.start * self._scale), round(self._top + rows.start * self._scale)
        with self.handle() as slide:
            size = columns.stop - columns.start, rows.stop - rows.start
            values = np.asarray(slide.read_region(at, self._level, size))
        return values[..., :3], values[..., 3] == 0

    def open(self) -> Any:
        return self._openslide.OpenSlide(self.path)

    def _choose(self, slide: Any, options: SceneOptions) -> int:
        """The level that is chosen, or the only one."""
        mpp = float(slide.properties.get("openslide.mpp-x", "nan"))
        levels = [(n, mpp * scale) for n, scale in enumerate(slide.level_downsamples)]
        if options.mpp is not None:
            chosen = [n for n, own in levels if abs(own - options.mpp) <= 0.05 * options.mpp]
        else:
            chosen = [n for n, _ in levels if n == options.level or len(levels) == 1 > (options.level or 0)]
        if chosen:
            return chosen[0]
        sizes = (f"{width} x {height}" for width, height in slide.level_dimensions)
        known = "; ".join(
            f"`level={n}` ({size} pixels" + ("" if np.isnan(own) else f", `mpp={own:.4g}`") + ")"
            for (n, own), size in zip(levels, sizes, strict=True)
        )
        raise ConfigError(f"{self.path}: choose the level at whose resolution the model was trained: {known}")
