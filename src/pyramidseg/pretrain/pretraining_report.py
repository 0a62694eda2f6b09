"""Report of a pretraining run: errors and loss per epoch, settings, data."""

from collections.abc import Mapping, Sequence
from typing import Any

import matplotlib
from matplotlib.ticker import MaxNLocator

from pyramidseg.base.files import write_bytes, write_text
from pyramidseg.report.figures import BLUE, ORANGE, STYLE, ImageFormat, legend_below, new_figure, render_figure
from pyramidseg.report.page import PageFigure, read_template, render_page, settings_by_section, svg_uri
from pyramidseg.training.run_folder import RunFolder

PANELS = {"Top-1 error": "error", "Top-5 error": "top5_error", "Loss": "loss"}


def write_pretraining_report(
    run: RunFolder,
    *,
    title: str,
    history: Sequence[Mapping[str, Any]],
    best: Mapping[str, Any],
    settings: Mapping[str, Any],
    facts: Mapping[str, Any],
    notes: Sequence[str],
) -> None:
    """Write `report.html` and `plots/curves.png`.

    Args:
        best: row of the best epoch.
    """
    write_bytes(run.plots / "curves.png", draw_curves(history))
    page = render_page(
        read_template(__package__, "pretraining_report.html.j2"),
        title=title,
        best=best,
        curves=PageFigure(
            svg_uri(draw_curves(history, format="svg")), "Error and loss of training and validation by epoch"
        ),
        settings=settings_by_section(settings),
        facts=facts,
        notes=notes,
    )
    write_text(run.report, page)


def draw_curves(history: Sequence[Mapping[str, Any]], *, format: ImageFormat = "png") -> bytes:
    """Plot top-1 error, top-5 error and loss over the epochs, for training and validation."""
    epochs = [row["epoch"] for row in history]
    with matplotlib.rc_context(STYLE):
        figure = new_figure(11, 3.2)
        for axes, (name, quantity) in zip(figure.subplots(1, 3), PANELS.items(), strict=True):
            for part, color, label in (("train", ORANGE, "training"), ("val", BLUE, "validation")):
                values = [
                    float("nan") if row[f"{part}_{quantity}"] is None else row[f"{part}_{quantity}"] for row in history
                ]
                axes.plot(epochs, values, color=color, label=label, marker="o" if len(epochs) < 3 else "", markersize=5)
            axes.set_title(name)
            axes.set(xlabel="epoch", xlim=(0, 1.03 * epochs[-1] + 0.1), ylim=(0, None))
            axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
            axes.grid(axis="y")
            legend_below(axes)
        return render_figure(figure, format)
