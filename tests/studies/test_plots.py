"""Pictures of a comparison: the mean of the seeds and their range, and nothing of a curve is cut."""

from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure

from pyramidseg.studies.compare_report import _draw_curves
from pyramidseg.studies.compare_results import EncoderCost, EncoderResult

COST = EncoderCost(parameters=1, gmac=1.0, latency_ms=1.0, memory_mb=1.0, training_seconds=1.0)


@pytest.mark.parametrize("histories", [[[0.91]], [[0.92, 0.9]], [[0.9] * 30, [0.95] * 30]], ids=len)
def test_the_highest_point_lies_within_the_axes(histories: list[list[float]]) -> None:
    rows: Any = tuple(tuple({"error": value} for value in values) for values in histories)
    axes = Figure().subplots()
    _draw_curves(axes, [EncoderResult("a", rows, (0.1,), (), (), COST)], "error", lambda row: row["error"])
    top, right = max(map(max, histories)), len(histories[0])
    assert axes.get_ylim()[0] == 0
    assert axes.get_ylim()[1] > 1.05 * top
    assert axes.get_xlim()[1] > right


def test_a_curve_is_the_mean_of_the_seeds_and_its_band_their_range() -> None:
    histories = [[0.9, 0.5, 0.1], [0.7, 0.6, 0.3], [0.8, 0.4]]  # the last stopped early
    rows: Any = tuple(tuple({"error": value} for value in values) for values in histories)
    axes = Figure().subplots()
    _draw_curves(axes, [EncoderResult("a", rows, (0.1,) * 3, (), (), COST)], "error", lambda row: row["error"])
    (line,), (band,) = axes.lines, axes.collections
    np.testing.assert_array_equal(line.get_xdata(), [1, 2])
    np.testing.assert_allclose(line.get_ydata(), [0.8, 0.5])
    corners = {tuple(corner) for corner in band.get_paths()[0].vertices.tolist()}
    assert corners == {(1, 0.7), (1, 0.9), (2, 0.4), (2, 0.6)}


def test_values_that_do_not_exist_are_gaps() -> None:
    axes = Figure().subplots()
    rows: Any = (({"error": None}, {"error": None}),)
    _draw_curves(axes, [EncoderResult("a", rows, (0.1,), (), (), COST)], "error", lambda row: row["error"])
    assert axes.get_ylim() == (0, 1)
