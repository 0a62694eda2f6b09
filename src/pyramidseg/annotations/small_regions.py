"""Merge small regions of a label map into neighbours."""

import heapq

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import number_regions


def merge_small_regions(
    labels_HW: NDArray[np.uint8], confidence_HW: NDArray[np.float32], *, min_pixels: int
) -> NDArray[np.uint8]:
    """A copy in which regions of fewer pixels have the label of the neighbour with the highest mean confidence.

    The smallest region is merged first, of equal ones the first in reading order. Regions and neighbours are connected
    through the sides of pixels (4-connectivity). A merged region is part of its neighbour from then on, and so are
    other regions of the same label that it touches. What remains is only small if nothing else is in the image.
    """
    numbers = number_regions(labels_HW)
    flat = numbers.ravel()
    sizes = np.bincount(flat).tolist()
    sums = np.bincount(flat, weights=confidence_HW.ravel()).tolist()
    if min(sizes[1:]) >= min_pixels:
        return labels_HW.copy()
    values = np.zeros(len(sizes), np.uint8)
    values[flat] = labels_HW.ravel()
    value = values.tolist()
    neighbours = _neighbours(numbers)
    parent = list(range(len(sizes)))

    def root(number: int) -> int:
        while parent[number] != number:
            parent[number] = number = parent[parent[number]]
        return number

    def join(target: int, other: int) -> None:
        parent[other] = target
        sizes[target] += sizes[other]
        sums[target] += sums[other]
        neighbours[target] |= neighbours.pop(other)

    small = [(size, number) for number, size in enumerate(sizes) if number and size < min_pixels]
    heapq.heapify(small)
    while small:
        size, number = heapq.heappop(small)
        if parent[number] != number or sizes[number] != size:
            continue
        around = {root(other) for other in neighbours[number]} - {number}
        if not around:
            continue
        target = max(around, key=lambda other: (sums[other] / sizes[other], sizes[other], -other))
        joined = [other for other in around if value[other] == value[target]]
        target = max(joined, key=lambda other: len(neighbours[other]))
        for other in (number, *joined):
            if other != target:
                join(target, other)
        if sizes[target] < min_pixels:
            heapq.heappush(small, (sizes[target], target))
    merged = values[[root(number) for number in range(len(sizes))]]
    return np.asarray(merged[numbers])


def _neighbours(numbers_HW: NDArray[np.int32]) -> dict[int, set[int]]:
    """The numbers of the regions that each region touches."""
    found: dict[int, set[int]] = {number: set() for number in range(1, int(numbers_HW.max()) + 1)}
    for first, second in ((numbers_HW[:, :-1], numbers_HW[:, 1:]), (numbers_HW[:-1], numbers_HW[1:])):
        differs = first != second
        pairs = np.unique(np.stack([first[differs], second[differs]], axis=1), axis=0)
        for one, other in pairs.tolist():
            found[one].add(other)
            found[other].add(one)
    return found
