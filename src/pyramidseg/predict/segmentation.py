"""Segmentation: what a model says of one image, put together from its coarse logits.

Behind the model memory stays within bounds, too: what takes more than a few bytes a pixel works in `row_blocks`.

Legend: B batch, K classes, H W pixels, h w coarse points.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends import LogitGeometry
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.images.georeference import Georeference
from pyramidseg.images.thumbnails import to_rgb
from pyramidseg.predict.label_maps import label_maps, labels_of
from pyramidseg.predict.upsampling import Axis, bilinear_axis, upsampled

Image = NDArray[Any]
"""(H, W, C) uint8, uint16 or float32."""

FULL_VALUES = 2**24
"""Full-size logits at a time, where confidence or probabilities need them: 64 MiB of float32."""

BLOCK_PIXELS = 2**19
"""Pixels of a picture that are worked on at a time."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model says of one image.

    Attributes:
        labels: (H, W) uint8 class ids.
        confidence: (H, W) float32 in (0, 1], the probability of the label, where it was asked for.
        probabilities: (K, H, W) float32, where they were asked for.
        place: where the image lies on a map, where that was asked for.
    """

    labels: NDArray[np.uint8]
    classes: Classes
    confidence: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None
    place: Georeference | None = None

    def shares(self) -> dict[str, float]:
        """Share of the image's pixels by name of the classes found, largest first; they sum to 1."""
        counts = np.zeros(256, np.int64)
        for rows in row_blocks(self.labels):
            counts += np.bincount(self.labels[rows].ravel(), minlength=256)
        found = sorted(np.flatnonzero(counts), key=lambda index: (-counts[index], index))
        return {self.classes.names[index]: float(counts[index] / self.labels.size) for index in found}

    def colorize(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: every pixel in the colour of its class."""
        colored = np.empty((*self.labels.shape, 3), np.uint8)
        for rows in row_blocks(self.labels):
            colored[rows] = self.classes.colorize(self.labels[rows])
        return colored

    def overlay(self, image: Image, *, alpha: float = 0.5) -> NDArray[np.uint8]:
        """The image with the classes' colours over it, (H, W, 3) uint8 RGB.

        Args:
            image: (H, W, C) or (H, W) of the same height and width; `to_rgb` makes any kind of pixels visible.
            alpha: weight of the colours, from 0 (the image) to 1 (`colorize`).
        """
        if not isinstance(image, np.ndarray):
            raise DataError(
                f"overlay: an image of type {type(image).__name__}; an array (H, W, C) is needed: np.asarray(image), "
                "and of a file np.asarray(PIL.Image.open(path))"
            )
        if image.ndim == 2:
            image = image[..., None]
        if image.shape[:2] != self.labels.shape:
            raise DataError(f"overlay: an image of {image.shape[:2]} for labels of {self.labels.shape}: sizes differ")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"overlay: alpha={alpha} is not between 0 and 1")
        shown = image if image.dtype == np.uint8 else to_rgb(image)  # stretched by all of its pixels
        blended = np.empty((*self.labels.shape, 3), np.uint8)
        for rows in row_blocks(self.labels):
            below, above = to_rgb(shown[rows]), self.classes.colorize(self.labels[rows])
            blended[rows] = ((1 - alpha) * below.astype(np.float32) + alpha * above.astype(np.float32)).round()
        return blended


def row_blocks(picture: NDArray[Any]) -> Iterator[slice]:
    """The rows of a picture, (H, W, ...), some at a time: about `BLOCK_PIXELS` pixels."""
    height, width = picture.shape[:2]
    at_once = max(1, BLOCK_PIXELS // width)
    for first in range(0, height, at_once):
        yield slice(first, first + at_once)


class OutputOptions(NamedTuple):
    """What a segmentation shall hold beside its labels; both take the logits at full size, a few rows at a time."""

    confidence: bool = False
    probabilities: bool = False


class RowBlock(NamedTuple):
    """Finished rows of an image's coarse logits: (K, rows, w) from row `first` on.

    Strips follow each other downwards, and each begins with the last row of the one before: the pixels between two rows
    need both.
    """

    first: int
    logits: Tensor


def segment_batch(
    coarse_BKhw: Tensor, height: int, width: int, geometry: LogitGeometry, classes: Classes, wanted: OutputOptions
) -> list[Segmentation]:
    """`segment_coarse` of each image of a batch. A GPU makes all label maps at once, and they come from it together."""
    if any(wanted):
        return [segment_coarse(coarse_Khw, height, width, geometry, classes, wanted) for coarse_Khw in coarse_BKhw]
    labels = label_maps(coarse_BKhw, height, width, geometry).cpu().numpy()
    return [Segmentation(own, classes) for own in labels]


def segment_coarse(
    coarse_Khw: Tensor, height: int, width: int, geometry: LogitGeometry, classes: Classes, wanted: OutputOptions
) -> Segmentation:
    """The segmentation of (height, width) that coarse logits of a whole image give."""
    rows = bilinear_axis(coarse_Khw.shape[1], height, geometry)
    columns = bilinear_axis(coarse_Khw.shape[2], width, geometry)
    return segment_row_blocks([RowBlock(0, coarse_Khw)], rows, columns, geometry, classes, wanted)


@torch.inference_mode()
def segment_row_blocks(
    strips: Iterable[RowBlock],
    rows: Axis,
    columns: Axis,
    geometry: LogitGeometry,
    classes: Classes,
    wanted: OutputOptions,
) -> Segmentation:
    """The same from strips, each of which can go once the next one comes."""
    size = len(rows.cell), len(columns.cell)
    labels = np.empty(size, np.uint8)
    confidence = np.empty(size, np.float32) if wanted.confidence else None
    probabilities = np.empty((len(classes), *size), np.float32) if wanted.probabilities else None
    for pixels, logits, part in _cells_of(strips, rows):
        if not any(wanted):
            labels[pixels] = labels_of(logits, part, columns, geometry).cpu().numpy()
            continue
        for chosen, full_KHW in _full_rows(logits, part, pixels.start, size[1], geometry):
            best, winners = full_KHW.max(dim=0)
            labels[chosen] = winners.to(torch.uint8).cpu().numpy()
            if confidence is not None:
                confidence[chosen] = (best - full_KHW.logsumexp(dim=0)).exp().cpu().numpy()
            if probabilities is not None:
                probabilities[:, chosen] = full_KHW.softmax(dim=0).cpu().numpy()
    return Segmentation(labels, classes, confidence, probabilities)


def _cells_of(strips: Iterable[RowBlock], rows: Axis) -> Iterator[tuple[slice, Tensor, Axis]]:
    """Cells that a strip completes: their pixels, the logits of their points, and their axis."""
    done = 0
    for strip in strips:
        known = strip.first + strip.logits.shape[1]
        end = rows.points + 1 if known == rows.points else known
        points, pixels, part = rows.between(done, end)
        done = end
        if pixels.start < pixels.stop:
            yield pixels, strip.logits[:, points.start - strip.first : points.stop - strip.first], part


def _full_rows(
    logits_Khw: Tensor, rows: Axis, first: int, width: int, geometry: LogitGeometry
) -> Iterator[tuple[slice, Tensor]]:
    """Upsampled logits, (K, few rows, width), with the pixels that they are, counted from `first`."""
    at_once = max(1, FULL_VALUES // (logits_Khw.shape[0] * width))
    for start in range(0, len(rows.cell), at_once):
        chosen = slice(start, min(start + at_once, len(rows.cell)))
        yield (
            slice(first + chosen.start, first + chosen.stop),
            upsampled(logits_Khw[None], rows, chosen, width, geometry)[0],
        )
