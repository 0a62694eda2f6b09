"""Holes: pixels of an image that hold nothing, as at the slanted edge of a satellite scene or under a sensor's gaps."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class MaskedImage(NamedTuple):
    """An image with what is known of its holes.

    Attributes:
        values: (H, W, C).
        nodata: (H, W, C) bool, True where a value stands for nothing; None where there are no holes.
    """

    values: NDArray[Any]
    nodata: NDArray[np.bool_] | None

    def filled(self) -> NDArray[Any]:
        """The values with those of holes replaced by the mean of the others in the same channel, 0 without others.

        After normalisation that is near 0, which is what the network's own padding holds.
        """
        if self.nodata is None:
            return self.values
        values = self.values.copy()
        for channel in range(values.shape[2]):
            hole, plane = self.nodata[..., channel], values[..., channel]
            if hole.any() and not hole.all():
                mean = float(plane[~hole].mean(dtype=np.float64))
                plane[hole] = mean if values.dtype.kind == "f" else round(mean)
            else:
                plane[hole] = 0
        return values

    def empty(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True where no channel holds anything; None where there is no such pixel."""
        if self.nodata is None:
            return None
        empty = np.asarray(self.nodata.all(axis=2))
        return empty if empty.any() else None


def find_nodata(values: NDArray[Any], nodata: float | None) -> NDArray[np.bool_] | None:
    """Where (H, W, C) holds nothing: floats that are not finite, and the value that the file says means nothing.

    A nodata value of 0, or of the largest one of unsigned integers, counts only where all channels have it: in a single
    one it may be an honest shadow or highlight.

    Returns:
        (H, W, C) bool, or None where there are no holes.
    """
    if values.dtype.kind == "f":
        holes = ~np.isfinite(values)
        if nodata is not None:
            with np.errstate(over="ignore"):  # beyond float32, where it is infinite, as the values are
                holes |= values == np.float32(nodata)
        return holes if holes.any() else None
    limits = np.iinfo(values.dtype)
    if nodata is None or not nodata.is_integer() or not limits.min <= nodata <= limits.max:
        return None
    holes = values == int(nodata)
    if limits.min == 0 and nodata in (0, limits.max):
        holes = np.broadcast_to(holes.all(axis=2, keepdims=True), holes.shape)
    return holes if holes.any() else None
