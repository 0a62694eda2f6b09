"""The writers of pictures, GeoTIFFs and archives, and their table by the name that `--save` takes.

The encoders are for answers that do not become files.
"""

import struct
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.base.files import write_atomically, write_bytes
from pyramidseg.formats.paired_writer import png
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.images.georeference import encode_geotiff
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.outputs.polygon_layers import EXACT_POLYGONS, PolygonOptions, import_writer, write_polygons
from pyramidseg.predict.segmentation import Image, Segmentation, row_blocks


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """A grey (H, W) or RGB (H, W, 3) PNG with our signature."""
    content, text = png(pixels), b"tEXtSoftware\0" + SIGNATURE.encode()
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    return content[:33] + chunk + content[33:]  # after the signature and the chunk IHDR


def encode_confidence(segmentation: Segmentation) -> bytes:
    """Probability of the label as an 8-bit grey PNG, from 0 to 255 (certain)."""
    confidence = segmentation.confidence
    assert confidence is not None, "this output needs a segmentation with confidence"
    grey = np.empty(confidence.shape, np.uint8)
    for rows in row_blocks(confidence):
        grey[rows] = (255 * confidence[rows]).round()
    return encode_png(grey)


def save_probabilities(file: IO[bytes], segmentation: Segmentation) -> None:
    """`probabilities` (K, H, W) float16, and `classes`, the K names, as an .npz file."""
    assert segmentation.probabilities is not None, "this output needs a segmentation with probabilities"
    probabilities = segmentation.probabilities.astype(np.float16)
    np.savez(file, probabilities=probabilities, classes=np.array(segmentation.classes.names))


def encode_label_geotiff(segmentation: Segmentation) -> bytes:
    """Class ids as a GeoTIFF with the image's georeference and the classes' colours and names."""
    assert segmentation.georeference is not None, "this output needs a segmentation with a georeference"
    names = {f"class_{index}": name for index, name in enumerate(segmentation.classes.names)}
    return encode_geotiff(
        segmentation.labels,
        segmentation.georeference,
        palette=segmentation.classes.palette(),
        tags={"TIFFTAG_SOFTWARE": SIGNATURE, **names},
    )


@dataclass(frozen=True)
class Writer:
    """One kind of output file.

    Attributes:
        suffix: the file is `<stem><suffix>`.
        write: writes a segmentation and its image to a path; may return what its entry in `predictions.json` gets.
        needs: attributes of the segmentation that the writer needs, besides `labels`.
        uses_georeference: whether it also uses a georeference that an image may have.
    """

    suffix: str
    write: Callable[[Path, Segmentation, Image], Mapping[str, Any] | None]
    needs: tuple[str, ...] = ()
    uses_georeference: bool = False


def polygon_writer(options: PolygonOptions) -> Writer:
    """The writer of polygons with these options."""

    def write(path: Path, segmentation: Segmentation, image: Image) -> Mapping[str, Any]:
        return {"polygons": {**asdict(options), **write_polygons(path, segmentation, options)}}

    return Writer(options.suffix, write, ("confidence",), uses_georeference=True)


def _encoded(suffix: str, encode: Callable[[Segmentation, Image], bytes], *needs: str) -> Writer:
    """A writer of what a function returns for a segmentation and its image."""
    return Writer(
        suffix, lambda path, found, image: write_bytes(path, encode(found, image)), needs, "georeference" in needs
    )


def _write_probabilities(path: Path, segmentation: Segmentation, image: Image) -> None:
    def write(part: Path) -> None:
        with part.open("wb") as file:  # NumPy would append .npz to a path
            save_probabilities(file, segmentation)

    write_atomically(path, write)


WRITERS: dict[str, Writer] = {
    "mask": _encoded(".png", lambda found, image: encode_png(found.labels)),
    "overlay": _encoded("_overlay.png", lambda found, image: encode_png(found.overlay(image))),
    "color": _encoded("_color.png", lambda found, image: encode_png(found.colorize())),
    "confidence": _encoded("_confidence.png", lambda found, image: encode_confidence(found), "confidence"),
    "probabilities": Writer("_probabilities.npz", _write_probabilities, needs=("probabilities",)),
    "geotiff": _encoded("_mask.tif", lambda found, image: encode_label_geotiff(found), "georeference"),
    "polygons": polygon_writer(EXACT_POLYGONS),
}


def output_writers(save: Sequence[str], polygons: PolygonOptions) -> tuple[dict[str, Writer], tuple[str, ...]]:
    """The writers of `mask` and of the outputs in `save`, by name; and the label formats in it.

    Raises:
        ConfigError: a name is neither, or an option of polygons is given and nothing is written that it changes.
        MissingExtra: the library that writes the polygons is not installed.
    """
    for name in save:
        if name not in WRITERS and name not in LABEL_WRITERS:
            raise ConfigError(f"`save={name}`: unknown output; {nearest(name, (*WRITERS, *LABEL_WRITERS))}")
    formats = tuple(dict.fromkeys(name for name in save if name in LABEL_WRITERS))
    simplified = polygons.simplify_px and any(LABEL_WRITERS[name].has_outlines for name in formats)
    other = PolygonOptions(simplify_px=polygons.simplify_px if simplified else 0.0)
    if "polygons" not in save and polygons != other:
        raise ConfigError("options of polygons change nothing that is saved; add polygons to `save`, or leave them out")
    if "polygons" in save:
        import_writer(polygons.format)
    chosen = {**WRITERS, "polygons": polygon_writer(polygons)}
    return {name: chosen[name] for name in dict.fromkeys(("mask", *save)) if name in chosen}, formats
