"""Writers: what can be kept of a segmentation as a file beside others in the output folder."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.PngImagePlugin import PngInfo

from pyramidseg.files import write_atomically
from pyramidseg.predict.predictor import Image, Segmentation

SIGNATURE = "pyramidseg"
"""Value of the PNG text `Software` in every picture written here: how a prediction is told from somebody's image."""


@dataclass(frozen=True)
class Writer:
    """One kind of output: `<stem><suffix>`, and how its content comes about."""

    suffix: str
    write: Callable[[Path, Segmentation, Image], None]


def write_mask(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class ids as an 8-bit grey PNG of the image's own size."""
    _write_png(path, segmentation.labels)


def write_color(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class colours as an RGB PNG."""
    _write_png(path, segmentation.colorize())


def write_overlay(path: Path, segmentation: Segmentation, image: Image) -> None:
    """The image with the class colours over it, as an RGB PNG."""
    _write_png(path, segmentation.overlay(image))


def write_confidence(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Probability of the label as an 8-bit grey PNG: 255 is certain."""
    _write_png(path, (255 * segmentation.confidence).round().astype(np.uint8))


def write_probabilities(path: Path, segmentation: Segmentation, image: Image) -> None:
    """`probabilities` (K, H, W) float16 and `classes`, the K names, as a NumPy archive."""
    assert segmentation.probabilities is not None, "this writer needs a segmentation with probabilities"
    probabilities = segmentation.probabilities.astype(np.float16)
    names = np.array(segmentation.classes.names)

    def write(part: Path) -> None:
        # Given a name instead of a file, NumPy would append .npz to it.
        with part.open("wb") as file:
            np.savez(file, probabilities=probabilities, classes=names)

    write_atomically(path, write)


WRITERS: dict[str, Writer] = {
    "mask": Writer(".png", write_mask),
    "overlay": Writer("_overlay.png", write_overlay),
    "color": Writer("_color.png", write_color),
    "confidence": Writer("_confidence.png", write_confidence),
    "probabilities": Writer("_probabilities.npz", write_probabilities),
}
"""Writer by the name that `--save` takes."""


def is_ours(path: Path) -> bool:
    """Whether an existing output may be replaced: a PNG that a writer made, or an archive by our own name for it."""
    if path.suffix != ".png":
        return path.is_file()
    try:
        with PillowImage.open(path) as picture:
            return picture.info.get("Software") == SIGNATURE
    except (OSError, ValueError, SyntaxError):
        return False


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    info = PngInfo()
    info.add_text("Software", SIGNATURE)
    picture = PillowImage.fromarray(pixels)
    write_atomically(path, lambda part: picture.save(part, format="PNG", pnginfo=info, compress_level=3))
