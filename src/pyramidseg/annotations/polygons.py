"""Rasterise polygons and runs of pixels to masks.

Coordinates are in pixels, x to the right and y down, and (0, 0) is the outer corner of the first pixel, as in COCO,
LabelMe and YOLO: the centre of the pixel in row r and column c is (c + 0.5, r + 0.5). A pixel belongs to a polygon if
its centre is inside by the even-odd rule (as in OpenGL and Direct3D); a centre on the outline belongs
to the shape below or to the right of it. So areas are unbiased, and a pixel on an edge that two shapes share belongs to
exactly one of them. OpenCV's fillPoly and Pillow's polygon differ: both add the pixels that the outline touches.

Pixels are numbered down the columns, as in COCO's run lengths: pixel (r, c) has the number c * height + r.
"""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.images.decode import image_size

Ring = NDArray[np.float64]
"""A closed outline: (N, 2), x and y of its vertices."""

Frame = tuple[int, int, int, int]
"""First row and column, height and width of what is drawn, in an image whose coordinates polygons have."""

MAX_CROSSINGS = 2**23
"""Limit of crossings of an image's outlines with pixel columns: some hundred MB of memory, and a few seconds."""

MAX_DRAWN = 2**33
"""Limit of the pixels that all shapes of an image cover together: a few seconds."""

SLACK = 0.05
"""How far outside the image a vertex may be, as a share of the image's sides. Annotators overshoot, which is clipped; a
vertex further outside was not drawn on this image."""


class Location(NamedTuple):
    """The place that errors about an annotation name: a file, and the object in it."""

    file: Path
    item: str = ""

    def error(self, detail: str) -> DefectError:
        """A `DefectError` for this object."""
        return DefectError(DefectKind.BAD_ANNOTATION, self.file, f"{self.item}: {detail}" if self.item else detail)


class Runs(NamedTuple):
    """Runs of pixels numbered down the columns, each from `starts` up to but not including `ends`."""

    starts: NDArray[np.int64]
    ends: NDArray[np.int64]


Area = Sequence[Sequence[Ring]] | Runs
"""Runs of pixels, or a union of polygons, each of one or more rings, even-odd, so that inner rings are holes."""


class Shape(NamedTuple):
    """An area to be drawn.

    Attributes:
        value: written to the mask.
        layer: higher layers are drawn over lower ones; within a layer, smaller shapes over larger ones.
    """

    value: int
    area: Area
    layer: int = 0


def rasterise(
    shapes: Sequence[Shape], *, height: int, width: int, where: Location, corner: tuple[int, int] = (0, 0)
) -> NDArray[Any]:
    """Draw shapes on a background of 0: by layer, then larger ones first (in pixels drawn), then in their order.

    Args:
        where: origin of the shapes, for messages.
        corner: row and column of the first pixel, of a window in which polygons are drawn by their `drawing_order`.

    Returns:
        (height, width) uint16, or uint32 for values from 65536: the value of the topmost shape.

    Raises:
        DataError: `MAX_CROSSINGS` or `MAX_DRAWN` is exceeded.
    """
    starts, ends, values = _runs_in_order(shapes, (*corner, height, width), where)
    by_start = np.argsort(starts, kind="stable")
    gaps = np.stack([starts[by_start], ends[by_start]], 1).ravel()
    lengths = np.diff(gaps, prepend=0, append=width * height)
    if (lengths >= 0).all():  # nothing overlaps
        nothing = np.zeros_like(values)
        columns = np.repeat(np.append(np.stack([nothing, values[by_start]], 1), values.dtype.type(0)), lengths)
    else:
        columns = np.zeros(width * height, values.dtype)
        for start, end, value in zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True):
            columns[start:end] = value
    return np.ascontiguousarray(columns.reshape(width, height).T)


def count_contested(
    shapes: Sequence[Shape], *, height: int, width: int, where: Location, corner: tuple[int, int] = (0, 0)
) -> int:
    """Pixels that shapes of several values cover, of which `rasterise` shows the topmost; arguments as there."""
    starts, ends, values = _runs_in_order(shapes, (*corner, height, width), where)
    columns, contested = np.full(width * height, -1, np.int64), np.zeros(width * height, np.bool_)
    for start, end, value in zip(starts.tolist(), ends.tolist(), values.tolist(), strict=True):
        below = columns[start:end]
        contested[start:end] |= (below >= 0) & (below != value)
        below[:] = value
    return int(np.count_nonzero(contested))


def _runs_in_order(
    shapes: Sequence[Shape], window: tuple[int, int, int, int], where: Location
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[Any]]:
    """Starts, ends and values of the runs of all shapes, the topmost shape last."""
    areas = [(index, shape.area) for index, shape in enumerate(shapes)]
    polygons = [(index, area) for index, area in areas if not isinstance(area, Runs)]
    others = [(index, area) for index, area in areas if isinstance(area, Runs)]
    starts, ends, owners = _polygon_runs(polygons, window, where)
    starts = np.concatenate([starts, *(runs.starts for _, runs in others)])
    ends = np.concatenate([ends, *(runs.ends for _, runs in others)])
    owners = np.concatenate([owners, *(np.full(len(runs.starts), index) for index, runs in others)])
    sizes = np.bincount(owners, weights=ends - starts, minlength=len(shapes))
    if sizes.sum() > MAX_DRAWN:
        raise where.error(
            f"{len(shapes)} shapes cover {sizes.sum():.0f} pixels in total, but the limit is {MAX_DRAWN}; remove shapes"
        )
    layers = np.array([shape.layer for shape in shapes])
    drawn = np.lexsort((-sizes, layers))  # stable: shapes of equal size keep their order
    place = np.empty(len(shapes), np.int64)
    place[drawn] = np.arange(len(shapes))
    order = np.argsort(place[owners], kind="stable")
    dtype = np.promote_types(np.uint16, np.min_scalar_type(max((shape.value for shape in shapes), default=0)))
    values = np.array([shape.value for shape in shapes], dtype)[owners[order]]
    return starts[order], ends[order], values


def drawing_order(areas: Iterable[Sequence[Sequence[Ring]]], *, height: int, width: int, where: Location) -> list[int]:
    """The layer of each polygon in the windows of an image, so that they show what `rasterise` draws on the whole."""
    runs = (_polygon_runs([(0, area)], (0, 0, height, width), where) for area in areas)
    sizes = np.array([(ends - starts).sum() for starts, ends, _ in runs])
    return list(map(int, np.argsort(np.argsort(-sizes, kind="stable"))))


def parse_ring(coordinates: object, *, where: Location) -> Ring:
    """Convert `[x1, y1, x2, y2, ...]` or `[[x1, y1], [x2, y2], ...]` to a ring; all numbers must be finite.

    Raises:
        DataError: not numbers, NaN or infinite, an odd number of coordinates, or fewer than 3 points.
    """
    points = parse_points(coordinates, where=where)
    if len(points) < 3:
        raise where.error(f"a polygon needs at least 3 points, but has {len(points)}; add points or delete it")
    return points


def parse_points(coordinates: object, *, where: Location) -> Ring:
    """Like `parse_ring`, for any number of points."""
    try:
        numbers: NDArray[Any] = np.array(coordinates, np.float64)
    except (TypeError, ValueError, OverflowError):
        raise where.error("coordinates must be numbers, x and y of each point") from None
    if numbers.ndim == 0:
        raise where.error("coordinates are not in a list of their own; use one for each polygon ([[x1, y1, ...]])")
    if (numbers.ndim == 1 and numbers.size % 2) or (numbers.ndim == 2 and numbers.shape[1] != 2):
        raise where.error(f"{numbers.size} coordinates: every point needs an x and a y")
    if numbers.ndim not in (1, 2):
        raise where.error("coordinates are nested too deeply; use [x1, y1, x2, y2, ...] or [[x1, y1], ...]")
    if not np.isfinite(numbers).all():
        raise where.error("a coordinate is not a finite number; draw this object again, or delete it")
    return numbers.reshape(-1, 2)


def check_inside_image(points: Ring, *, height: int, width: int, image: Path, where: Location) -> None:
    """Reject points that are further outside the image than `SLACK`.

    Args:
        height, width: of the image, as stated in the annotation file.
        image: points inside the real image are accepted: then the stated size is wrong, which another check reports.

    Raises:
        DataError: names the first such point.
    """

    def far_outside(height: int, width: int) -> NDArray[np.bool_]:
        size = np.array([width, height])
        return np.asarray(((points < -SLACK * size) | (points > (1 + SLACK) * size)).any(axis=1))

    far = far_outside(height, width)
    if far.any():
        far = far & far_outside(*image_size(image))
    if far.any():
        x, y = points[int(far.argmax())]
        raise where.error(
            f"the point ({x:.6g}, {y:.6g}) is far outside the image of {height} x {width} pixels (height x width); "
            f"up to {SLACK:.0%} of a side is clipped: move it, or delete this object"
        )


def runs_of_pixels(pixels: NDArray[np.bool_], *, top: int = 0, left: int = 0, height: int) -> Runs:
    """The True pixels of an array whose first pixel is the image's pixel (top, left), and which is inside the image."""
    rows, columns = pixels.shape
    flat = np.zeros(columns * (rows + 1) + 1, bool)  # column by column, with an empty pixel before and after each
    flat[1:].reshape(columns, rows + 1)[:, :rows] = cv2.transpose(pixels.view(np.uint8)).view(bool)
    column, row = np.divmod(np.flatnonzero(flat[1:] != flat[:-1]), rows + 1)
    borders = column * height + row + left * height + top
    return Runs(borders[::2], borders[1::2])


def _polygon_runs(
    polygons: Sequence[tuple[int, Sequence[Sequence[Ring]]]], frame: Frame, where: Location
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Starts and ends of all runs, and the index of the shape that each belongs to.

    A run is what is between two successive crossings of an outline with the line through the centres of a column.
    """
    _, _, height, width = frame
    parts = [(owner, part) for owner, area in polygons for part in area]
    rings = [ring for _, part in parts for ring in part]
    if not rings:
        return np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.int64)
    lengths = np.array([len(ring) for ring in rings])
    part_of_ring = np.repeat(np.arange(len(parts)), [len(part) for _, part in parts])
    tails = np.concatenate(rings)
    following = np.arange(1, len(tails) + 1)
    following[np.cumsum(lengths) - 1] -= lengths  # the last vertex of each ring is followed by its first
    keys = _crossings(tails, tails[following], np.repeat(part_of_ring, lengths), frame, where)
    keys.sort()
    lines, rows = np.divmod(keys.reshape(-1, 2), height + 1)
    part, column = np.divmod(lines[:, 0], width)
    runs = column[:, None] * height + rows
    kept = rows[:, 0] < rows[:, 1]
    owners = np.array([owner for owner, _ in parts])[part[kept]]
    return runs[kept, 0], runs[kept, 1], owners


def _crossings(tails: Ring, heads: Ring, parts: NDArray[np.int64], frame: Frame, where: Location) -> NDArray[np.int64]:
    """Crossings of edges with the lines of centres: (part * width + column) * (height + 1) + row, in any order.

    The row is that of the first centre on or below the crossing. Each edge includes its left end and excludes its right
    one, and is followed from left to right whichever way it was drawn, so that every line meets a ring an even number
    of times, and edges that two shapes share are crossed at exactly the same rows. Coordinates are those of the whole
    image, so that those of a window are crossed at the same rows, too.
    """
    top, start, height, width = frame
    swap = tails[:, 0] > heads[:, 0]
    left, right = np.where(swap[:, None], heads, tails), np.where(swap[:, None], tails, heads)
    first = _first_centre_from(left[:, 0], start, width)
    counts = _first_centre_from(right[:, 0], start, width) - first
    total = int(counts.sum())
    if total > MAX_CROSSINGS:
        raise where.error(
            f"the outlines cross columns of pixels {total} times, but the limit is {MAX_CROSSINGS}; simplify them, or "
            "cut the image into smaller ones"
        )
    half = right / 2 - left / 2  # halved: the difference of two huge numbers could be infinite
    edge = np.repeat(np.arange(len(tails)), counts)
    column = first[edge] + np.arange(total) - np.repeat(np.cumsum(counts) - counts, counts)
    with np.errstate(over="ignore"):
        y = left[edge, 1] + (start + column + 0.5 - left[edge, 0]) / half[edge, 0] * half[edge, 1]
    keys: NDArray[np.int64] = (parts[edge] * width + column) * (height + 1) + _first_centre_from(y, top, height)
    return keys


def _first_centre_from(position: NDArray[np.float64], start: int, size: int) -> NDArray[np.int64]:
    """Index, from `start`, of the first of `size` pixels whose centre is at or after a position; `size` if none is."""
    return np.asarray(np.clip(np.ceil(position - 0.5) - start, 0, size), np.int64)
