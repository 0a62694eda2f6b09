"""Figures of the page as SVG: outlines and points in plain numbers, drawn in the page's own colours."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

SCATTER_PX = (320, 240)
"""Width and height of the plot of image sizes."""

MOST_POINTS = 400


class Histogram(NamedTuple):
    """The outline of a histogram in a field 256 wide and 100 high."""

    outline: str
    color: str


class Point(NamedTuple):
    """Images of one size."""

    x: float
    y: float
    radius: float
    label: str


class Scatter(NamedTuple):
    """Image sizes: width to the right, height upwards, area of a point as the number of its images.

    Attributes:
        ticks: pixels and their place, on both axes.
    """

    width: int
    height: int
    points: list[Point]
    x_ticks: list[tuple[int, float]]
    y_ticks: list[tuple[int, float]]


def histogram(counts: Sequence[int], color: str) -> Histogram:
    """Square roots of counts; black and white, which many images are full of, may reach beyond the field."""
    heights = np.sqrt(np.asarray(counts, np.float64))
    heights = np.minimum(heights * 95 / max(heights[1:-1].max(), 1e-12), 100)
    steps = [f"L{index} {100 - height:.1f}L{index + 1} {100 - height:.1f}" for index, height in enumerate(heights)]
    return Histogram(f"M0 100{''.join(steps)}L{len(heights)} 100Z", color)


def scatter(sizes: Mapping[tuple[int, int], int]) -> Scatter:
    """A point for each (height, width); of very many sizes, the most frequent."""
    width, height = SCATTER_PX
    frequent = sorted(sizes.items(), key=lambda item: (-item[1], item[0]))[:MOST_POINTS]
    tallest, widest = (1.05 * max(size[axis] for size, _ in frequent) for axis in (0, 1))
    most = frequent[0][1]
    points = [
        Point(
            x=round(width * w / widest, 1),
            y=round(height * (1 - h / tallest), 1),
            radius=round(2.5 + 7.5 * (images / most) ** 0.5, 1),
            label=f"{h} x {w}: {images} image{'' if images == 1 else 's'}",
        )
        for (h, w), images in frequent
    ]
    x_ticks = [(tick, round(width * tick / widest, 1)) for tick in _ticks(widest)]
    y_ticks = [(tick, round(height * (1 - tick / tallest), 1)) for tick in _ticks(tallest)]
    return Scatter(width, height, points, x_ticks, y_ticks)


def _ticks(end: float) -> list[int]:
    """Two to five round numbers up to an end, from 0."""
    step = 10 ** int(np.log10(max(end / 2, 1)))
    step = next((step * factor for factor in (1, 2, 5) if end / (step * factor) < 5), 10 * step)
    return list(range(0, int(end) + 1, step))
