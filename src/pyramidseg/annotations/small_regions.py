"""Merge small regions of a label map into neighbours."""

import heapq
from collections.abc import Callable, Collection, Iterable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import joined_numbers, number_regions

Blocks = Iterable[tuple[NDArray[np.uint8], NDArray[np.float32]]]
"""Labels and confidence of an image in blocks of rows, each (rows, W), from the top."""


def merge_small_regions(
    blocks: Callable[[], Blocks], *, min_pixels: float, skip: Collection[int] = ()
) -> Iterator[NDArray[np.uint8]]:
    """Labels in which regions of fewer pixels have the label of the neighbour with the highest mean confidence.

    The smallest region is merged first, of equal ones the first in reading order. Regions and neighbours are connected
    through the sides of pixels (4-connectivity). A merged region is part of its neighbour from then on, and so are
    other regions of the same label that it touches. What remains is only small if it has no neighbour.

    Args:
        blocks: called twice: once to measure the regions, which are kept, and once for the labels.
        skip: values that are left as they are, and merged with nothing.

    Yields:
        The labels (rows, W) of each block.
    """
    values, totals = [np.zeros(1, np.uint8)], [np.zeros((2, 1))]  # pixels, and sums of their confidence
    pairs, count, row = [np.zeros((0, 2), np.int32)], 1, np.zeros((0, 0), np.int32)
    for labels, confidence in blocks():
        numbers = number_regions(labels, skip=skip)
        own = np.zeros(1 + numbers.max(initial=0), np.uint8)
        own[numbers] = labels
        values.append(own[1:])
        sums = [np.bincount(numbers.ravel(), own) for own in (None, confidence.ravel())]
        totals.append(np.stack(sums).astype(np.float64)[:, 1:])
        numbers[numbers > 0] += count - 1
        count += len(own) - 1
        above = np.vstack([row.reshape(-1, labels.shape[1]), numbers])
        pairs += [_neighbours(above[:, :-1], above[:, 1:]), _neighbours(above[:-1], above[1:])]
        row = numbers[-1]
    value, one, other = np.concatenate(values), *np.unique(np.concatenate(pairs), axis=0).T
    same = value[one] == value[other]
    root = joined_numbers(count, one[same], other[same])
    place = (np.cumsum(root == np.arange(count)) - 1)[root]
    sizes, sums = (np.bincount(place, total).tolist() for total in np.concatenate(totals, axis=1))
    pairs_of_roots = place[np.stack([one, other])[:, ~same]]
    merged = _merge(value[root == np.arange(count)], sizes, sums, pairs_of_roots, min_pixels)[place]
    first = 1
    for labels, _ in blocks():
        numbers = number_regions(labels, skip=skip)
        last = int(numbers.max(initial=0))
        yield np.where(numbers, np.append(np.uint8(0), merged[first : first + last])[numbers], labels)
        first += last


def _merge(
    values: NDArray[np.uint8], sizes: list[float], sums: list[float], pairs: NDArray[Any], min_pixels: float
) -> NDArray[np.uint8]:
    """The values of regions, those of number 0 excepted, after the small ones are merged.

    Args:
        sums: of the confidence of their pixels.
        pairs: (2, N): numbers of neighbours.
    """
    neighbours: dict[int, set[int]] = {number: set() for number in range(1, len(sizes))}
    for first, second in pairs.T.tolist():
        neighbours[first].add(second)
        neighbours[second].add(first)
    value, parent, first = values.tolist(), list(range(len(sizes))), list(range(len(sizes)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    def join(target: int, other: int) -> None:
        parent[other] = target
        first[target] = min(first[target], first[other])
        sizes[target] += sizes[other]
        sums[target] += sums[other]
        neighbours[target] |= neighbours.pop(other)

    small = [(size, number, number) for number, size in enumerate(sizes) if number and size < min_pixels]
    heapq.heapify(small)
    while small:
        size, _, number = heapq.heappop(small)
        if parent[number] != number or sizes[number] != size:
            continue
        around = {root(other) for other in neighbours[number]} - {number}
        if not around:
            continue
        target = max(around, key=lambda other: (sums[other] / sizes[other], sizes[other], -other))
        joined = [other for other in around if value[other] == value[target]]
        target = max(joined, key=lambda other: (len(neighbours[other]), -other))
        for other in (number, *joined):
            if other != target:
                join(target, other)
        if sizes[target] < min_pixels:
            heapq.heappush(small, (sizes[target], first[target], target))
    return values[[root(number) for number in range(len(sizes))]]


def _neighbours(first_HW: NDArray[np.int32], second_HW: NDArray[np.int32]) -> NDArray[np.int32]:
    """(N, 2): the pairs of regions that have pixels at the same place."""
    differs = (first_HW != second_HW) & (first_HW > 0) & (second_HW > 0)
    return np.unique(np.stack([first_HW[differs], second_HW[differs]], axis=1), axis=0)
