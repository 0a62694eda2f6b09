"""Writers of masks: PNG files of class ids in grey, or of class colours, and the dataset.yaml that names them."""

from collections.abc import Mapping
from functools import partial
from typing import Any

import cv2
import numpy as np
import yaml
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Classes, Color, default_palette
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels

IGNORE_COLOR = (224, 224, 192)
"""Colour of ignored pixels in masks of colours: that of Pascal VOC's void border."""

_UP = [cv2.IMWRITE_PNG_FILTER, cv2.IMWRITE_PNG_FILTER_UP] if hasattr(cv2, "IMWRITE_PNG_FILTER") else []
"""Each row less the one above, mostly zeros in masks: 0.6 of the bytes, read in 0.8 of the time of OpenCV's default."""

_REPEATED = [cv2.IMWRITE_PNG_STRATEGY, cv2.IMWRITE_PNG_STRATEGY_DEFAULT]
"""Finds repeated colours, and not only repeated bytes."""


def png(pixels: NDArray[np.uint8]) -> bytes:
    """A PNG file of (H, W) grey or (H, W, 3) RGB pixels."""
    ordered = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.ndim == 3 else pixels
    written, content = cv2.imencode(".png", ordered, _UP if pixels.ndim == 2 else [*_UP, *_REPEATED])
    assert written
    return content.tobytes()


def distinct_colors(classes: Classes) -> tuple[Color, ...]:
    """The classes' colours, or those of the default palette where two are equal or one is that of ignored pixels."""
    colors = classes.colors
    return colors if len({*colors, IGNORE_COLOR}) > len(colors) else default_palette(len(classes))


def color_mask(labels_HW: NDArray[np.uint8], classes: Classes) -> NDArray[np.uint8]:
    """(H, W, 3): the colour of each pixel's class, `IGNORE_COLOR` where it is ignored."""
    table = np.zeros((256, 3), np.uint8)
    table[: len(classes)] = distinct_colors(classes)
    table[IGNORE] = IGNORE_COLOR
    channels = [cv2.LUT(labels_HW, np.ascontiguousarray(values)) for values in table.T]
    return cv2.merge(channels).astype(np.uint8, copy=False)


def _encode(image: LabelledImage, classes: Classes, *, colors: bool = False) -> WrittenLabels:
    pixels = color_mask(image.labels, classes) if colors else image.labels
    return WrittenLabels({f"{image.split}/masks/{image.name}.png": png(pixels)})


def _assemble(parts: Mapping[str, Parts], classes: Classes, *, colors: bool = False) -> SharedFiles:
    shown = distinct_colors(classes) if colors else classes.colors
    entries: list[dict[str, Any]] = [
        {"name": name, "color": list(color)} for name, color in zip(classes.names, shown, strict=True)
    ]
    for index, entry in enumerate([] if colors else entries):
        entry["value"] = index
    ignored = "#" + bytes(IGNORE_COLOR).hex() if colors else IGNORE
    content = {"format": "paired", "classes": entries, "ignore": [ignored]}
    text = yaml.safe_dump(content, sort_keys=False, allow_unicode=True, default_flow_style=None, width=1000)
    yield "dataset.yaml", iter([text.encode()])


MASKS = LabelWriter("{split}/images/{name}", _encode, _assemble, read_as=str)
COLOR_MASKS = LabelWriter(
    "{split}/images/{name}", partial(_encode, colors=True), partial(_assemble, colors=True), read_as=str
)
