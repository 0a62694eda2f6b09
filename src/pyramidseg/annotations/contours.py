"""Exact outlines of the regions of a label map: rings along pixel borders that rasterise to the same labels.

A region is a set of pixels of one value that are connected through their sides (4-connectivity). Neighbouring regions
share their borders, and every ring is simple: it visits no corner twice. Coordinates are those of
`annotations.polygons`: x to the right, y down, (0, 0) the outer corner of the first pixel.

On request the rings form a planar subdivision: where borders meet, all rings have a corner, so that two neighbours have
exactly the same corners along their common border, also after it is simplified or moved to another coordinate system.
"""

import itertools
from collections.abc import Collection, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.simplification import removable_corners

Ring = NDArray[np.int64]
"""(N, 2): x and y of the corners of a closed outline, without the first one again at the end."""


class Region(NamedTuple):
    """A connected region of a label map.

    Attributes:
        value: of its pixels.
        pixels: number of its pixels.
        rings: the outer ring (clockwise as displayed), then its holes (counterclockwise).
        number: the region's in `number_regions`.
    """

    value: int
    pixels: int
    rings: list[Ring]
    number: int


def find_regions(
    labels_HW: NDArray[np.integer], *, skip: Collection[int] = (), simplify_px: float | None = None
) -> list[Region]:
    """All regions of a label map, by value and within a value by their first pixel in reading order.

    Args:
        labels_HW: (H, W) integers.
        skip: values that are left out, such as the background or the ignore label.
        simplify_px: None keeps only the corners where a ring turns. Otherwise the rings form a planar subdivision,
            whose borders are simplified by this tolerance (`removable_corners`): with 0 they remain exact.
    """
    runs, numbers = _numbered_runs(labels_HW, skip)
    lengths = np.diff(runs, append=labels_HW.size)
    sizes = np.zeros(1 + numbers.max(initial=0), np.int64)
    np.add.at(sizes, numbers, lengths)
    values = np.empty_like(sizes)
    values[numbers] = labels_HW.ravel()[runs]
    rings: dict[int, list[Ring]] = {}
    for number, ring in _trace(np.repeat(numbers, lengths).reshape(labels_HW.shape), simplify_px):
        rings.setdefault(number, []).append(ring)
    regions = [Region(int(values[number]), int(sizes[number]), own, number) for number, own in rings.items()]
    return sorted(regions, key=lambda region: region.value)


def number_regions(labels_HW: NDArray[np.integer], *, skip: Collection[int] = ()) -> NDArray[np.int32]:
    """Number the regions from 1, by their first pixel in reading order.

    Returns:
        (H, W): the number of each pixel's region, 0 where the value is in `skip`.
    """
    runs, numbers = _numbered_runs(labels_HW, skip)
    return np.repeat(numbers, np.diff(runs, append=labels_HW.size)).reshape(labels_HW.shape)


def _numbered_runs(
    labels_HW: NDArray[np.integer], skip: Collection[int]
) -> tuple[NDArray[np.int64], NDArray[np.int32]]:
    """The flat index where each run of equal pixels in a row starts, and the number of its region."""
    begins = np.ones(labels_HW.shape, bool)
    begins[:, 1:] = labels_HW[:, 1:] != labels_HW[:, :-1]
    runs = np.flatnonzero(begins)
    run_at = np.repeat(np.arange(len(runs), dtype=np.int32), np.diff(runs, append=labels_HW.size))
    meets = labels_HW[1:] == labels_HW[:-1]
    meets &= begins[1:] | begins[:-1]  # two runs meet first where one of them starts
    upper = np.flatnonzero(meets)
    one, other = run_at[upper], run_at[upper + labels_HW.shape[1]]
    root = np.arange(len(runs), dtype=np.int32)
    while len(one):
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while (root != (further := root[root])).any():
            root = further
        one, other = root[one], root[other]
        apart = one != other
        one, other = one[apart], other[apart]
    kept = ~np.isin(labels_HW.ravel()[runs], list(skip))
    numbers = np.cumsum(kept & (root == np.arange(len(runs))), dtype=np.int32)[root]
    return runs, np.where(kept, numbers, np.int32(0))


def _trace(numbers_HW: NDArray[np.int32], simplify_px: float | None) -> Iterator[tuple[int, Ring]]:
    """The rings of numbered regions, each with its region's number, the outer ring of a region before its holes.

    The border of a region consists of straight steps between corners with the region on the right-hand side. At a
    corner it turns right where it can, else it goes straight on, else left, so that pixels that touch diagonally stay
    apart.
    """
    height, width = (side + 1 for side in numbers_HW.shape)  # in corners
    padded = np.pad(numbers_HW, 1)
    level, upright = padded[1:] != padded[:-1], padded[:, 1:] != padded[:, :-1]
    # Corners where a border turns or several meet; between two in a row or a column, borders are straight.
    is_corner = (level[:, 1:] != level[:, :-1]) | (upright[1:] != upright[:-1]) | (level[:, 1:] & upright[1:])
    corners = np.flatnonzero(is_corner)
    count = len(corners)
    if not count:
        return
    place = np.empty(is_corner.size, np.int64)
    place[corners] = np.arange(count)
    y, x = np.divmod(corners, width)
    column, row = np.divmod(np.flatnonzero(is_corner.T), height)
    by_column = place[row * width + column]
    # For the directions right, down, left, up: the pixels on both sides of a step from a corner, and where it leads.
    right_hand = np.stack([padded[y + 1, x + 1], padded[y + 1, x], padded[y, x], padded[y, x + 1]])
    left_hand = np.roll(right_hand, 1, axis=0)
    leads_to = np.arange(count) + np.array([[1], [0], [-1], [0]])
    leads_to[1, by_column[:-1]], leads_to[3, by_column[1:]] = by_column[1:], by_column[:-1]
    differs = right_hand != left_hand
    direction, begin = np.nonzero(differs & (right_hand > 0))
    end, owner = leads_to[direction, begin], right_hand[direction, begin]
    onward = np.where(left_hand[direction, end] != owner, direction, (direction + 3) % 4)
    turn = np.where(right_hand[direction, end] != owner, (direction + 1) % 4, onward)
    step_at = np.empty((4, count), np.int64)
    step_at[direction, begin] = np.arange(len(begin))
    order, lengths = _cycles(step_at[turn, end].tolist())
    direction, begin, owner = direction[order], begin[order], owner[order]
    ends, kept = np.cumsum(lengths), np.ones(len(begin), bool)
    if simplify_px is None:
        previous = np.roll(direction, 1)
        previous[ends - lengths] = direction[ends - 1]
        kept = direction != previous
    elif simplify_px:
        fixed = np.zeros(is_corner.shape, bool)
        fixed[:: height - 1, :: width - 1] = True  # the image keeps its corners
        fixed.ravel()[corners[differs.sum(0) > 2]] = True  # borders meet
        once = left_hand[direction, begin] < owner  # each border is in the rings on both of its sides
        removed = removable_corners(corners[begin], lengths, fixed, once, tolerance_px=simplify_px)
        kept = ~np.isin(corners[begin], removed)
    ends = np.cumsum(kept)[ends - 1]
    begin, owner = begin[kept], owner[kept]
    points = np.stack([x, y], axis=1)[begin]
    # A border passes a corner twice where two pixels of its region touch diagonally and the two others are not of it.
    twice = ((right_hand[:2] == right_hand[2:]) & (right_hand[:2] > 0)).any(0) & differs.all(0)
    passed = np.split(np.flatnonzero(twice[begin]), np.searchsorted(np.flatnonzero(twice[begin]), ends[:-1]))
    for first, stop, own in zip([0, *ends[:-1].tolist()], ends.tolist(), passed, strict=True):
        ring = points[first:stop]
        for simple in _simple_rings(ring, (own - first).tolist()) if len(own) else [ring]:
            yield int(owner[first]), simple


def _cycles(following: list[int]) -> tuple[list[int], NDArray[np.int64]]:
    """Cycles of a permutation, one after the other, each from its lowest member on, and their lengths."""
    order: list[int] = []
    ends = [0]
    for first in range(len(following)):
        member = first
        while (after := following[member]) >= 0:
            order.append(member)
            following[member] = -1
            member = after
        if len(order) > ends[-1]:
            ends.append(len(order))
    return order, np.diff(ends)


def _simple_rings(ring: Ring, places: list[int]) -> list[Ring]:
    """Split a border where it passes a corner twice, so that the pocket in between becomes a hole of its own.

    Args:
        places: indices of such corners, and possibly others.
    """
    rings: list[Ring] = []
    pieces: list[Ring] = []
    piece_of: dict[tuple[int, int], int] = {}
    for begin, end in itertools.pairwise([0, *places, len(ring)]):
        corner = (int(ring[begin, 0]), int(ring[begin, 1]))
        if (at := piece_of.get(corner, len(pieces))) < len(pieces):
            pocket = pieces[at:]
            del pieces[at:]
            rings.append(np.concatenate(pocket))
            piece_of = {other: number for other, number in piece_of.items() if number < at}
        if end > begin:
            piece_of[corner] = len(pieces)
            pieces.append(ring[begin:end])
    return sorted([*rings, np.concatenate(pieces)], key=doubled_area, reverse=True)


def doubled_area(ring: Ring) -> int:
    """Twice the signed area of a ring in square pixels: positive for outer rings, negative for holes."""
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return int((x * next_y - next_x * y).sum())
