"""Output files of a prediction: a table of writers by the name that `--save` takes."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.formats.writers import LABEL_WRITERS
from pyramidseg.predict.outputs.output_writers import (
    write_color,
    write_confidence,
    write_geotiff,
    write_mask,
    write_overlay,
    write_probabilities,
)
from pyramidseg.predict.outputs.ownership import is_ours
from pyramidseg.predict.segmentation import Image, Segmentation

__all__ = ["WRITERS", "Writer", "is_ours", "output_names"]


@dataclass(frozen=True)
class Writer:
    """One kind of output file.

    Attributes:
        suffix: the file is `<stem><suffix>`.
        write: writes a segmentation and its image to a path.
        needs: attributes of the segmentation that the writer needs, besides `labels`.
    """

    suffix: str
    write: Callable[[Path, Segmentation, Image], None]
    needs: tuple[str, ...] = ()


WRITERS: dict[str, Writer] = {
    "mask": Writer(".png", write_mask),
    "overlay": Writer("_overlay.png", write_overlay),
    "color": Writer("_color.png", write_color),
    "confidence": Writer("_confidence.png", write_confidence, needs=("confidence",)),
    "probabilities": Writer("_probabilities.npz", write_probabilities, needs=("probabilities",)),
    "geotiff": Writer("_mask.tif", write_geotiff, needs=("georeference",)),
}


def output_names(save: Sequence[str]) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """`mask` and the outputs in `save`, each once; and the label formats in it.

    Raises:
        ConfigError: a name is neither.
    """
    for name in save:
        if name not in WRITERS and name not in LABEL_WRITERS:
            raise ConfigError(f"save={name}: unknown output; {nearest(name, (*WRITERS, *LABEL_WRITERS))}")
    formats = tuple(dict.fromkeys(name for name in save if name in LABEL_WRITERS))
    return tuple(dict.fromkeys(("mask", *(name for name in save if name in WRITERS)))), formats
