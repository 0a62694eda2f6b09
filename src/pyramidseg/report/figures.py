"""Figures: the common style, and the training curves of a run. Each function returns the bytes of an image.

Drawn with matplotlib's object-oriented API on a transparent background, in the colours of Okabe and Ito (2008), which
colour-blind people can tell apart. SVG files keep text as text.
"""

import io
import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine
from matplotlib.ticker import MaxNLocator
from matplotlib.transforms import ScaledTranslation
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.report.page import GRID, INK, MUTED, css_color

ImageFormat = Literal["png", "svg"]
History = Sequence[Mapping[str, Any]]
"""One row an epoch: `epoch`, and quantities such as `loss` with prefix train_ and val_; a missing value is a gap."""

BLUE, ORANGE = "#0072b2", "#e69f00"

PANELS = {"loss": "Loss", "error": "Pixel error", "miou": "Mean IoU"}
"""Titles by quantity, for segmentation."""

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": GRID,
    "axes.titlecolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "xtick.color": GRID,
    "ytick.color": GRID,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "lines.linewidth": 1.8,
    "legend.frameon": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "pyramidseg",  # equal figures are equal bytes
    "text.parse_math": False,  # a class may be called "$"
}


def training_curves(history: History, *, panels: Mapping[str, str] = PANELS, format: ImageFormat = "png") -> bytes:
    """Quantities of training and validation by epoch, side by side; `panels` are their titles."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(11, 3.2)
        for axes, (quantity, title) in zip(figure.subplots(1, len(panels)), panels.items(), strict=True):
            _draw_curve(axes, history, quantity, title)
        return render_figure(figure, format)


def share_plot(seconds: Sequence[float], shares: NDArray[np.float64], classes: Classes) -> bytes:
    """Shares of the classes over time, stacked in their colours, as PNG: (N,) times and (N, K) shares."""
    with matplotlib.rc_context(STYLE):
        figure = new_figure(11, 3.6)
        axes = figure.subplots()
        found = np.flatnonzero(shares.any(axis=0))
        colors = [css_color(classes.colors[index]) for index in found]
        names = [classes.names[index] for index in found]
        axes.stackplot(seconds, 100 * shares[:, found].T, colors=colors, labels=names, step="post")
        axes.set(xlabel="seconds", ylabel="share of the pixels (%)", ylim=(0, 100), xmargin=0)
        figure.legend(loc="outside right upper", ncols=1 + len(found) // 20)
        return render_figure(figure, "png")


def new_figure(width_inches: float, height_inches: float) -> Figure:
    """An empty figure with constrained layout; draw on it within `rc_context(STYLE)`."""
    return Figure(figsize=(width_inches, height_inches), layout=ConstrainedLayoutEngine(w_pad=0.1, h_pad=0.1))


def _draw_curve(axes: Axes, history: History, quantity: str, title: str) -> None:
    epochs = [float(row["epoch"]) for row in history]
    rises = quantity == "miou"
    top = 0.0
    for part, color, label in (("train", ORANGE, "training"), ("val", BLUE, "validation")):
        values = np.array([_value(row.get(f"{part}_{quantity}")) for row in history])
        if not np.isfinite(values).any():
            continue
        finite = values[np.isfinite(values)]
        top = max(top, float(finite.max()))
        if part == "val":
            best = float(finite.max() if rises else finite.min())
            axes.plot(epochs[int(np.flatnonzero(values == best)[0])], best, "o", color=color, markersize=6)
            label = f"{label}, best {best:.3f}"
        axes.plot(epochs, values, color=color, label=label, marker="o" if len(finite) < 3 else "", markersize=5)
    axes.set_title(title)
    axes.set(xlabel="epoch", xlim=(0, 1.03 * epochs[-1] + 0.1), ylim=(0, 1 if rises else 1.1 * top or 1))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    axes.grid(axis="y")
    if top:
        below = axes.transAxes + ScaledTranslation(0, -34 / 72, axes.figure.dpi_scale_trans)
        axes.legend(loc="upper center", bbox_to_anchor=(0.5, 0), bbox_transform=below, ncols=2, borderaxespad=0)


def _value(value: object) -> float:
    return math.nan if value in (None, "") else float(value)  # type: ignore[arg-type]


def render_figure(figure: Figure, format: ImageFormat) -> bytes:
    """The bytes of a figure: SVG with text as text, PNG on white."""
    data = io.BytesIO()
    with warnings.catch_warnings():
        # Names with glyphs that the font lacks: browsers find another font for SVG, and PNG shows boxes.
        warnings.filterwarnings("ignore", message="Glyph .* missing from", category=UserWarning)
        if format == "svg":
            figure.savefig(data, format="svg", transparent=True, metadata={"Date": None})
        else:
            figure.savefig(data, format="png", dpi=144, facecolor="white")
    return data.getvalue()
