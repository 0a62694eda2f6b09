"""Bilinear upsampling in parts: the position of each pixel between the coarse points, and any rows of the result.

Computes what `LogitGeometry.upsample` does, but not for the whole image at once: labels then need no full-size logits,
and confidence and tiles need those of a few rows at a time.

Legend: B batch, K classes, h w points of the coarse logits, W pixels of a row.
"""

from dataclasses import dataclass, field
from functools import cached_property, lru_cache

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends import LogitGeometry

Indices = NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Axis:
    """Positions of pixels along one axis, in cells: cell c is between the coarse points c - 1 and c.

    Cells 0 and `points` are outside the outermost points; the outermost point is then both corners of the cell.

    Attributes:
        points: number of coarse points.
        cell: (pixels,) cell of each pixel, from 0 to `points`, in ascending order.
        fraction: (pixels,) float64 in [0, 1): position of the pixel between point c - 1 and point c.
    """

    points: int
    cell: Indices
    fraction: NDArray[np.float64]
    _tensors: dict[tuple[torch.device, torch.dtype], tuple[Tensor, Tensor, Tensor]] = field(
        default_factory=dict, init=False, repr=False
    )

    @property
    def before(self) -> Indices:
        """The corner before each cell, (points + 1,)."""
        return np.maximum(np.arange(-1, self.points), 0)

    @property
    def after(self) -> Indices:
        """The corner after each cell, (points + 1,)."""
        return np.minimum(np.arange(self.points + 1), self.points - 1)

    @cached_property
    def starts(self) -> Indices:
        """First pixel of each cell and of the one after the last, (points + 2,); equal for a cell without pixels."""
        return np.searchsorted(self.cell, np.arange(self.points + 2))

    def between(self, first: int, end: int) -> tuple[slice, slice, "Axis"]:
        """The cells from `first` up to but not including `end`: their points, their pixels, and their own axis."""
        points = slice(max(first - 1, 0), min(end, self.points))
        pixels = slice(*np.searchsorted(self.cell, (first, end)).tolist())
        return points, pixels, Axis(points.stop - points.start, self.cell[pixels] - points.start, self.fraction[pixels])

    def first_pixel(self, stride: int) -> int:
        """Number of pixels of all points before the first one of this axis."""
        return round((int(self.cell[0]) - 0.5 + float(self.fraction[0])) * stride - 0.5)

    def on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """The corners before and after each pixel, and its fraction, as tensors that are cached by device."""
        key = device, dtype
        if key not in self._tensors:
            before, after = (torch.from_numpy(corner[self.cell]).to(device) for corner in (self.before, self.after))
            self._tensors[key] = before, after, torch.from_numpy(self.fraction).to(dtype).to(device)
        return self._tensors[key]


@lru_cache(maxsize=16)  # most datasets have a few image sizes
def bilinear_axis(points: int, pixels: int, geometry: LogitGeometry) -> Axis:
    """Positions of the first `pixels` of `points * stride` pixels, in integer arithmetic, so that nothing is rounded.

    Pixel p is at (p + 1/2) / stride - 1/2, or with `align_corners` at p (points - 1) / (points * stride - 1).
    """
    pixel = np.arange(pixels, dtype=np.int64)
    if geometry.align_corners:
        above, below = pixel * (points - 1), max(points * geometry.stride - 1, 1)
    else:
        above, below = 2 * pixel + 1 - geometry.stride, 2 * geometry.stride
    return Axis(points, above // below + 1, (above % below) / below)


def upsample_rows(logits_BKhw: Tensor, rows: Axis, chosen: slice, columns: Axis, geometry: LogitGeometry) -> Tensor:
    """The chosen pixels of `rows` of the upsampled logits: (B, K, h, w) to (B, K, chosen, columns).

    Columns are those of the whole image, or, unless corners are aligned, any that follow each other.
    """
    before, after, fraction = (part[chosen] for part in rows.on(logits_BKhw.device, logits_BKhw.dtype))
    between = torch.lerp(logits_BKhw[:, :, before], logits_BKhw[:, :, after], fraction[:, None])
    # Bilinear interpolation that keeps the height is linear interpolation along the rows.
    size = (len(fraction), logits_BKhw.shape[-1] * geometry.stride)
    wide = F.interpolate(between, size=size, mode="bilinear", align_corners=geometry.align_corners)
    first = 0 if geometry.align_corners else columns.first_pixel(geometry.stride)
    return wide[..., first : first + len(columns.cell)]
