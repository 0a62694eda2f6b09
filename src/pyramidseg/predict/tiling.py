"""Tiling: compute the logits of an image window by window and blend them, for any function from images to logits.

    grid = tile_grid(height, width, Tiles(1024, 128), stride=4, padding_px=32)
    for block in blend_tiles(predict_tile, image_CHW, grid):  # predict_tile: (B, C, H, W) to (B, K, h, w)
        ...                                                   # block.logits: finished rows of the image, (K, rows, w)

Windows start on the grid of the coarsest pyramid level, so that every level sees the same pixels as in the whole image.
Logits are blended before the last upsampling, where there are sixteen times fewer of them (stride 4), and rows that no
further window overlaps are yielded at once: memory holds one window and the logits of one row of windows. For
images of any width, a row can be computed in panels of a few windows (`panels_of`).

At its border a window sees zero padding where the whole image has pixels. The margin, whose logits depend on that
padding, is dropped, and the rest of the overlap is blended. With a margin of the network's receptive field
(`receptive_field_px`), tiles give exactly the logits of the whole image.

Legend: B batch, C channels, H W pixels, K classes, h w points of the logits (pixels divided by the stride).
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.errors import ConfigError

GRID_PX = 32
"""Windows start at multiples of it: the coarsest stride of any pyramid, which all other strides divide."""

SMALLEST_TILE_PX = 2 * GRID_PX

PredictTile = Callable[[Tensor], Tensor]
"""(B, C, H, W) images to (B, K, h, w) floating-point logits, where h and w cover H and W at the stride."""


@dataclass(frozen=True)
class Tiles:
    """How an image is divided.

    Attributes:
        tile_px: side of the square windows.
        overlap_px: least overlap of neighbouring windows.
        margin_px: dropped at each border of a window that is not a border of the image; at most half the overlap.

    Raises:
        ConfigError: a side is not a multiple of `GRID_PX`, or the overlap exceeds half the tile.
    """

    tile_px: int
    overlap_px: int
    margin_px: int = 0

    def __post_init__(self) -> None:
        check_side("tile_px", self.tile_px, least=SMALLEST_TILE_PX)
        if self.overlap_px <= self.tile_px // 2:
            check_side("overlap_px", self.overlap_px, least=0)
        else:
            raise ConfigError(
                f"`overlap_px={self.overlap_px}` with `tile_px={self.tile_px}`: the overlap may be at most half the "
                f"tile; choose `tile_px={-(-2 * self.overlap_px // GRID_PX) * GRID_PX}` or "
                f"`overlap_px={self.tile_px // 2 // GRID_PX * GRID_PX}`"
            )
        assert 0 <= 2 * self.margin_px <= self.overlap_px, "a margin of more than half the overlap leaves pixels out"


def check_side(name: str, side_px: int, *, least: int) -> None:
    """Check that a side is a multiple of `GRID_PX`.

    Raises:
        ConfigError: it is not, or it is below `least`; names the nearest allowed values.
    """
    if side_px < least or side_px % GRID_PX:
        below = max(least, side_px // GRID_PX * GRID_PX)
        raise ConfigError(
            f"`{name}={side_px}`: must be a multiple of {GRID_PX} pixels and at least {least}, so that windows start "
            f"on the grid of the coarsest pyramid level; try {below} or {below + GRID_PX}"
        )


@dataclass(frozen=True, eq=False)
class Window:
    """Extent of a window along one axis.

    Attributes:
        pixels: of the image that the window covers.
        points: of the image's logits that the window contributes to.
        offset: number of the window's own points before these.
        weights: (points,) float64 in (0, 1]; the weights of all windows add up to 1 at every point.
    """

    pixels: slice
    points: slice
    offset: int
    weights: NDArray[np.float64]


class TileGrid(NamedTuple):
    """All windows of an image: each of `rows` with each of `columns`."""

    rows: tuple[Window, ...]
    columns: tuple[Window, ...]

    @property
    def points(self) -> tuple[int, int]:
        """Height and width of the image's logits, those of its padding included."""
        return self.rows[-1].points.stop, self.columns[-1].points.stop


class RowBlock(NamedTuple):
    """Rows of an image's logits: (K, rows, w) from row `first` on.

    Blocks come from top to bottom, and each starts with the last row of the block before: the pixels between two rows
    of points need both.

    Attributes:
        covered: (rows, w), the points that a window contributed to; None for all.
    """

    first: int
    logits: Tensor
    covered: NDArray[np.bool_] | None = None


class Panel(NamedTuple):
    """Neighbouring columns of windows, which are blended together.

    Attributes:
        grid: the windows of all rows in these columns; points are counted from the panel's first.
        columns: numbers of the columns; the first ones may also be in the panel before.
        points: of the image's logits, which these windows complete, and the last one of the panel before.
        own: the same points, among those of the panel.
    """

    grid: TileGrid
    columns: range
    points: slice
    own: slice


def tile_grid(height: int, width: int, tiles: Tiles, *, stride: int, padding_px: int) -> TileGrid:
    """The windows of an image of (height, width) pixels.

    Args:
        stride: pixels per point of the logits; divides `GRID_PX`.
        padding_px: `predict_tile` pads images to multiples of it (`padding_of`).
    """
    return TileGrid(
        windows_along(height, tiles, stride=stride, padding_px=padding_px),
        windows_along(width, tiles, stride=stride, padding_px=padding_px),
    )


def blend_tiles(predict_tile: PredictTile, image_CHW: Tensor, grid: TileGrid) -> Iterator[RowBlock]:
    """Logits of the whole image, from the top, each block as soon as its rows are finished."""
    unfinished: RowBlock | None = None
    for number, row in enumerate(grid.rows):
        windows = (image_CHW[None, :, row.pixels, column.pixels] for column in grid.columns)
        block, unfinished = blend_row((predict_tile(window)[0] for window in windows), grid, number, unfinished)
        yield block


def panels_of(grid: TileGrid, most_px: int) -> Iterator[Panel]:
    """Divide the columns into panels of windows that are together at most `most_px` wide, but of at least one each."""
    columns, end = grid.columns, 0
    while end < len(columns):
        first, end = end, end + 1
        while end < len(columns) and columns[end].pixels.stop - columns[first].pixels.start <= most_px:
            end += 1
        last = columns[end].points.start if end < len(columns) else grid.points[1]
        points = slice(max(columns[first].points.start - 1, 0), last)
        earliest = next(n for n, column in enumerate(columns) if column.points.stop > points.start)
        origin = columns[earliest].points.start
        shifted = (replace(column, points=_moved(column.points, -origin)) for column in columns[earliest:end])
        yield Panel(TileGrid(grid.rows, tuple(shifted)), range(earliest, end), points, _moved(points, -origin))


def blend_row(
    windows: Iterable[Tensor | None], grid: TileGrid, number: int, unfinished: RowBlock | None
) -> tuple[RowBlock, RowBlock]:
    """Add the logits (K, h, w) of a row's windows, None for one left out, to the `unfinished` rows of the row before.

    Returns:
        The finished rows, and their last one with all that further windows overlap.
    """
    row, (height, width) = grid.rows[number], grid.points
    first = 0 if unfinished is None else unfinished.first
    covered = np.zeros((row.points.stop - first, width), np.bool_)
    sums: Tensor | None = None
    if unfinished is not None:
        sums = unfinished.logits.new_zeros(len(unfinished.logits), *covered.shape)
        sums[:, : unfinished.logits.shape[1]] = unfinished.logits
        covered[: unfinished.logits.shape[1]] = True if unfinished.covered is None else unfinished.covered
    for column, window in zip(grid.columns, windows, strict=True):
        if window is None:
            continue
        logits = _weighted(window, row, column)
        if sums is None:
            sums = logits.new_zeros(len(logits), *covered.shape)
        sums[:, row.points.start - first :, column.points] += logits
        covered[row.points.start - first :, column.points] = True
    assert sums is not None
    finished = (grid.rows[number + 1].points.start if number + 1 < len(grid.rows) else height) - first
    return (
        RowBlock(first, sums[:, :finished], covered[:finished]),
        RowBlock(first + finished - 1, sums[:, finished - 1 :].clone(), covered[finished - 1 :].copy()),
    )


def padding_of(logits_of_pixel: Tensor, *, stride: int) -> int:
    """The multiple of pixels that a function pads images to, by its logits (B, K, h, w) of a single pixel."""
    padding_px = logits_of_pixel.shape[-1] * stride
    assert GRID_PX % padding_px == 0, f"images are padded to {padding_px} pixels, which does not divide {GRID_PX}"
    return padding_px


def window_weights(points: int, overlap: int, margin: int, *, before: bool, after: bool) -> NDArray[np.float64]:
    """Blend weights of a window along one axis, before they are divided by their sum over all windows.

    1 inside, falling linearly over the overlap with a neighbour; 0 in the margin and above 0 everywhere else.

    Args:
        before, after: whether a neighbour overlaps the start and the end of the window.
    """
    ramp = np.clip((np.arange(points) + 0.5 - margin) / max(overlap - 2 * margin, 0.5), 0, 1)
    weights = np.ones(points)
    if before:
        weights = np.minimum(weights, ramp)
    if after:
        weights = np.minimum(weights, ramp[::-1])
    return weights


def windows_along(length_px: int, tiles: Tiles, *, stride: int, padding_px: int) -> tuple[Window, ...]:
    """The windows along one axis; the last one ends with the image, so that it too is as large as possible."""
    padded_px = round_up(length_px, padding_px)
    last_px = max(0, round_up(length_px - tiles.tile_px, GRID_PX))
    starts_px = [*range(0, last_px, tiles.tile_px - tiles.overlap_px), last_px]
    ramps = [
        window_weights(
            min(tiles.tile_px, padded_px - start_px) // stride,
            tiles.overlap_px // stride,
            -(-tiles.margin_px // stride),
            before=start_px > 0,
            after=start_px < last_px,
        )
        for start_px in starts_px
    ]
    total = np.zeros(padded_px // stride)
    for start_px, ramp in zip(starts_px, ramps, strict=True):
        total[start_px // stride :][: len(ramp)] += ramp
    windows = []
    for start_px, ramp in zip(starts_px, ramps, strict=True):
        used, pixels = np.flatnonzero(ramp), slice(start_px, min(start_px + tiles.tile_px, length_px))
        points = slice(start_px // stride + int(used[0]), start_px // stride + int(used[-1]) + 1)
        windows.append(Window(pixels, points, int(used[0]), ramp[used[0] : used[-1] + 1] / total[points]))
    return tuple(windows)


def _weighted(logits_Khw: Tensor, row: Window, column: Window) -> Tensor:
    """Contribution of a window: (K, points of the row, points of the column)."""
    down, across = (logits_Khw.new_tensor(window.weights) for window in (row, column))
    inner = logits_Khw[:, row.offset : row.offset + len(down), column.offset : column.offset + len(across)]
    return inner * down[:, None] * across


def _moved(extent: slice, by: int) -> slice:
    return slice(extent.start + by, extent.stop + by)


def round_up(number: int, multiple: int) -> int:
    """The smallest multiple that is not below the number."""
    return -(-number // multiple) * multiple
