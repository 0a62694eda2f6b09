"""Label maps from coarse logits: the argmax of their bilinear upsampling, without upsampling them.

Why this is exact: in a cell, between four neighbouring coarse points, bilinear interpolation is a convex combination of
the logits at these corners.

1. A class that is the largest at all four corners is the largest everywhere in the cell: nothing is interpolated.
2. If the corners disagree, a class may win inside that is the largest at no corner. But inside the cell, every class
   stays between its smallest and its largest corner. A class whose largest corner is below the smallest corner of
   another class cannot win, so the candidates are the classes whose largest corner reaches the maximum of all smallest
   corners: mostly two or three. Only they are interpolated. There is always one: the class with that maximum.

Among equal classes the first one wins, as in the argmax: with exact arithmetic the result is the same, ties included.
Floating-point results may differ where the two largest logits of a pixel are equal up to rounding.

About a tenth of the cells of a street scene disagree. The remaining cost is reading the coarse logits once, of which
stride 4 has a sixteenth of the full-size ones. NumPy and OpenCV are used because torch's argmax over classes takes ten
times as long.

Legend: B batch, K classes, h w points of the coarse logits, P points in memory order.
"""

from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends import LogitGeometry
from pyramidseg.predict.upsampling import Axis, Indices, bilinear_axis, upsample_rows

Logits = NDArray[Any]
"""float32 or float64."""

BLOCK_VALUES = 2**21
"""Logits processed at a time, which bounds the memory."""


@torch.inference_mode()
def label_maps(coarse_BKhw: Tensor, height: int, width: int, geometry: LogitGeometry) -> Tensor:
    """Class of the largest upsampled logit: (B, K, h, w) to (B, height, width) uint8 on the same device."""
    rows = bilinear_axis(coarse_BKhw.shape[-2], height, geometry)
    columns = bilinear_axis(coarse_BKhw.shape[-1], width, geometry)
    return block_labels(coarse_BKhw, rows, columns, geometry)


def block_labels(logits_BKhw: Tensor, rows: Axis, columns: Axis, geometry: LogitGeometry) -> Tensor:
    """Labels of the pixels of some rows and columns: (B, K, h, w) to uint8 on the same device."""
    if logits_BKhw.device.type == "cpu":
        return torch.from_numpy(sparse_labels(logits_BKhw.numpy(), rows, columns))
    return dense_labels(logits_BKhw, rows, columns, geometry)


def dense_labels(logits_BKhw: Tensor, rows: Axis, columns: Axis, geometry: LogitGeometry) -> Tensor:
    """Upsample a few rows at a time and take the argmax: faster on a GPU than selecting cells."""
    batch, classes = logits_BKhw.shape[:2]
    height, width = len(rows.cell), len(columns.cell)
    labels = torch.empty(batch, height, width, dtype=torch.uint8, device=logits_BKhw.device)
    at_once = max(1, 8 * BLOCK_VALUES // (batch * classes * width))
    for first in range(0, height, at_once):
        chosen = slice(first, first + at_once)
        labels[:, chosen] = upsample_rows(logits_BKhw, rows, chosen, columns, geometry).max(dim=1).indices
    return labels


def sparse_labels(logits_BKhw: Logits, rows: Axis, columns: Axis) -> NDArray[np.uint8]:
    """Interpolate only cells whose corners disagree, and only candidate classes (see the top of this file)."""
    labels = np.empty((len(logits_BKhw), len(rows.cell), len(columns.cell)), np.uint8)
    end = int(rows.cell[-1]) + 1
    at_once = max(1, BLOCK_VALUES // (logits_BKhw.shape[1] * columns.points))
    for first in range(int(rows.cell[0]), end, at_once):
        points, pixels, part = rows.between(first, min(first + at_once, end))
        for logits_Khw, own in zip(logits_BKhw, labels, strict=True):
            _label_block(logits_Khw[:, points], part, columns, own[pixels])
    return labels


def _label_block(logits_Khw: Logits, rows: Axis, columns: Axis, labels: NDArray[np.uint8]) -> None:
    """Write the labels between some rows of points."""
    logits_PK = _by_point(logits_Khw)
    winners = logits_PK.argmax(axis=1).astype(np.uint8).reshape(rows.points, columns.points)
    corners = np.pad(winners, 1, mode="edge")  # cell (c, d) has the corners (c, d) to (c + 1, d + 1)
    np.take(corners[:, columns.cell], rows.cell, axis=0, out=labels)
    if not (rows.fraction.any() or columns.fraction.any()):
        return  # every pixel is at a point
    mixed = corners[:-1, :-1] != corners[:-1, 1:]
    mixed |= corners[:-1, :-1] != corners[1:, :-1]
    mixed |= corners[:-1, :-1] != corners[1:, 1:]
    mixed &= np.diff(rows.starts)[:, None] > 0
    mixed &= np.diff(columns.starts) > 0
    cells = np.argwhere(mixed)
    at_once = max(1, BLOCK_VALUES // (8 * logits_PK.shape[1]))
    for first in range(0, len(cells), at_once):
        _label_mixed_cells(logits_PK, rows, columns, cells[first : first + at_once], labels)


def _by_point(logits_Khw: Logits) -> Logits:
    """(K, h, w) to (h w, K), contiguous: a view if the logits are channels-last in memory."""
    logits_hwK = logits_Khw.transpose(1, 2, 0)
    if logits_hwK.flags.c_contiguous:
        return logits_hwK.reshape(-1, logits_hwK.shape[2])
    flat = np.ascontiguousarray(logits_Khw).reshape(logits_Khw.shape[0], -1)
    return np.asarray(cv2.transpose(flat)).reshape(flat.shape[::-1])


def _label_mixed_cells(logits_PK: Logits, rows: Axis, columns: Axis, cells: Indices, labels: NDArray[np.uint8]) -> None:
    """Write the labels of n cells, (n, 2), whose corners disagree. A pair is a cell with one of its candidates."""
    row, column = cells.T
    top, bottom = rows.before[row] * columns.points, rows.after[row] * columns.points
    left, right = columns.before[column], columns.after[column]
    corners_4nK = logits_PK[np.stack((top + left, top + right, bottom + left, bottom + right))]
    least, greatest = corners_4nK.min(axis=0), corners_4nK.max(axis=0)
    # "Not below" rather than "at least": NaN stays a candidate, and wins, as in the argmax.
    candidate = ~(greatest < least.max(axis=1, keepdims=True))
    pair_cell, pair_class = np.divmod(np.flatnonzero(candidate), candidate.shape[1])
    first_pairs = np.flatnonzero(np.diff(pair_cell, prepend=-1))

    pixel_rows, down = _pixels_of(rows, row, logits_PK.dtype)
    pixel_columns, across = _pixels_of(columns, column, logits_PK.dtype)
    down, across = down[pair_cell], across[pair_cell][:, None, :]
    top_left, top_right, bottom_left, bottom_right = corners_4nK[:, pair_cell, pair_class][..., None]
    at_left = (1 - down) * top_left + down * bottom_left
    at_right = (1 - down) * top_right + down * bottom_right
    values = (1 - across) * at_left[..., None] + across * at_right[..., None]

    best = np.maximum.reduceat(values, first_pairs, axis=0)
    wins = (values == best[pair_cell]) | np.isnan(values)
    classes = np.where(wins, pair_class.astype(np.uint8)[:, None, None], np.uint8(255))
    labels[pixel_rows[:, :, None], pixel_columns[:, None, :]] = np.minimum.reduceat(classes, first_pairs, axis=0)


def _pixels_of(axis: Axis, cells: Indices, dtype: np.dtype[Any]) -> tuple[Indices, Logits]:
    """Pixels of some cells and their fractions, (n, m); a cell with fewer than m pixels repeats its last one."""
    starts = axis.starts
    first, last = starts[cells], starts[cells + 1] - 1
    pixels = np.minimum(first[:, None] + np.arange((last - first).max() + 1), last[:, None])
    return pixels, axis.fraction[pixels].astype(dtype)
