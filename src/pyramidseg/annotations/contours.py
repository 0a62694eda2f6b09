"""Exact outlines of the regions of a label map: rings along pixel borders that rasterise to the same labels.

A region is a set of pixels of one value that are connected through their sides (4-connectivity). Neighbouring regions
share their borders, and every ring is simple: it visits no corner twice. Coordinates are those of
`annotations.polygons`: x to the right, y down, (0, 0) the outer corner of the first pixel.

On request the rings form a planar subdivision: where borders meet, all rings have a corner, so that two neighbours have
exactly the same corners along their common border, also after it is simplified or moved to another coordinate system.
"""

from collections.abc import Collection, Iterator
from typing import NamedTuple

import cv2
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
    components = number_regions(labels_HW, skip=skip)
    sizes = np.bincount(components.ravel())
    values = np.zeros(len(sizes), np.int64)
    values[components.ravel()] = labels_HW.ravel()
    rings: dict[int, list[Ring]] = {}
    for component, ring in _trace(components, simplify_px):
        rings.setdefault(component, []).append(ring)
    regions = [Region(int(values[number]), int(sizes[number]), own, number) for number, own in rings.items()]
    return sorted(regions, key=lambda region: region.value)


def number_regions(labels_HW: NDArray[np.integer], *, skip: Collection[int] = ()) -> NDArray[np.int32]:
    """Number the regions from 1.

    Returns:
        (H, W): the number of each pixel's region, 0 where the value is in `skip`.
    """
    height, width = labels_HW.shape
    kept = ~np.isin(labels_HW, list(skip)) if skip else np.ones(labels_HW.shape, bool)
    links = np.zeros((2 * height - 1, 2 * width - 1), bool)  # pixels at even places, between them where two are equal
    links[::2, ::2] = kept
    links[::2, 1::2] = kept[:, 1:] & (labels_HW[:, 1:] == labels_HW[:, :-1])
    links[1::2, ::2] = kept[1:] & (labels_HW[1:] == labels_HW[:-1])
    # Places that touch diagonally are connected through sides, too; OpenCV is faster if it need not tell.
    _, components = cv2.connectedComponents(links.view(np.uint8), connectivity=8, ltype=cv2.CV_32S)
    return np.ascontiguousarray(components[::2, ::2])


def _trace(components: NDArray[np.int32], simplify_px: float | None) -> Iterator[tuple[int, Ring]]:
    """The rings of numbered regions, each with its region's number, the outer ring of a region before its holes.

    The border of a region consists of steps between corners with the region on the right-hand side. At a corner it
    turns right where it can, else it goes straight on, else left, so that pixels that touch diagonally stay apart.
    """
    width = components.shape[1] + 1  # in corners
    padded = np.pad(components, 1)
    northwest, northeast = padded[:-1, :-1], padded[:-1, 1:]
    southwest, southeast = padded[1:, :-1], padded[1:, 1:]
    # For the directions right, down, left, up: the pixels on both sides of a step that starts at a corner.
    right_hand = np.stack([southeast, southwest, northwest, northeast])
    left_hand = np.roll(right_hand, 1, axis=0)
    differs = right_hand != left_hand
    step = differs & (right_hand > 0)
    fixed = np.zeros(step.shape[1:], bool)
    if simplify_px is not None:
        fixed = differs.sum(0) > 2  # borders meet
        fixed[:: len(fixed) - 1, :: width - 1] = True  # the image keeps its corners
    runs = [_straight_runs(step, fixed, direction) for direction in range(4)]
    direction = np.repeat(np.arange(4), [len(start) for start, _ in runs])
    start = np.concatenate([start for start, _ in runs])
    end = np.concatenate([last for _, last in runs]) + np.array([1, width, -1, -width])[direction]
    right_turn = (direction + 1) % 4
    steps = step.reshape(4, -1)
    onward = np.where(steps[direction, end], direction, (direction + 3) % 4)
    turn = np.where(steps[right_turn, end], right_turn, onward)
    run_at = np.zeros(steps.shape, np.int32)
    run_at[direction, start] = np.arange(len(start), dtype=np.int32)
    order, lengths = _cycles(run_at[turn, end].tolist())
    direction, start = direction[order], start[order]
    owner, neighbour = (hand.reshape(4, -1)[direction, start] for hand in (right_hand, left_hand))
    if simplify_px and len(start):
        once = neighbour < owner  # each border is in the rings on both of its sides
        kept = ~np.isin(start, removable_corners(start, lengths, fixed, once, tolerance_px=simplify_px))
        lengths = np.add.reduceat(kept, np.cumsum(lengths) - lengths, dtype=np.int64)
        start, owner = start[kept], owner[kept]
    points = np.stack([start % width, start // width], axis=1)
    # A border passes a corner twice where two pixels of its region touch diagonally and the two others are not of it.
    falling = (northwest == southeast) & (northwest > 0) & (northeast != northwest) & (southwest != northwest)
    rising = (northeast == southwest) & (northeast > 0) & (northwest != northeast) & (southeast != northeast)
    twice = (falling | rising).ravel()[start]
    ends = np.cumsum(lengths)
    for begin, stop in zip(ends - lengths, ends, strict=True):
        ring = points[begin:stop]
        if twice[begin:stop].any():
            for simple in _simple_rings(ring):
                yield int(owner[begin]), simple
        else:
            yield int(owner[begin]), ring


def _straight_runs(
    step: NDArray[np.bool_], fixed: NDArray[np.bool_], direction: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The flat indices of the corners where the first and the last step of each straight run in a direction start."""
    own = step[direction]
    turns = step[(direction + 1) % 4] | fixed  # a border turns right there, even if a step leads straight on
    index = np.arange(own.size).reshape(own.shape)
    if direction % 2:
        own, turns, index = own.T, turns.T, index.T
    if direction >= 2:
        own, turns, index = own[:, ::-1], turns[:, ::-1], index[:, ::-1]
    continues = own[:, 1:] & own[:, :-1] & ~turns[:, 1:]
    first, last = own.copy(), own.copy()
    first[:, 1:] &= ~continues
    last[:, :-1] &= ~continues
    return index[first], index[last]


def _cycles(following: list[int]) -> tuple[list[int], NDArray[np.int64]]:
    """Cycles of a permutation, one after the other, each from its lowest member on, and their lengths."""
    order: list[int] = []
    ends = [0]
    for first in range(len(following)):
        member = first
        while following[member] >= 0:
            order.append(member)
            following[member], member = -1, following[member]
        if len(order) > ends[-1]:
            ends.append(len(order))
    return order, np.diff(ends)


def _simple_rings(ring: Ring) -> list[Ring]:
    """Split a border where it passes a corner twice, so that the pocket in between becomes a hole of its own."""
    rings: list[Ring] = []
    path: list[tuple[int, int]] = []
    place: dict[tuple[int, int], int] = {}
    for x, y in ring.tolist():
        begin = place.get((x, y), len(path))
        if begin < len(path):
            rings.append(np.array(path[begin:], np.int64))
            for corner in path[begin:]:
                del place[corner]
            del path[begin:]
        place[x, y] = len(path)
        path.append((x, y))
    return sorted([*rings, np.array(path, np.int64)], key=doubled_area, reverse=True)


def doubled_area(ring: Ring) -> int:
    """Twice the signed area of a ring in square pixels: positive for outer rings, negative for holes."""
    (x, y), (next_x, next_y) = ring.T, np.roll(ring, -1, axis=0).T
    return int((x * next_y - next_x * y).sum())
