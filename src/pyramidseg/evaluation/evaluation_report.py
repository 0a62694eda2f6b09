"""report.html of a training run or an evaluation: one self-contained file."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.files import write_text
from pyramidseg.evaluation.example_images import IGNORED, WRONG, Example
from pyramidseg.evaluation.metrics import Scores
from pyramidseg.evaluation.score_plots import confusion_heatmap, iou_bars
from pyramidseg.report import figures as plots
from pyramidseg.report.page import PageFigure, css_color, read_template, render_page, settings_by_section, svg_uri


def write_report(
    path: Path,
    *,
    title: str,
    scores: Scores,
    classes: Classes,
    examples: Sequence[Example] = (),
    history: plots.History | None = None,
    settings: Mapping[str, Any] | None = None,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report, atomically.

    Args:
        examples: from `make_example`, in any order; the half with the lower mIoU is shown as worst images.
        history: rows of metrics.csv, for the training curves.
        settings: may be nested by section, like `Config.model_dump()`.
        facts: facts about the data, by name.
        notes: sentences, for example `Dataset.notes`.

    Raises:
        OutputError: the file cannot be written.
    """
    ranked = sorted(examples, key=lambda example: example.score.miou)
    half = (len(ranked) + 1) // 2
    page = render_page(
        read_template(__package__, "evaluation_report.html.j2"),
        title=title,
        metrics=scores.metrics,
        loss=scores.loss,
        colors=[css_color(color) for color in classes.colors],
        has_ignored=any(example.score.pixels < example.total_pixels for example in ranked),
        figures=_figures(scores, history or ()),
        groups=[
            ("Worst images", "The lowest mean IoU over the classes in the image.", ranked[:half]),
            ("Best images", "The highest mean IoU over the classes in the image.", ranked[half:][::-1]),
        ],
        settings=settings_by_section(settings or {}),
        facts=facts or {},
        notes=notes,
        wrong=css_color(WRONG),
        ignored=css_color(IGNORED),
    )
    write_text(path, page)


def _figures(scores: Scores, history: plots.History) -> dict[str, list[PageFigure]]:
    metrics = scores.metrics
    known = [entry for entry in metrics.classes if not math.isnan(entry.iou)]
    extremes = ""
    if known:
        low, high = min(known, key=lambda entry: entry.iou), max(known, key=lambda entry: entry.iou)
        extremes = f", from {low.iou:.3f} ({low.name}) to {high.iou:.3f} ({high.name})"
    curves = [
        PageFigure(
            image=svg_uri(plots.training_curve(history, quantity, format="svg")),
            alt=f"{plots.TITLES[quantity]} of training and validation over {len(history)} epochs",
        )
        for quantity in (plots.TITLES if history else ())
    ]
    bars = PageFigure(
        image=svg_uri(iou_bars(metrics, format="svg")),
        alt=f"Bars of the IoU of {len(metrics.classes)} classes{extremes}; the table below has the numbers",
        note="True positives / (true positives + false positives + false negatives). The line is the mean.",
    )
    heatmap = PageFigure(
        image=svg_uri(confusion_heatmap(scores.confusion, [entry.name for entry in metrics.classes], format="svg")),
        alt="Heat map of predicted class by true class; the diagonal is each class's recall",
        note="Each row: predicted classes of the pixels of one true class, in %; shares below 0.5 % have no number.",
    )
    return {"curves": curves, "classes": [bars, heatmap]}
