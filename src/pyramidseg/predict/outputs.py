"""Writers: what can be kept of a segmentation as a file beside others in the output folder."""

import json
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PillowImage
from PIL.ExifTags import Base as ImageDescription
from PIL.PngImagePlugin import PngInfo
from PIL.TiffImagePlugin import TiffImageFile

from pyramidseg.base.files import write_atomically, write_bytes
from pyramidseg.images.georeference import encode_geotiff
from pyramidseg.predict.segmentation import Image, Segmentation, row_blocks

SIGNATURE = "pyramidseg"
"""Value of the PNG text `Software` in every picture written here, and a key in every JSON file: how ours are told from
somebody else's. An archive is told by what is in it."""


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
    confidence = segmentation.confidence
    assert confidence is not None, "this writer needs a segmentation with confidence"
    grey = np.empty(confidence.shape, np.uint8)
    for rows in row_blocks(confidence):
        grey[rows] = (255 * confidence[rows]).round()
    _write_png(path, grey)


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


def write_geotiff(path: Path, segmentation: Segmentation, image: Image) -> None:
    """Class ids as a GeoTIFF at the image's own place on the map, with the classes' colours and names."""
    assert segmentation.place is not None, "this writer needs a segmentation with a place"
    names = {f"class_{index}": name for index, name in enumerate(segmentation.classes.names)}
    content = encode_geotiff(
        segmentation.labels,
        segmentation.place,
        palette=segmentation.classes.palette(),
        tags={"TIFFTAG_SOFTWARE": SIGNATURE, **names},
    )
    write_bytes(path, content)


WRITERS: dict[str, Writer] = {
    "mask": Writer(".png", write_mask),
    "overlay": Writer("_overlay.png", write_overlay),
    "color": Writer("_color.png", write_color),
    "confidence": Writer("_confidence.png", write_confidence),
    "probabilities": Writer("_probabilities.npz", write_probabilities),
    "geotiff": Writer("_mask.tif", write_geotiff),
}
"""Writer by the name that `--save` takes."""


def is_ours(path: Path) -> bool:
    """Whether an existing output may be replaced: a picture or JSON that says who made it, or an archive of ours."""
    if path.suffix == ".json":
        return _is_our_json(path)
    if path.suffix == ".npz":
        return _is_our_archive(path)
    if path.suffix not in (".png", ".tif"):
        return False
    try:
        with PillowImage.open(path) as picture:
            if isinstance(picture, TiffImageFile):
                return picture.tag_v2.get(ImageDescription.Software) == SIGNATURE
            return picture.info.get("Software") == SIGNATURE
    except (OSError, ValueError, SyntaxError):
        return False


def _is_our_json(path: Path) -> bool:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(content, dict) and SIGNATURE in content


def _is_our_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == {"probabilities.npy", "classes.npy"}
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False


def _write_png(path: Path, pixels: NDArray[np.uint8]) -> None:
    info = PngInfo()
    info.add_text("Software", SIGNATURE)
    picture = PillowImage.fromarray(pixels)
    write_atomically(path, lambda part: picture.save(part, format="PNG", pnginfo=info, compress_level=3))
