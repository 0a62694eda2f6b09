"""Mean, standard deviation and range of image channels over any number of images, in one pass.

Integers are counted by value, so the sums are exact for any number and order of images. Floating-point values are
merged image by image in float64 (Chan, Golub & LeVeque, "Updating Formulae and a Pairwise Algorithm", 1979).
"""

import math
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.images.value_range import UNITS

SMALLEST = {**dict.fromkeys(UNITS, 0), "int16": -32768}
"""The smallest value by integer dtype. Mean and std of the Segmenter are in `UNITS`; of other dtypes in raw units."""

_EXACT_IN_FLOAT32 = 2**24


@dataclass(frozen=True)
class ChannelStatistics:
    """Statistics of one channel.

    Attributes:
        dtype: of the files.
        count: number of values, without nodata.
        mean, deviation: in the Segmenter's units (`UNITS`); the population standard deviation.
        low, high: smallest and largest value, as stored.
    """

    dtype: str
    count: int
    mean: float
    deviation: float
    low: float
    high: float


class ChannelSums:
    """Running sums of one channel; `add` merges those of another image."""

    def __init__(self, dtype: str) -> None:
        self.dtype = dtype
        self.count = self.total = self.squares = 0  # Python integers: exact
        self.mean = self.moment = 0.0
        self.low, self.high = np.inf, -np.inf

    def add(self, other: "ChannelSums") -> None:
        """Merge the sums of other images of the same dtype."""
        count = self.count + other.count
        if other.count:
            difference = other.mean - self.mean
            self.moment += other.moment + difference * difference * self.count * other.count / count
            self.mean += difference * other.count / count
        self.count = count
        self.total += other.total
        self.squares += other.squares
        self.low, self.high = min(self.low, other.low), max(self.high, other.high)

    def statistics(self) -> ChannelStatistics:
        """The statistics; NaN if there was no value."""
        if not self.count:
            return ChannelStatistics(self.dtype, 0, math.nan, math.nan, math.nan, math.nan)
        unit = UNITS.get(self.dtype, 1.0)
        mean, variance = self.mean, self.moment / self.count
        if self.dtype in SMALLEST:
            mean = self.total / self.count
            variance = (self.count * self.squares - self.total**2) / self.count**2
        return ChannelStatistics(self.dtype, self.count, mean / unit, variance**0.5 / unit, self.low, self.high)


def channel_sums(values: NDArray[Any], nodata: NDArray[np.bool_] | None = None) -> list[ChannelSums]:
    """The sums of each channel of an image.

    Args:
        values: (H, W, C).
        nodata: (H, W, C), True for values to leave out.
    """
    dtype = str(values.dtype)
    if dtype == "uint8" and nodata is None and values.shape[2] <= 4:
        return [_of_counts(counts, dtype) for counts in byte_counts(values)]
    planes = [
        values[..., band] if nodata is None else values[..., band][~nodata[..., band]]
        for band in range(values.shape[2])
    ]
    if dtype in SMALLEST:
        smallest, values_of_type = SMALLEST[dtype], 2 ** (8 * values.itemsize)
        shifted = (plane.ravel().astype(np.int64) - smallest for plane in planes)
        return [_of_counts(np.bincount(plane, minlength=values_of_type), dtype) for plane in shifted]
    return [_of_floats(plane, dtype) for plane in planes]


def byte_counts(values: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Number of pixels by channel and value: (H, W, C) to (C, 256)."""
    counts = np.zeros((values.shape[2], 256), np.int64)
    pixels = values.reshape(1, -1, values.shape[2])
    for start in range(0, pixels.shape[1], _EXACT_IN_FLOAT32):  # OpenCV counts in float32
        part = pixels[:, start : start + _EXACT_IN_FLOAT32]
        for band in range(values.shape[2]):
            counts[band] += cv2.calcHist([part], [band], None, [256], [0, 256]).ravel().astype(np.int64)
    return counts


def _of_counts(counts: NDArray[np.int64], dtype: str) -> ChannelSums:
    sums = ChannelSums(dtype)
    present = np.flatnonzero(counts)
    if len(present):
        levels = present + SMALLEST[dtype]
        sums.count = int(counts.sum())
        sums.total = int(counts[present] @ levels)
        sums.squares = int(counts[present] @ levels**2)  # at most MAX_PIXELS * 2**32: fits 64 bits
        sums.low, sums.high = float(levels[0]), float(levels[-1])
    return sums


def _of_floats(plane: NDArray[Any], dtype: str) -> ChannelSums:
    sums, values = ChannelSums(dtype), plane.ravel().astype(np.float64)
    if len(values):
        sums.count = len(values)
        sums.mean = float(values.mean())
        sums.moment = float(np.square(values - sums.mean).sum())
        sums.low, sums.high = float(values.min()), float(values.max())
    return sums
