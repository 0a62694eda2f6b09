"""Bilinear upsampling taken apart: where each pixel lies between the coarse points, and any rows of the result alone.

What `LogitGeometry.upsample` computes for a whole image at once, in pieces: so that labels need no full-size logits,
and confidence and tiles those of a few rows at a time.

Legend: B batch, K classes, h w coarse points, W pixels of a row.
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
    """One direction: pixels in cells, where cell c lies between the coarse points c - 1 and c.

    Cells 0 and `points` lie beyond the outermost points, where the nearest one counts: it is both of their corners.

    Attributes:
        points: number of coarse points.
        cell: (pixels,) of each pixel, from 0 to `points`, never falling.
        fraction: (pixels,) float64 in [0, 1): how far it is from point c - 1 to point c.
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
    def behind(self) -> Indices:
        """The corner behind each cell, (points + 1,)."""
        return np.minimum(np.arange(self.points + 1), self.points - 1)

    @cached_property
    def starts(self) -> Indices:
        """First pixel of each cell and of the one that would follow, (points + 2,): equal where a cell has none."""
        return np.searchsorted(self.cell, np.arange(self.points + 2))

    def between(self, first: int, end: int) -> tuple[slice, slice, "Axis"]:
        """The cells from `first` to before `end`: their points, their pixels, and the axis of these alone."""
        points = slice(max(first - 1, 0), min(end, self.points))
        pixels = slice(*np.searchsorted(self.cell, (first, end)).tolist())
        return points, pixels, Axis(points.stop - points.start, self.cell[pixels] - points.start, self.fraction[pixels])

    def on(self, device: torch.device, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
        """Of each pixel the corners before and behind it, and its fraction; kept on the device for the next time."""
        key = device, dtype
        if key not in self._tensors:
            before, behind = (torch.from_numpy(corner[self.cell]).to(device) for corner in (self.before, self.behind))
            self._tensors[key] = before, behind, torch.from_numpy(self.fraction).to(dtype).to(device)
        return self._tensors[key]


@lru_cache(maxsize=16)  # images mostly come in a few sizes
def bilinear_axis(points: int, pixels: int, geometry: LogitGeometry) -> Axis:
    """Where the first `pixels` of `points * stride` lie, in whole numbers, so that nothing is rounded.

    Pixel p lies at (p + 1/2) / stride - 1/2, or with `align_corners` at p (points - 1) / (points * stride - 1).
    """
    pixel = np.arange(pixels, dtype=np.int64)
    if geometry.align_corners:
        above, below = pixel * (points - 1), max(points * geometry.stride - 1, 1)
    else:
        above, below = 2 * pixel + 1 - geometry.stride, 2 * geometry.stride
    return Axis(points, above // below + 1, (above % below) / below)


def upsampled(logits_BKhw: Tensor, rows: Axis, chosen: slice, width: int, geometry: LogitGeometry) -> Tensor:
    """The chosen pixels of `rows` of the upsampled logits: (B, K, h, w) to (B, K, chosen, width)."""
    before, behind, fraction = (part[chosen] for part in rows.on(logits_BKhw.device, logits_BKhw.dtype))
    between = torch.lerp(logits_BKhw[:, :, before], logits_BKhw[:, :, behind], fraction[:, None])
    # Bilinear at an unchanged height is linear along the rows.
    size = (len(fraction), logits_BKhw.shape[-1] * geometry.stride)
    wide = F.interpolate(between, size=size, mode="bilinear", align_corners=geometry.align_corners)
    return wide[..., :width]
