"""Plots of evaluation results: IoU by class and the confusion matrix. Each function returns the bytes of an image."""

import math
from collections.abc import Sequence
from pathlib import Path

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.files import write_bytes
from pyramidseg.evaluation.metrics import Metrics, Scores
from pyramidseg.report.figures import (
    BLUE,
    ORANGE,
    STYLE,
    History,
    ImageFormat,
    new_figure,
    render_figure,
    training_curves,
)
from pyramidseg.report.page import INK, MUTED


def iou_bars(metrics: Metrics, *, format: ImageFormat = "png") -> bytes:
    """Bar chart of the IoU by class, in the order of the ids, with the mean as a line."""
    classes = metrics.classes
    with matplotlib.rc_context(STYLE):
        figure = new_figure(6.4, 0.9 + len(classes) * float(np.clip(5.5 / len(classes), 0.25, 0.5)))
        axes = figure.subplots()
        rows = np.arange(len(classes))
        known = np.nan_to_num(np.array([entry.iou for entry in classes]))
        axes.barh(rows, np.ones(len(classes)), height=0.62, color=to_rgba(MUTED, 0.13))
        axes.barh(rows, known, height=0.62, color=BLUE)
        for row, entry in enumerate(classes):
            absent = math.isnan(entry.iou)
            axes.text(
                1.02, row, "not present" if absent else f"{entry.iou:.3f}", va="center", color=MUTED if absent else INK
            )
        if not math.isnan(metrics.miou):
            axes.axvline(metrics.miou, color=ORANGE, linewidth=1.6)
            axes.set_title(f"IoU by class; the line is the mean, {metrics.miou:.3f}")
        axes.set_yticks(rows, [_short(entry.name) for entry in classes])
        axes.set(xlim=(0, 1.16), ylim=(len(classes) - 0.4, -0.6), xticks=[0, 0.25, 0.5, 0.75, 1])
        axes.tick_params(axis="y", length=0, labelcolor=INK)
        axes.spines[["left", "bottom"]].set_visible(False)
        return render_figure(figure, format)


def confusion_heatmap(confusion: Tensor, names: Sequence[str], *, format: ImageFormat = "png") -> bytes:
    """Heat map of the share of each true class's pixels by predicted class, with numbers in % for up to 40 classes.

    Shares below 0.5 % have no number; a class without true pixels has an empty row.
    """
    counts = confusion.cpu().numpy().astype(np.float64)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    cell_inches = float(np.clip(7.6 / len(names), 0.2, 0.55))
    side = cell_inches * len(names)
    with matplotlib.rc_context(STYLE):
        figure = new_figure(2.0 + side, 1.6 + side)
        axes = figure.subplots()
        _draw_cells(axes, shares)
        if len(names) <= 40:
            _draw_percentages(axes, shares, font_size=min(9.0, cell_inches * 22))
        _name_cells(axes, [_short(name) for name in names], font_size=min(9.0, 6 + cell_inches * 6))
        return render_figure(figure, format)


def save_plots(folder: Path, scores: Scores, *, history: History = ()) -> None:
    """Write iou.png, confusion.png and, if there is a history, curves.png into `folder`."""
    names = [entry.name for entry in scores.metrics.classes]
    images = {"iou.png": iou_bars(scores.metrics), "confusion.png": confusion_heatmap(scores.confusion, names)}
    if history:
        images["curves.png"] = training_curves(history)
    for name, image in images.items():
        write_bytes(folder / name, image)


def _draw_cells(axes: Axes, shares: NDArray[np.float64]) -> None:
    # Shares as opacity, so that empty cells fit a light and a dark page; the power makes small confusions visible.
    colors = np.empty((*shares.shape, 4))
    colors[..., :3], colors[..., 3] = to_rgba(BLUE)[:3], shares**0.75
    edges = np.arange(len(shares) + 1) - 0.5
    axes.pcolormesh(edges, edges, colors, edgecolors=to_rgba(MUTED, 0.25), linewidth=0.4, clip_on=False)
    axes.set(xlim=(-0.5, len(shares) - 0.5), ylim=(len(shares) - 0.5, -0.5), aspect="equal")
    axes.spines[:].set_visible(False)


def _draw_percentages(axes: Axes, shares: NDArray[np.float64], *, font_size: float) -> None:
    for row, column in np.argwhere(shares >= 0.005).tolist():
        share = shares[row, column]
        color = "white" if share > 0.45 else INK
        axes.text(column, row, f"{100 * share:.0f}", ha="center", va="center", fontsize=font_size, color=color)


def _name_cells(axes: Axes, names: Sequence[str], *, font_size: float) -> None:
    upright = len(names) > 14
    axes.set_xticks(range(len(names)), names, rotation=90 if upright else 45)
    for label in axes.get_xticklabels():
        label.set(ha="center" if upright else "left", rotation_mode="default" if upright else "anchor")
    axes.set_yticks(range(len(names)), names)
    axes.xaxis.tick_top()
    axes.xaxis.set_label_position("top")
    axes.set(xlabel="predicted", ylabel="true")
    axes.tick_params(length=0, labelcolor=INK, labelsize=font_size)


def _short(name: str) -> str:
    return name if len(name) <= 22 else f"{name[:21]}…"
