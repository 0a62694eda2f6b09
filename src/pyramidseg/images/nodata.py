"""Nodata: pixels of an image without a value, such as the border of a satellite scene or a sensor gap."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class MaskedImage(NamedTuple):
    """An image and its nodata mask.

    Attributes:
        values: (H, W, C).
        nodata: (H, W, C) bool, True where there is no data; None if there is data everywhere.
    """

    values: NDArray[Any]
    nodata: NDArray[np.bool_] | None

    def filled(self, means: Sequence[float] | None = None) -> NDArray[Any]:
        """The values, with nodata replaced by the mean of the channel's other values, or by 0 if it has none.

        After normalisation this is near 0, like the zero padding of the network's convolutions.

        Args:
            means: of the channels, where this is a part of an image.
        """
        if self.nodata is None:
            return self.values
        values = self.values.copy()
        for channel in range(values.shape[2]):
            nodata, plane = self.nodata[..., channel], values[..., channel]
            if means is not None or (nodata.any() and not nodata.all()):
                mean = float(plane[~nodata].mean(dtype=np.float64)) if means is None else means[channel]
                plane[nodata] = mean if values.dtype.kind == "f" else round(mean)
            else:
                plane[nodata] = 0
        return values

    def nodata_in_all_channels(self) -> NDArray[np.bool_] | None:
        """(H, W) bool, True where no channel has data; None if there is no such pixel."""
        if self.nodata is None:
            return None
        empty = np.asarray(self.nodata.all(axis=2))
        return empty if empty.any() else None


def find_nodata(values: NDArray[Any], nodata_value: float | None) -> NDArray[np.bool_] | None:
    """Find the values of an image (H, W, C) that stand for nodata: non-finite floats, and the file's nodata value.

    A nodata value of 0, or of the maximum of an unsigned type, counts only where all channels have it: in a single
    channel it may be a real shadow or highlight.

    Returns:
        (H, W, C) bool, or None if there is data everywhere.
    """
    if values.dtype.kind == "f":
        nodata = ~np.isfinite(values)
        if nodata_value is not None:
            with np.errstate(over="ignore"):  # beyond float32 it becomes infinite, as the values did
                nodata |= values == np.float32(nodata_value)
        return nodata if nodata.any() else None
    limits = np.iinfo(values.dtype)
    if nodata_value is None or not nodata_value.is_integer() or not limits.min <= nodata_value <= limits.max:
        return None
    nodata = values == int(nodata_value)
    if limits.min == 0 and nodata_value in (0, limits.max):
        nodata = np.broadcast_to(nodata.all(axis=2, keepdims=True), nodata.shape)
    return nodata if nodata.any() else None
