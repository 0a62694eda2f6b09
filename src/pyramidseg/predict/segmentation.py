"""Segmentation: the result of a model for one image, computed from its coarse logits.

Memory stays bounded for images of any size: steps that take more than a few bytes per pixel work on blocks of rows.

Legend: B batch, C channels, K classes, H W pixels, h w points of the coarse logits.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends import Backend, LogitGeometry
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.images.georeference import Georeference
from pyramidseg.images.thumbnails import to_rgb
from pyramidseg.predict.label_maps import block_labels, label_maps
from pyramidseg.predict.tiling import RowBlock, Tiles, blend_tiles, padding_of, tile_grid
from pyramidseg.predict.upsampling import Axis, bilinear_axis, upsample_rows

Image = NDArray[Any]
"""(H, W, C) uint8, uint16 or float32."""

FULL_VALUES = 2**24
"""Full-size logits computed at a time for confidence or probabilities: 64 MiB of float32."""

BLOCK_PIXELS = 2**19
"""Pixels of a picture that are processed at a time."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """Predicted classes of one image.

    Attributes:
        labels: (H, W) uint8 class ids.
        confidence: (H, W) float32 in (0, 1], the probability of the label; None unless requested.
        probabilities: (K, H, W) float32; None unless requested.
        georeference: position of the image on a map; None unless requested.
    """

    labels: NDArray[np.uint8]
    classes: Classes
    confidence: NDArray[np.float32] | None = None
    probabilities: NDArray[np.float32] | None = None
    georeference: Georeference | None = None

    def shares(self) -> dict[str, float]:
        """Share of the image's pixels by name of each class found, largest first; the shares sum to 1."""
        counts = np.zeros(256, np.int64)
        for rows in row_blocks(self.labels):
            counts += np.bincount(self.labels[rows].ravel(), minlength=256)
        return class_shares(counts, self.labels.size, self.classes)

    def colorize(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB with every pixel in the colour of its class."""
        colored = np.empty((*self.labels.shape, 3), np.uint8)
        for rows in row_blocks(self.labels):
            colored[rows] = self.classes.colorize(self.labels[rows])
        return colored

    def overlay(self, image: Image, *, alpha: float = 0.5) -> NDArray[np.uint8]:
        """The image blended with the colours of its classes, (H, W, 3) uint8 RGB.

        Args:
            image: (H, W, C) or (H, W) of the same height and width; `to_rgb` converts other types to 8-bit RGB.
            alpha: weight of the colours, from 0 (the image) to 1 (`colorize`).

        Raises:
            DataError: `image` has another size, or is a path.
            ConfigError: `alpha` is out of range.
        """
        image = np.asarray(image)
        if image.shape[:2] != self.labels.shape:
            raise DataError(
                f"overlay: labels of {self.labels.shape} need an image (H, W, C) of this size, not of {image.shape}"
            )
        if image.ndim == 2:
            image = image[..., None]
        if not 0 <= alpha <= 1:
            raise ConfigError(f"overlay: alpha={alpha} is not between 0 and 1")
        shown = image if image.dtype == np.uint8 else to_rgb(image)  # the whole image sets the contrast
        blended = np.empty((*self.labels.shape, 3), np.uint8)
        for rows in row_blocks(self.labels):
            below, above = to_rgb(shown[rows]), self.classes.colorize(self.labels[rows])
            blended[rows] = ((1 - alpha) * below.astype(np.float32) + alpha * above.astype(np.float32)).round()
        return blended


def class_shares(counts: NDArray[Any], total: float, classes: Classes) -> dict[str, float]:
    """Share by name of each class found, largest first, from the counts by class id."""
    found = sorted(np.flatnonzero(counts).tolist(), key=lambda index: (-counts[index], index))
    return {classes.names[index]: float(counts[index] / total) for index in found}


def row_blocks(picture: NDArray[Any]) -> Iterator[slice]:
    """Slices of the rows of a picture (H, W, ...), each of about `BLOCK_PIXELS` pixels."""
    height, width = picture.shape[:2]
    at_once = max(1, BLOCK_PIXELS // width)
    for first in range(0, height, at_once):
        yield slice(first, first + at_once)


class OutputOptions(NamedTuple):
    """What a segmentation holds besides labels; both need logits at full size, a few rows at a time."""

    confidence: bool = False
    probabilities: bool = False


def all_finite(logits: Tensor) -> bool:
    """Whether no value is NaN or infinite; one pass without a mask, as NaN is also the smallest and largest value."""
    return bool(torch.stack(logits.aminmax()).isfinite().all())


def not_finite(image: NDArray[Any] | Tensor) -> DataError:
    """The error for an image without finite logits; the caller adds the image's name."""
    values = image.cpu().numpy() if isinstance(image, Tensor) else image
    low, high = float(values.min()), float(values.max())
    return DataError(
        f"the model's logits for this image are not finite, so it has no labels; its values are {low:g} to {high:g}: "
        "check them, and where other images fail too, the model"
    )


def predict_labels(backend: Backend, images_BCHW: Tensor, tiles: Tiles | None = None) -> Tensor:
    """(B, H, W) uint8 labels of images of one size: on the backend's device, or with `tiles` on the CPU.

    Raises:
        DataError: logits are not finite.
    """
    if tiles is None:
        height, width = images_BCHW.shape[-2:]
        coarse = backend.coarse_logits(images_BCHW)
        if not all_finite(coarse):
            raise not_finite(images_BCHW)
        return label_maps(coarse, height, width, backend.geometry)
    return torch.stack(
        [torch.from_numpy(segment_tiled(backend, image, tiles, OutputOptions()).labels) for image in images_BCHW]
    )


def segment_tiled(backend: Backend, image_CHW: Tensor, tiles: Tiles, options: OutputOptions) -> Segmentation:
    """Segmentation of an image by blended tiles.

    Raises:
        DataError: logits are not finite.
    """

    def finite(blocks: Iterable[RowBlock]) -> Iterator[RowBlock]:
        for block in blocks:
            if not all_finite(block.logits):
                raise not_finite(image_CHW)
            yield block

    height, width = image_CHW.shape[-2:]
    stride = backend.geometry.stride
    padding_px = padding_of(backend.coarse_logits(image_CHW[None, :, :1, :1]), stride=stride)
    grid = tile_grid(height, width, tiles, stride=stride, padding_px=padding_px)
    row_points, column_points = grid.points
    return segment_row_blocks(
        finite(blend_tiles(backend.coarse_logits, image_CHW, grid)),
        bilinear_axis(row_points, height, backend.geometry),
        bilinear_axis(column_points, width, backend.geometry),
        backend.geometry,
        backend.classes,
        options,
    )


def segment_batch(
    coarse_BKhw: Tensor, height: int, width: int, geometry: LogitGeometry, classes: Classes, options: OutputOptions
) -> list[Segmentation]:
    """Segmentations of (height, width) from the coarse logits of whole images.

    On a GPU, labels alone are computed and copied together.
    """
    if not any(options):
        labels = label_maps(coarse_BKhw, height, width, geometry).cpu().numpy()
        return [Segmentation(own, classes) for own in labels]
    rows = bilinear_axis(coarse_BKhw.shape[2], height, geometry)
    columns = bilinear_axis(coarse_BKhw.shape[3], width, geometry)
    blocks = (RowBlock(0, coarse_Khw) for coarse_Khw in coarse_BKhw)
    return [segment_row_blocks([block], rows, columns, geometry, classes, options) for block in blocks]


@torch.inference_mode()
def segment_row_blocks(
    blocks: Iterable[RowBlock],
    rows: Axis,
    columns: Axis,
    geometry: LogitGeometry,
    classes: Classes,
    options: OutputOptions,
) -> Segmentation:
    """Segmentation from the coarse logits of an image in blocks of rows, each of which is released after its use."""
    size = len(rows.cell), len(columns.cell)
    labels = np.empty(size, np.uint8)
    confidence = np.empty(size, np.float32) if options.confidence else None
    probabilities = np.empty((len(classes), *size), np.float32) if options.probabilities else None
    for pixels, points, part in (completed_cells(block, rows) for block in blocks):
        if pixels.start == pixels.stop:
            continue
        if not any(options):
            labels[pixels] = block_labels(points.logits[None], part, columns, geometry)[0].cpu().numpy()
            continue
        for chosen, full_KHW in _full_rows(points.logits, part, pixels.start, columns, geometry):
            best, winners = full_KHW.max(dim=0)
            labels[chosen] = winners.to(torch.uint8).cpu().numpy()
            if confidence is not None:
                confidence[chosen] = (best - full_KHW.logsumexp(dim=0)).exp().cpu().numpy()
            if probabilities is not None:
                probabilities[:, chosen] = full_KHW.softmax(dim=0).cpu().numpy()
    return Segmentation(labels, classes, confidence, probabilities)


def completed_cells(block: RowBlock, rows: Axis) -> tuple[slice, RowBlock, Axis]:
    """The cells that a block completes: their pixels, which may be none, their points, and their axis."""
    known = block.first + block.logits.shape[1]
    end = rows.points + 1 if known == rows.points else known
    points, pixels, part = rows.between(block.first + 1 if block.first else 0, end)
    own = slice(points.start - block.first, points.stop - block.first)
    covered = None if block.covered is None else block.covered[own]
    return pixels, RowBlock(points.start, block.logits[:, own], covered), part


def _full_rows(
    logits_Khw: Tensor, rows: Axis, first: int, columns: Axis, geometry: LogitGeometry
) -> Iterator[tuple[slice, Tensor]]:
    """Upsampled logits, (K, a few rows, columns), each with the slice of its rows, counted from `first`."""
    at_once = max(1, FULL_VALUES // (logits_Khw.shape[0] * len(columns.cell)))
    for start in range(0, len(rows.cell), at_once):
        chosen = slice(start, min(start + at_once, len(rows.cell)))
        yield (
            slice(first + chosen.start, first + chosen.stop),
            upsample_rows(logits_Khw[None], rows, chosen, columns, geometry)[0],
        )
