"""Tiles: an image that is too large to be predicted at once, window by window, with blended coarse logits.

Windows begin on the pyramid's grid, so that every level meets the pixels as it does in the whole image. They are
blended before the last upsampling, where there are sixteen times fewer logits (stride 4), and rows that no further
window touches are handed on: beside one window, memory holds the logits of one row of windows.

At its border a window sees zeros where the whole image has pixels. A margin of what they spoil is dropped, and the rest
of the overlap blended. Where the margin is all that they spoil (`tile_planner.receptive_field_px`), tiles give what the
whole image gives.

Legend: C channels, H W pixels, K classes, h w coarse points.
"""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends import Backend
from pyramidseg.base.errors import ConfigError
from pyramidseg.predict.label_maps import label_maps
from pyramidseg.predict.segmentation import OutputOptions, RowBlock, Segmentation, segment_row_blocks
from pyramidseg.predict.upsampling import bilinear_axis

GRID_PX = 32
"""Windows begin at its multiples: the coarsest stride there is, which the others divide."""

SMALLEST_TILE_PX = 2 * GRID_PX


@dataclass(frozen=True)
class Tiles:
    """How an image is cut.

    Attributes:
        tile_px: side of the square windows.
        overlap_px: of neighbours, at least.
        margin_px: what is dropped at each border that is not the image's own; at most half of the overlap.

    Raises:
        ConfigError: sides that are no multiple of the grid, or an overlap of more than half the tile.
    """

    tile_px: int
    overlap_px: int
    margin_px: int = 0

    def __post_init__(self) -> None:
        check_side("tile_px", self.tile_px, least=SMALLEST_TILE_PX)
        check_side("overlap_px", self.overlap_px, least=0)
        if self.overlap_px > self.tile_px // 2:
            raise ConfigError(
                f"overlap_px={self.overlap_px} with tile_px={self.tile_px}: at most half the tile may overlap; "
                "take a larger tile or a smaller overlap"
            )
        assert 0 <= 2 * self.margin_px <= self.overlap_px, "a margin beyond the overlap would leave pixels out"


def check_side(name: str, side_px: int, *, least: int) -> None:
    """Refuse sides that are off the grid.

    Raises:
        ConfigError: names the multiples beside it.
    """
    if side_px < least or side_px % GRID_PX:
        below = max(least, side_px // GRID_PX * GRID_PX)
        raise ConfigError(
            f"{name}={side_px}: a multiple of {GRID_PX} pixels, at least {least}, is needed, so that windows lie on "
            f"the grid of the pyramid's coarsest level; try {below} or {below + GRID_PX}"
        )


@dataclass(frozen=True, eq=False)
class Window:
    """One direction of a window.

    Attributes:
        pixels: of the image that the model gets to see.
        points: coarse points of the image that it contributes to.
        offset: number of its own coarse points before these.
        weights: (points,) float64 in (0, 1]; those of all windows that share a point add up to 1.
    """

    pixels: slice
    points: slice
    offset: int
    weights: NDArray[np.float64]


def window_weights(points: int, overlap: int, margin: int, *, before: bool, behind: bool) -> NDArray[np.float64]:
    """Weights of a window's coarse points before they are divided by their sum over the windows.

    1 inside, falling linearly over the overlap towards a neighbour; above 0 but for the margin, which is dropped.

    Args:
        before: whether a neighbour overlaps the window's beginning.
        behind: and its end.
    """
    ramp = np.clip((np.arange(points) + 0.5 - margin) / max(overlap - 2 * margin, 0.5), 0, 1)
    weights = np.ones(points)
    if before:
        weights = np.minimum(weights, ramp)
    if behind:
        weights = np.minimum(weights, ramp[::-1])
    return weights


def windows_along(length_px: int, tiles: Tiles, *, stride: int, padding_px: int) -> tuple[tuple[Window, ...], int]:
    """The windows of one direction, and the number of coarse points of the padded image.

    The last window ends with the image, on the grid, so that it too sees as much as it can.

    Args:
        padding_px: the model pads images to multiples of it.
    """
    padded_px = round_up(length_px, padding_px)
    last_px = max(0, round_up(length_px - tiles.tile_px, GRID_PX))
    starts_px = [*range(0, last_px, tiles.tile_px - tiles.overlap_px), last_px]
    weights = np.zeros((len(starts_px), padded_px // stride))
    for row, start_px in zip(weights, starts_px, strict=True):
        own = row[start_px // stride :][: tiles.tile_px // stride]
        own[:] = window_weights(
            len(own),
            tiles.overlap_px // stride,
            -(-tiles.margin_px // stride),
            before=start_px > 0,
            behind=start_px < last_px,
        )
    weights /= weights.sum(axis=0)
    return tuple(
        _window(start_px, min(start_px + tiles.tile_px, length_px), row, stride)
        for start_px, row in zip(starts_px, weights, strict=True)
    ), padded_px // stride


def _window(start_px: int, end_px: int, weights: NDArray[np.float64], stride: int) -> Window:
    used = np.flatnonzero(weights)
    points = slice(int(used[0]), int(used[-1]) + 1)
    return Window(slice(start_px, end_px), points, points.start - start_px // stride, weights[points])


def predict_labels(backend: Backend, images_BCHW: Tensor, tiles: Tiles | None = None) -> Tensor:
    """(B, H, W) uint8 labels of images of one size: on the backend's device, but those of tiles on the CPU."""
    if tiles is None:
        height, width = images_BCHW.shape[-2:]
        return label_maps(backend.coarse_logits(images_BCHW), height, width, backend.geometry)
    return torch.stack(
        [torch.from_numpy(segment_tiled(backend, image, tiles, OutputOptions()).labels) for image in images_BCHW]
    )


def segment_tiled(backend: Backend, image_CHW: Tensor, tiles: Tiles, wanted: OutputOptions) -> Segmentation:
    """The segmentation of an image by blended tiles."""
    height, width = image_CHW.shape[-2:]
    stride = backend.geometry.stride
    padding_px = padding_of(backend, image_CHW)
    rows, row_points = windows_along(height, tiles, stride=stride, padding_px=padding_px)
    columns, column_points = windows_along(width, tiles, stride=stride, padding_px=padding_px)
    return segment_row_blocks(
        blended_row_blocks(backend, image_CHW, rows, columns),
        bilinear_axis(row_points, height, backend.geometry),
        bilinear_axis(column_points, width, backend.geometry),
        backend.geometry,
        backend.classes,
        wanted,
    )


def padding_of(backend: Backend, image_CHW: Tensor) -> int:
    """The multiple that a backend pads images to, as the logits of a single pixel show."""
    pixel = image_CHW[None, :, :1, :1]
    padding_px = backend.coarse_logits(pixel).shape[-1] * backend.geometry.stride
    assert GRID_PX % padding_px == 0, f"{backend} pads to {padding_px} pixels, which does not divide {GRID_PX}"
    return padding_px


def blended_row_blocks(
    backend: Backend, image_CHW: Tensor, rows: tuple[Window, ...], columns: tuple[Window, ...]
) -> Iterator[RowBlock]:
    """Coarse logits of the whole image, from the top, as rows are finished."""
    width = columns[-1].points.stop
    first, carried = 0, None
    for row, following in itertools.zip_longest(rows, rows[1:]):
        sums: Tensor | None = None
        for column in columns:
            seen = image_CHW[:, row.pixels, column.pixels]
            logits = _weighted(backend.coarse_logits(seen[None])[0], row, column)
            if sums is None:
                sums = logits.new_zeros(logits.shape[0], row.points.stop - first, width)
                if carried is not None:
                    sums[:, : carried.shape[1]] = carried
            sums[:, row.points.start - first :, column.points] += logits
        assert sums is not None
        finished = following.points.start if following is not None else row.points.stop
        yield RowBlock(first, sums[:, : finished - first])
        carried = sums[:, finished - 1 - first :].clone()
        first = finished - 1


def _weighted(logits_Khw: Tensor, row: Window, column: Window) -> Tensor:
    """What a window contributes: (K, points of the row, points of the column)."""
    down, across = (logits_Khw.new_tensor(window.weights) for window in (row, column))
    inner = logits_Khw[:, row.offset : row.offset + len(down), column.offset : column.offset + len(across)]
    return inner * down[:, None] * across


def round_up(number: int, multiple: int) -> int:
    """The least multiple that is not below the number."""
    return -(-number // multiple) * multiple
