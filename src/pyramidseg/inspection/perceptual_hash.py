"""Perceptual hash of images, and the search for similar hashes.

The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2): the
signs of the lowest frequencies of a thumbnail, one bit each. Re-encoding, resizing and brightness changes move a few
bits; photographs of different things differ in about half of them.
"""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 32
MAX_BITS = 6
"""Images whose hashes differ in at most so many bits are similar.

Measured on three real datasets and generated scenes: JPEG at quality 20, half the size, or noise of 8 grey levels move
at most 6 bits, a crop of 1 % up to 8. Different images of one road surface differ in 16 bits, of different drives in
10.
"""

MIN_CORRELATION = 0.98
"""Two images with similar hashes show the same thing if their thumbnails correlate at least so much.

If all images show one thing in their middle, such as crops of cells, one pair in a hundred is within 6 bits; nearly all
of those correlate less than this, and re-encoded, resized or brightened copies more.
"""

_MIN_CONTRAST = 0.01
_BLOCK = 2**20
"""Hash comparisons at once, few enough for the processor's cache."""


def perceptual_hash(image: NDArray[Any]) -> int | None:
    """64-bit hash of an image (H, W, C) of any dtype; of more than three channels the first three are used.

    Returns:
        None if the thumbnail has hardly any contrast: flat images all have similar hashes.
    """
    thumbnail = _thumbnail(image)
    if not thumbnail.std() > _MIN_CONTRAST * np.abs(thumbnail).max():
        return None
    low = cv2.dct(thumbnail)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean brightness tells nothing about the content
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def thumbnail_correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson correlation of the thumbnails of two images, each (H, W, C)."""
    thumbnails = (_thumbnail(image).astype(np.float64) for image in (one, other))
    first, second = (thumbnail - thumbnail.mean() for thumbnail in thumbnails)
    return float((first * second).sum() / max(np.sqrt((first**2).sum() * (second**2).sum()), 1e-12))


def nearest_hashes(
    queries: NDArray[np.uint64], pool: NDArray[np.uint64], *, max_bits: int = MAX_BITS
) -> NDArray[np.int64]:
    """Index of the nearest hash in the pool for each query, the first of equally near ones.

    Compares all pairs: ten thousand million take about 10 seconds, and decoding a hundred thousand images minutes.

    Returns:
        (queries,); -1 if all hashes differ in more than `max_bits`.
    """
    nearest = np.full(len(queries), -1, np.int64)
    rows = max(1, _BLOCK // max(1, len(pool)))
    for start in range(0, len(queries) if len(pool) else 0, rows):
        apart = np.bitwise_count(queries[start : start + rows, None] ^ pool)
        row = np.arange(len(apart))
        best = apart.argmin(axis=1)
        nearest[start : start + rows] = np.where(apart[row, best] <= max_bits, best, -1)
    return nearest


def _thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    """(32, 32) float32 grey; each pixel is the mean of the area that it covers."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    if image.dtype == np.uint8 and image.shape[2] == 3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    planes = [np.ascontiguousarray(image[..., band]) for band in range(min(3, image.shape[2]))]
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32) for plane in planes]
    return np.asarray(np.mean(small, axis=0), np.float32)
