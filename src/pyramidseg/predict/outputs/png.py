"""PNG files: class ids, class colours, overlay and confidence."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from pyramidseg.base.files import write_atomically
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.segmentation import Image, Segmentation, row_blocks


def write_mask(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class ids as an 8-bit grey PNG of the image's size."""
    _write_png(path, segmentation.labels)


def write_color(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class colours as an RGB PNG."""
    _write_png(path, segmentation.colorize())


def write_overlay(path: Path, segmentation: Segmentation, image: Image) -> None:
    """The image blended with the class colours, as an RGB PNG."""
    _write_png(path, segmentation.overlay(image))


def write_confidence(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Probability of the label as an 8-bit grey PNG, from 0 to 255 (certain)."""
    confidence = segmentation.confidence
    assert confidence is not None, "this writer needs a segmentation with confidence"
    grey = np.empty(confidence.shape, np.uint8)
    for rows in row_blocks(confidence):
        grey[rows] = (255 * confidence[rows]).round()
    _write_png(path, grey)


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    info = PngInfo()
    info.add_text("Software", SIGNATURE)
    picture = PillowImage.fromarray(pixels)
    write_atomically(path, lambda part: picture.save(part, format="PNG", pnginfo=info, compress_level=3))
