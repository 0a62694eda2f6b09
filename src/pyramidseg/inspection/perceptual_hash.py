"""Images that look the same: a hash of what an image shows, and the search for hashes that are near each other.

The hash is pHash (Zauner, "Implementation and Benchmarking of Perceptual Image Hash Functions", 2010, section 3.2): the
lowest frequencies of a thumbnail, each as one bit. Saving again, resizing, and changes of brightness move a few bits;
photographs of different things differ in about half of them.
"""

import itertools
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

THUMBNAIL_PX = 32
MAX_BITS = 6
"""Images whose hashes differ in no more bits than this look the same.

Measured on three real sets and the made scenes: JPEG at quality 20, half the size, or 8 grey levels of noise move at
most 6 bits, a crop of 1 % up to 8. Different pictures of one road surface are 16 apart, of different drives 10.
"""

MIN_CORRELATION = 0.98
"""Of two images that have nearly the same hash, and are compared once more, the least correlation of their thumbnails.

Where all images show one thing in their middle, as crops of cells do, one pair in a hundred is within 6 bits; nearly
all of those correlate less than this, and changes by saving, resizing and brightness leave more.
"""

_MIN_CONTRAST = 0.01
_CHUNK = 2**22


def perceptual_hash_of(image: NDArray[Any]) -> int | None:
    """64 bits of (H, W, C), of any type of pixels; of several bands the first three count.

    Returns:
        None where the thumbnail has hardly any contrast, as all that is flat looks the same.
    """
    thumbnail = _thumbnail(image)
    if not thumbnail.std() > _MIN_CONTRAST * np.abs(thumbnail).max():
        return None
    low = cv2.dct(thumbnail)[:8, :8].ravel()
    bits = low > np.median(low[1:])
    bits[0] = False  # the mean brightness says nothing
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def correlation(one: NDArray[Any], other: NDArray[Any]) -> float:
    """Pearson's correlation of the thumbnails of two images, each (H, W, C)."""
    thumbnails = (_thumbnail(image).astype(np.float64) for image in (one, other))
    first, second = (thumbnail - thumbnail.mean() for thumbnail in thumbnails)
    return float((first * second).sum() / max(np.sqrt((first**2).sum() * (second**2).sum()), 1e-12))


class Nearest(NamedTuple):
    """For each query the nearest of the others, the first of equally near ones.

    Attributes:
        place: (N,) int64, its position; -1 where none is near.
        bits: (N,) int64, how many bits differ.
    """

    place: NDArray[np.int64]
    bits: NDArray[np.int64]


def nearest(queries: NDArray[np.uint64], pool: NDArray[np.uint64], *, max_bits: int = MAX_BITS) -> Nearest:
    """For each query the nearest hash in the pool, at most `max_bits` away; exact."""
    values, first = np.unique(pool, return_index=True)
    asked, back = np.unique(queries, return_inverse=True)
    return _unpacked(_search(asked, values, first, min_bits=0, max_bits=max_bits)[back])


def nearest_other(hashes: NDArray[np.uint64], *, max_bits: int = MAX_BITS) -> Nearest:
    """For each hash the nearest among all the others."""
    values, first, back, counts = np.unique(hashes, return_index=True, return_inverse=True, return_counts=True)
    best = _search(values, values, first, min_bits=1, max_bits=max_bits)[back]
    order, starts = np.argsort(back, kind="stable"), np.cumsum(counts) - counts
    second = order[np.minimum(starts + 1, len(order) - 1)]
    twin = np.where(first[back] == np.arange(len(hashes)), second[back], first[back])
    return _unpacked(np.where(counts[back] > 1, twin, best))


_NONE = np.iinfo(np.int64).max
_INDEX_BITS = 40


def _search(
    queries: NDArray[np.uint64], pool: NDArray[np.uint64], names: NDArray[np.int64], *, min_bits: int, max_bits: int
) -> NDArray[np.int64]:
    """For each query the least `bits << 40 | name` within the bounds, or `_NONE`.

    Hashes that differ in at most n bits agree in at least one of n + 1 bands of bits (the pigeonhole principle): only
    those that share a band are compared.
    """
    best = np.full(len(queries), _NONE)
    if not len(queries):
        return best
    edges = np.linspace(0, 64, max_bits + 2).astype(int).tolist()
    for low, high in itertools.pairwise(edges):
        query_keys, pool_keys = (_band(hashes, low, high) for hashes in (queries, pool))
        query_order, pool_order = np.argsort(query_keys, kind="stable"), np.argsort(pool_keys, kind="stable")
        keys, starts = np.unique(query_keys[query_order], return_index=True)
        ends = np.append(starts[1:], len(queries))
        lefts = np.searchsorted(pool_keys[pool_order], keys, "left")
        rights = np.searchsorted(pool_keys[pool_order], keys, "right")
        for start, end, left, right in zip(starts, ends, lefts, rights, strict=True):
            near = pool_order[left:right]
            step = max(1, _CHUNK // max(1, len(near)))
            for at in range(start, end, step):
                asked = query_order[at : min(at + step, end)]
                _compare(best, queries, asked, pool[near], names[near], min_bits=min_bits, max_bits=max_bits)
    return best


def _compare(
    best: NDArray[np.int64],
    queries: NDArray[np.uint64],
    asked: NDArray[np.int64],
    pool: NDArray[np.uint64],
    names: NDArray[np.int64],
    *,
    min_bits: int,
    max_bits: int,
) -> None:
    bits = np.bitwise_count(queries[asked, None] ^ pool)
    rows, columns = np.nonzero((bits >= min_bits) & (bits <= max_bits))
    found = bits[rows, columns].astype(np.int64) << _INDEX_BITS | names[columns]
    np.minimum.at(best, asked[rows], found)


def _band(hashes: NDArray[np.uint64], low: int, high: int) -> NDArray[np.uint64]:
    return hashes >> np.uint64(low) & np.uint64(2 ** (high - low) - 1)


def _unpacked(best: NDArray[np.int64]) -> Nearest:
    found = best != _NONE
    return Nearest(np.where(found, best & (2**_INDEX_BITS - 1), -1), np.where(found, best >> _INDEX_BITS, 0))


def _thumbnail(image: NDArray[Any]) -> NDArray[np.float32]:
    """(32, 32) float32 grey: each pixel the mean of what it covers."""
    size = (THUMBNAIL_PX, THUMBNAIL_PX)
    if image.dtype == np.uint8 and image.shape[2] == 3:
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), np.float32)
    planes = [np.ascontiguousarray(image[..., band]) for band in range(min(3, image.shape[2]))]
    small = [cv2.resize(plane, size, interpolation=cv2.INTER_AREA).astype(np.float32) for plane in planes]
    return np.asarray(np.mean(small, axis=0), np.float32)
