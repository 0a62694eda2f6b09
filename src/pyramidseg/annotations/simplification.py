"""Simplify the borders of a planar subdivision: corners are left out, and no border crosses or touches another one.

A corner b between a and c can be left out if the triangle a, b, c has no other corner, on its sides included: a border
that crossed the new edge from a to c would have to end in the triangle, as it cannot cross the two edges that were
there before (the criterion of Visvalingam and Whyatt's method and of de Berg, van Kreveld and Schirra, "Topologically
correct subdivision simplification using the bandwidth criterion", 1998). For the same reason, corners that are not
neighbours can be left out at the same time. Corners where borders meet remain.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Indices = NDArray[np.int64]
Flags = NDArray[np.bool_]


class _Arcs(NamedTuple):
    """Borders between corners that remain, one after the other, each with both of its ends."""

    points: Indices  # (N, 2), x and y
    codes: Indices  # y * width + x
    free: Flags  # False at the ends
    starts: Indices  # of the arcs
    ends: Indices


def removable_corners(
    corners: Indices,
    lengths: Indices,
    fixed: Flags,
    chosen: Flags,
    *,
    present: Indices,
    width: int,
    tolerance_px: float,
) -> Indices:
    """The corners that a simplification leaves out: as many as it can, those first that change least.

    Args:
        corners: y * width + x of the corners of closed borders, one after the other.
        lengths: number of corners of each border.
        fixed: whether borders meet at a corner, or it remains for another reason.
        chosen: whether the border that starts at a corner is to be simplified: one of two copies.
        present: all corners that may be in the way, sorted.
        tolerance_px: the greatest distance of a corner that is left out from the edge in its place.

    Returns:
        Their values in `corners`.
    """
    arcs = _split(corners, lengths, fixed, chosen, width)
    previous, following = np.arange(len(arcs.codes)) - 1, np.arange(len(arcs.codes)) + 1
    tie_break = arcs.codes * 2654435761 % 2**32  # in no order along an arc, where many distances are equal
    free = arcs.free.copy()
    rank = np.full(len(free), len(free))
    pending = np.flatnonzero(free)
    while len(pending):
        before, after = previous[pending], following[pending]
        distance = _farthest(arcs.points, before, after)
        possible = np.flatnonzero(distance <= tolerance_px)
        triangles = (arcs.points[at[possible]] for at in (before, pending, after))
        possible = possible[_holds_no_other(present, width, *triangles)]
        possible = possible[_is_new(arcs, following, before[possible], after[possible])]
        order = possible[np.lexsort((tie_break[pending[possible]], distance[possible]))]
        rank[pending] = len(free)
        rank[pending[order]] = np.arange(len(order))
        first = (rank[pending] < rank[before]) & (rank[pending] < rank[after])
        removed, before, after = pending[first], before[first], after[first]
        following[before], previous[after] = after, before
        free[removed] = False
        rank[removed] = len(free)
        present = np.delete(present, np.searchsorted(present, arcs.codes[removed]))
        pending = np.unique(np.concatenate([pending[order], before, after]))
        pending = pending[free[pending]] if len(removed) else removed
    return arcs.codes[arcs.free & ~free]


def _split(corners: Indices, lengths: Indices, fixed: Flags, chosen: Flags, width: int) -> _Arcs:
    """Split closed borders into arcs at the corners that remain, and loops at one more corner."""
    begins = np.cumsum(lengths) - lengths
    fixed = fixed.copy()
    place = np.arange(len(corners))
    first = np.minimum.reduceat(np.where(fixed, place, len(place)), begins)
    first = np.where(first < len(place), first, begins)
    fixed[first] = True
    # Each border from its first fixed corner on, to the same corner.
    border = np.repeat(np.arange(len(lengths)), lengths + 1)
    step = np.arange(len(border)) - (begins + np.arange(len(lengths)))[border]
    order = begins[border] + ((first - begins)[border] + step) % lengths[border]
    own, closing = fixed[order], step == lengths[border]
    starts, ends = np.flatnonzero(own & ~closing), np.flatnonzero(own & (step > 0))
    kept = chosen[order[starts]]
    starts, ends = starts[kept], ends[kept]
    counts = ends - starts + 1
    offsets = np.cumsum(counts) - counts
    codes = corners[order[np.repeat(starts - offsets, counts) + np.arange(counts.sum())]]
    points = np.stack([codes % width, codes // width], axis=1)
    free = np.ones(len(codes), bool)
    free[offsets] = free[offsets + counts - 1] = False
    loops = codes[offsets] == codes[offsets + counts - 1]
    apart = ((points - points[np.repeat(offsets, counts)]) ** 2).sum(1)
    by_distance = np.lexsort((apart, np.repeat(np.arange(len(offsets)), counts)))
    farthest = by_distance[offsets + counts - 1][loops]
    free[farthest] = False
    starts = np.sort(np.concatenate([offsets, farthest]))
    ends = np.sort(np.concatenate([offsets + counts - 1, farthest]))
    return _Arcs(points, codes, free, starts, ends)


def _farthest(points: Indices, before: Indices, after: Indices) -> NDArray[np.float64]:
    """The greatest distance of the corners between two of an arc from the edge that connects these two."""
    counts = after - before - 1
    edge = np.repeat(np.arange(len(before)), counts)
    offsets = np.cumsum(counts) - counts
    start, end = points[before][edge], points[after][edge]
    corner = points[before[edge] + 1 + np.arange(len(edge)) - offsets[edge]]
    along, out = end - start, corner - start
    length, dot = (along**2).sum(1), (along * out).sum(1)
    across = np.abs(along[:, 0] * out[:, 1] - along[:, 1] * out[:, 0]) / np.sqrt(length)
    nearest = np.where((dot <= 0)[:, None], start, end)
    beyond = np.sqrt(((corner - nearest) ** 2).sum(1))
    distance = np.where((dot <= 0) | (dot >= length), beyond, across)
    return np.asarray(np.maximum.reduceat(distance, offsets))


def _is_new(arcs: _Arcs, following: Indices, before: Indices, after: Indices) -> Flags:
    """Whether new edges differ from each other and from those that exist: they may not between the ends of two arcs."""

    def edges(start: Indices, end: Indices) -> Indices:
        first, second = arcs.codes[start], arcs.codes[end]
        count = 1 + arcs.codes.max(initial=0)
        return np.asarray(np.minimum(first, second) * count + np.maximum(first, second))

    wanted = edges(before, after)
    whole = ~arcs.free[before] & ~arcs.free[after]
    direct = following[arcs.starts] == arcs.ends
    _, place = np.unique(wanted, return_index=True)
    is_first = np.zeros(len(wanted), bool)
    is_first[place] = True
    return np.asarray(~whole | (is_first & ~np.isin(wanted, edges(arcs.starts[direct], arcs.ends[direct]))))


def _holds_no_other(codes: Indices, width: int, a: Indices, b: Indices, c: Indices) -> Flags:
    """Whether triangles, each (N, 2) integers, have no other corner of `codes` inside or on their sides."""
    heights = np.stack([a[:, 1], b[:, 1], c[:, 1]])
    counts = np.ptp(heights, axis=0) + 1
    offsets = np.cumsum(counts) - counts
    triangle = np.repeat(np.arange(len(a)), counts)
    y = heights.min(0)[triangle] + np.arange(len(triangle)) - offsets[triangle]
    low, high = np.full(len(y), width), np.full(len(y), -1)
    for start, end in ((a, b), (b, c), (c, a)):
        x, top = np.where(start[:, 1:] <= end[:, 1:], start, end)[triangle].T
        end_x, bottom = np.where(start[:, 1:] <= end[:, 1:], end, start)[triangle].T
        run, rise = (y - top) * (end_x - x), np.maximum(bottom - top, 1)
        level, meets = top == bottom, (top <= y) & (y <= bottom)
        leftmost = np.where(level, np.minimum(x, end_x), x - (-run) // rise)
        rightmost = np.where(level, np.maximum(x, end_x), x + run // rise)
        low = np.where(meets, np.minimum(low, leftmost), low)
        high = np.where(meets, np.maximum(high, rightmost), high)
    first = np.searchsorted(codes, y * width + low)
    last = np.searchsorted(codes, y * width + high, side="right")
    return np.asarray(np.add.reduceat(np.maximum(last - first, 0), offsets) == 3)
