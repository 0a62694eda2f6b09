"""Pictures of a comparison: error and loss by epoch, accuracy against cost, IoU by class. Bytes of an image each."""

from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from pyramidseg.compare.results import COSTS, EncoderResult, Results, error_of, pareto_front
from pyramidseg.evaluation.plots import STYLE, Format, new_figure, rendered
from pyramidseg.pages.page import MUTED

PALETTE = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6e7781", "#000000")
"""Okabe and Ito's colours (2008); they begin anew after eight encoders, with other dashes."""

DASHES = ("-", "--", ":", "-.")


def error_curves(results: Results, *, format: Format = "png") -> bytes:
    """1 - mIoU and validation loss against the epoch: mean over the seeds, and their range."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(10, 4)
        left, right = figure.subplots(1, 2)
        _draw_curves(left, results.encoders, "error, 1 - mean IoU", error_of)
        _draw_curves(right, results.encoders, "validation loss", lambda row: row["val_loss"])
        names, labels = right.get_legend_handles_labels()
        figure.legend(names, labels, loc="outside lower center", ncols=min(4, len(labels)))
        return rendered(figure, format)


def cost_scatter(results: Results, *, format: Format = "png") -> bytes:
    """Mean IoU against each cost; the front that no other encoder beats is drawn through."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(12, 6.4)
        for axes, (title, cost_of) in zip(figure.subplots(2, 3).flat, COSTS.items(), strict=False):
            _draw_costs(axes, results.encoders, title, cost_of)
        for axes in figure.axes[len(COSTS) :]:
            axes.set_axis_off()
        return rendered(figure, format)


def _draw_curves(
    axes: Axes, encoders: Sequence[EncoderResult], title: str, value_of: Callable[[dict[str, Any]], float | None]
) -> None:
    longest, top = 1, 0.0
    for place, result in enumerate(encoders):
        values = _by_seed(result, value_of)
        epochs = np.arange(1, values.shape[1] + 1)
        longest, top = max(longest, len(epochs)), max(top, np.nanmax(values, initial=0.0))
        color, dash = PALETTE[place % len(PALETTE)], DASHES[place // len(PALETTE) % len(DASHES)]
        marker = "o" if len(epochs) < 3 else ""
        axes.plot(epochs, values.mean(axis=0), dash, color=color, label=result.name, marker=marker, markersize=5)
        if len(values) > 1:
            axes.fill_between(epochs, values.min(axis=0), values.max(axis=0), color=color, alpha=0.15, linewidth=0)
    axes.set_title(title)
    axes.set(xlabel="epoch", xlim=(0, 1.03 * longest + 0.1), ylim=(0, 1.1 * top or 1))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.grid(axis="y")


def _draw_costs(
    axes: Axes, encoders: Sequence[EncoderResult], title: str, cost_of: Callable[[EncoderResult], float]
) -> None:
    front = sorted((result for result in encoders if result.name in pareto_front(encoders, cost_of)), key=cost_of)
    axes.plot([cost_of(result) for result in front], [result.miou for result in front], color=MUTED, linewidth=1)
    for place, result in enumerate(encoders):
        color = PALETTE[place % len(PALETTE)]
        spread = [[result.miou - min(result.mious)], [max(result.mious) - result.miou]]
        axes.errorbar(cost_of(result), result.miou, yerr=spread, fmt="o", color=color, capsize=3, markersize=6)
        axes.annotate(
            result.name, (cost_of(result), result.miou), xytext=(6, 4), textcoords="offset points", fontsize=8
        )
    axes.set_title(title)
    axes.set(xlim=(0, 1.35 * max(cost_of(result) for result in encoders) or 1), ylabel="mean IoU")
    axes.margins(y=0.25)
    axes.grid()


def _by_seed(result: EncoderResult, value_of: Callable[[dict[str, Any]], float | None]) -> NDArray[np.float64]:
    """(S, epochs); runs that stopped early end where the shortest does, so that every point has all seeds."""
    shortest = min(len(history) for history in result.histories)
    values = [
        [np.nan if (value := value_of(dict(row))) is None else value for row in history[:shortest]]
        for history in result.histories
    ]
    return np.array(values, dtype=np.float64)
