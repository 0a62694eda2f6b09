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


class TracedRegion(NamedTuple):
    """A connected region of a label map.

    Attributes:
        value: of its pixels.
        pixels: number of its pixels.
        rings: the outer ring (clockwise as displayed), then its holes (counterclockwise).
        number: the region's in `number_regions`; from a `RegionTracer`, the flat index of its first pixel.
        mean: of the weights of its pixels; NaN if there are none.
    """

    value: int
    pixels: int
    rings: list[Ring]
    number: int
    mean: float = float("nan")


def find_regions(
    labels_HW: NDArray[np.integer], *, skip: Collection[int] = (), simplify_px: float | None = None
) -> list[TracedRegion]:
    """All regions of a label map, by value and within a value by their first pixel in reading order.

    Args:
        labels_HW: (H, W) integers.
        skip: values that are left out, such as the background or the ignore label.
        simplify_px: None keeps only the corners where a ring turns. Otherwise the rings form a planar subdivision,
            whose borders are simplified by this tolerance (`removable_corners`): with 0 they remain exact.
    """
    return find_numbered_regions(labels_HW, skip=skip, simplify_px=simplify_px)[0]


def find_numbered_regions(
    labels_HW: NDArray[np.integer], *, skip: Collection[int] = (), simplify_px: float | None = None
) -> tuple[list[TracedRegion], NDArray[np.int32]]:
    """`find_regions`, and `number_regions`, which it finds on the way."""
    tracer = RegionTracer(labels_HW.shape[1], skip=skip, simplify_px=simplify_px)
    numbers_HW, _ = tracer._enter(labels_HW, None, cut=False)
    found = sorted(tracer.finish(), key=lambda region: region.number)
    numbered = [region._replace(number=number) for number, region in enumerate(found, 1)]
    return sorted(numbered, key=lambda region: region.value), numbers_HW


class RegionTracer:
    """Traces the regions of a label map that comes in blocks of rows from the top, as `find_regions` does at once.

    It keeps the corners around regions that may go on below; with a tolerance, those around all regions since the last
    cut, as which corners can be left out depends on the others. The arguments are those of `find_regions`.
    """

    def __init__(self, width: int, *, skip: Collection[int] = (), simplify_px: float | None = None) -> None:
        self._width, self._skip, self._simplify_px = width + 1, skip, simplify_px  # width in corners
        self._top, self._cuts = 0, list[int]()
        self._row = np.zeros(width, np.int32)  # numbers of the last one's pixels
        self._table, self._weights = np.zeros((4, 1), np.int64), np.zeros(1)  # value, first pixel, pixels, weighted
        self._corners, self._around = np.zeros(0, np.int64), np.zeros((4, 0), np.int32)

    def add(
        self, labels_HW: NDArray[np.integer], weights_HW: NDArray[np.floating] | None = None, *, cut: bool = False
    ) -> list[TracedRegion]:
        """Add rows; returns the regions that are known to have ended, by value and first pixel.

        Args:
            weights_HW: NaN where pixels do not count for the mean.
            cut: all regions end above these rows.
        """
        before = self._table.shape[1]
        numbers_HW, alive = self._enter(labels_HW, weights_HW, cut=cut)
        ended = alive.copy()
        ended[numbers_HW[-1]] = ended[0] = False
        if self._simplify_px:
            ended[before if cut else 0 :] = False
        return self._trace_ended(ended, alive & ~ended)

    def finish(self) -> list[TracedRegion]:
        """The other regions."""
        self._find_corners(np.zeros((1, self._width - 1), np.int32))
        ended = np.arange(self._table.shape[1]) > 0
        return self._trace_ended(ended, np.zeros_like(ended))

    def _enter(
        self, labels_HW: NDArray[np.integer], weights_HW: NDArray[np.floating] | None, *, cut: bool
    ) -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
        """Add rows without tracing: the numbers of their pixels, after those that are known, and which are in use."""
        (runs, numbers), before = _numbered_runs(labels_HW, self._skip), self._table.shape[1]
        lengths, first = np.diff(runs, append=labels_HW.size), np.zeros(1 + numbers.max(initial=0), np.int64)
        first[numbers[::-1]] = runs[::-1]
        numbers_HW = np.repeat(numbers + np.int32(before - 1) * (numbers > 0), lengths).reshape(labels_HW.shape)
        pixels = np.bincount(numbers, lengths, minlength=len(first)).astype(np.int64)
        known = sums = np.zeros(len(first), np.int64)
        if weights_HW is not None:
            known_HW = ~np.isnan(weights_HW)
            known, sums = (
                np.bincount(numbers_HW[known_HW], own, minlength=before - 1 + len(first))[before - 1 :]
                for own in (None, weights_HW[known_HW])
            )
        added = np.stack([labels_HW.ravel()[first], first + self._top * (self._width - 1), pixels, known])
        self._table = np.append(self._table, added[:, 1:], axis=1)
        self._weights = np.append(self._weights, sums[1:])
        meets = (self._row > 0) & (numbers_HW[0] > 0) & (not cut)
        meets &= self._table[0][self._row] == self._table[0][numbers_HW[0]]
        alive = np.ones(self._table.shape[1], bool)
        if meets.any():
            root = joined_numbers(len(alive), self._row[meets], numbers_HW[0][meets])
            alive = root == np.arange(len(root))
            for total in (*self._table[2:], self._weights):
                np.add.at(total, root[~alive], total[~alive])
            numbers_HW, self._around, self._row = root[numbers_HW], root[self._around], root[self._row]
        self._find_corners(numbers_HW)
        if cut:
            self._cuts = [*self._cuts[-1:], self._top]
        self._row, self._top = numbers_HW[-1], self._top + len(labels_HW)
        return numbers_HW, alive

    def _find_corners(self, numbers_HW: NDArray[np.int32]) -> None:
        """Find where, between rows, a border turns or several meet; between such corners borders are straight."""
        line = self._width + 1
        padded_HW = np.zeros((len(numbers_HW) + 1, line), np.int32)
        padded_HW[0, 1:-1], padded_HW[1:, 1:-1] = self._row, numbers_HW
        padded = padded_HW.ravel()
        upright = padded[1:] != padded[:-1]  # from the end of a row to the next one both are 0
        found = np.flatnonzero(upright[:-line] | upright[line:])  # each corner is at an end of an upright border
        # For the directions right, down, left, up: the pixel on the right-hand side of a step from a corner.
        around = padded[found + np.array([[line + 1], [line], [0], [1]])]
        turns = (around[0] != around[3]) | (around[1] != around[2])
        y, x = np.divmod(found[turns], line)
        self._corners = np.append(self._corners, (y + self._top) * self._width + x)
        self._around = np.append(self._around, around[:, turns], axis=1)

    def _trace_ended(self, ended: NDArray[np.bool_], kept: NDArray[np.bool_]) -> list[TracedRegion]:
        """The regions of the numbers that have ended; only what belongs to others is kept, with new numbers."""
        kept[0] = False
        rows, last = self._corners // self._width, max(self._cuts, default=-1)
        chosen, needed = (some[self._around].any(0) for some in (ended, kept))
        if self._simplify_px:  # corners at a cut are in the way on both of its sides
            chosen, needed = chosen | (rows <= (last if kept.any() else self._top)), needed | (rows == last)
        rings: dict[int, list[Ring]] = {}
        for number, ring in self._trace(self._corners[chosen], self._around[:, chosen], ended) if ended.any() else ():
            rings.setdefault(number, []).append(ring)
        facts = self._table[:, [*rings]].T.tolist(), self._weights[[*rings]].tolist()
        found = [
            TracedRegion(value, pixels, own, first, weight / known if known else float("nan"))
            for own, (value, first, pixels, known), weight in zip(rings.values(), *facts, strict=True)
        ]
        renumbered = np.where(kept, np.cumsum(kept, dtype=np.int32), np.int32(0))
        self._corners, self._around = self._corners[needed], renumbered[self._around[:, needed]]
        self._row, kept[0] = renumbered[self._row], True
        self._table, self._weights = self._table[:, kept], self._weights[kept]
        return sorted(found, key=lambda region: (region.value, region.number))

    def _trace(
        self, corners: NDArray[np.int64], right_hand: NDArray[np.int32], ended: NDArray[np.bool_]
    ) -> Iterator[tuple[int, Ring]]:
        """The rings of regions, each with its region's number, the outer ring of a region before its holes.

        The border of a region consists of straight steps between corners with the region on the right-hand side. At a
        corner it turns right where it can, else it goes straight on, else left, so that pixels that touch diagonally
        stay apart. A step has the number direction * corners + corner.
        """
        count = len(corners)
        y, x = np.divmod(corners, self._width)
        by_column = np.argsort(x.astype(np.min_scalar_type(self._width)), kind="stable")  # 16 bits: a third of the time
        left_hand = right_hand[[3, 0, 1, 2]]
        leads_to = np.arange(count) + np.array([[1], [0], [-1], [0]])
        leads_to[1, by_column[:-1]], leads_to[3, by_column[1:]] = by_column[1:], by_column[:-1]
        differs = right_hand != left_hand
        steps = np.flatnonzero(differs & ended[right_hand])
        end, owner, ahead = leads_to.ravel()[steps], right_hand.ravel()[steps], steps - steps % count
        onward = np.where(left_hand.ravel()[ahead + end] != owner, ahead, (ahead + 3 * count) % (4 * count))
        turn = np.where(right_hand.ravel()[ahead + end] != owner, (ahead + count) % (4 * count), onward)
        place_of = np.empty(4 * count, np.int64)
        place_of[steps] = np.arange(len(steps))
        order, lengths = _cycles(place_of[turn + end].tolist())
        direction, begin = np.divmod(steps[order], count)
        owner = owner[order]
        ends, kept = np.cumsum(lengths), np.ones(len(begin), bool)
        if self._simplify_px is None:
            kept[1:] = direction[1:] != direction[:-1]
            kept[ends - lengths] = direction[ends - lengths] != direction[ends - 1]
        elif self._simplify_px:
            fixed = (differs.sum(0) > 2) | np.isin(y, self._cuts)  # borders meet
            fixed |= np.isin(y, (0, self._top)) & np.isin(x, (0, self._width - 1))  # the image keeps its corners
            other = left_hand[direction, begin]
            once = (other < owner) | ~ended[other]  # each border is in the rings on both of its sides, except at a cut
            removed = removable_corners(
                corners[begin],
                lengths,
                fixed[begin],
                once,
                present=corners,
                width=self._width,
                tolerance_px=self._simplify_px,
            )
            kept = ~np.isin(corners[begin], removed)
        ends = np.cumsum(kept)[ends - 1]
        begin, owner = begin[kept], owner[kept]
        points = np.stack([x, y], axis=1)[begin]
        # A border passes a corner twice where two pixels of its region touch diagonally and the others are not of it.
        twice = ((right_hand[:2] == right_hand[2:]) & (right_hand[:2] > 0)).any(0) & differs.all(0)
        passed = np.flatnonzero(twice[begin])
        past = [0, *np.searchsorted(passed, ends).tolist()]
        owners, starts = owner[np.append(0, ends[:-1])].tolist(), [0, *ends.tolist()]
        for number, (first, stop) in enumerate(itertools.pairwise(starts)):
            ring, own = points[first:stop], passed[past[number] : past[number + 1]]
            corners_of = (own - first).tolist(), begin[own].tolist()
            for simple in _simple_rings(ring, *corners_of) if len(own) > 1 else [ring]:
                yield owners[number], simple


def joined_numbers(count: int, one: NDArray[np.int32], other: NDArray[np.int32]) -> NDArray[np.int32]:
    """For each number below `count` the lowest one that it is connected to by pairs."""
    root = np.arange(count, dtype=np.int32)
    while len(one):
        np.minimum.at(root, np.maximum(one, other), np.minimum(one, other))
        while (root != (further := root[root])).any():
            root = further
        one, other = root[one], root[other]
        apart = one != other
        one, other = one[apart], other[apart]
    return root


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
    labels, width = labels_HW.ravel(), labels_HW.shape[1]
    begins = np.append(True, labels[1:] != labels[:-1])
    begins[::width] = True
    runs = np.flatnonzero(begins)
    run_at = np.repeat(np.arange(len(runs), dtype=np.int32), np.diff(runs, append=labels.size))
    meets = labels[width:] == labels[:-width]
    meets &= begins[width:] | begins[:-width]  # two runs meet first where one of them starts
    upper = np.flatnonzero(meets)
    root = joined_numbers(len(runs), run_at[upper], run_at[upper + width])
    kept = ~np.isin(labels[runs], list(skip))
    numbers = np.cumsum(kept & (root == np.arange(len(runs))), dtype=np.int32)[root]
    return runs, np.where(kept, numbers, np.int32(0))


def _cycles(following: list[int]) -> tuple[list[int], NDArray[np.int64]]:
    """Cycles of a permutation, one after the other, each from its lowest member on, and their lengths."""
    order: list[int] = []
    ends = [0]
    for first in range(len(following)):
        if following[first] < 0:
            continue
        member = first
        while (after := following[member]) >= 0:
            order.append(member)
            following[member] = -1
            member = after
        ends.append(len(order))
    return order, np.diff(ends)


def _simple_rings(ring: Ring, places: list[int], corners: list[int]) -> list[Ring]:
    """Split a border where it passes a corner twice, so that the pocket in between becomes a hole of its own.

    Args:
        places: indices of such corners, and possibly others.
        corners: the numbers of these corners.
    """
    rings: list[Ring] = []
    pieces: list[Ring] = []
    piece_of: dict[int, int] = {}  # a piece for each, in order
    for corner, begin, end in zip([-1, *corners], [0, *places], [*places, len(ring)], strict=True):
        if (at := piece_of.get(corner, len(pieces))) < len(pieces):
            rings.append(np.concatenate(pieces[at:]))
            del pieces[at:]
            while len(piece_of) > at:
                piece_of.popitem()
        if end > begin:
            piece_of[corner] = len(pieces)
            pieces.append(ring[begin:end])
    rings.append(np.concatenate(pieces))
    return sorted(rings, key=doubled_area, reverse=True) if len(rings) > 1 else rings


def one_ring(rings: list[Ring]) -> Ring:
    """A region as one ring that visits its holes: from a corner of what there is, to the nearest corner of a hole."""
    outline, *holes = rings
    for hole in holes:
        across, down = (np.abs(np.subtract.outer(outline[:, axis], hole[:, axis])) for axis in (0, 1))
        apart = across + down
        place, entry = np.unravel_index(int(apart.argmin()), apart.shape)
        round_trip = np.concatenate(
            [outline[place : place + 1], np.roll(hole, -entry, axis=0), hole[entry : entry + 1]]
        )
        outline = np.concatenate([outline[:place], round_trip, outline[place:]])
    return outline


def doubled_area(ring: Ring) -> int:
    """Twice the signed area of a ring in square pixels: positive for outer rings, negative for holes."""
    x, y = ring.T
    return int(x[:-1] @ y[1:] - x[1:] @ y[:-1] + x[-1] * y[0] - x[0] * y[-1])
