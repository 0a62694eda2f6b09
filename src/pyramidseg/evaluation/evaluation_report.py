"""Scores as text and as files: metrics.json, confusion.csv, per_image.csv, and report.html, one self-contained file."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pyramidseg.base.classes import Classes
from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.text import csv_text
from pyramidseg.evaluation.example_images import IGNORED, WRONG, Example
from pyramidseg.evaluation.metrics import Scores
from pyramidseg.evaluation.score_plots import confusion_heatmap, iou_bars
from pyramidseg.report.figures import History, training_curves
from pyramidseg.report.page import PageFigure, css_color, render_page, svg_uri

SCORE_FILES = ("metrics.json", "confusion.csv", "per_image.csv")


def write_report(
    path: Path,
    *,
    title: str,
    scores: Scores,
    classes: Classes,
    examples: Sequence[Example] = (),
    history: History | None = None,
    maps: Sequence[Mapping[str, Any]] = (),
    settings: Mapping[str, Mapping[str, Any]] | None = None,
    facts: Mapping[str, Any] | None = None,
    notes: Sequence[str] = (),
) -> None:
    """Write the report, atomically.

    Args:
        examples: from `make_example`, in any order; the half with the lower mIoU is shown as worst images.
        history: rows of metrics.csv, for the training curves.
        maps: of scenes (`scene_maps`).
        settings: by section, like `Config.model_dump()`.
        facts: facts about the data, by name.
        notes: sentences, for example `Dataset.notes`.

    Raises:
        OutputError: the file cannot be written.
    """
    ranked = sorted(examples, key=lambda example: example.score.miou)
    half = (len(ranked) + 1) // 2
    page = render_page(
        "evaluation/evaluation_report.html.j2",
        title=title,
        metrics=scores.metrics,
        loss=scores.loss,
        colors=[css_color(color) for color in classes.colors],
        has_ignored=any(example.score.pixels < example.total_pixels for example in ranked),
        curves=None
        if history is None
        else PageFigure(
            svg_uri(training_curves(history, format="svg")),
            f"Loss, error and mean IoU of training and validation over {len(history)} epochs",
        ),
        figures=_class_figures(scores),
        maps=maps,
        groups=[
            ("Worst images", "The lowest mean IoU over the classes in the image.", ranked[:half]),
            ("Best images", "The highest mean IoU over the classes in the image.", ranked[half:][::-1]),
        ],
        settings=settings or {},
        facts=facts or {},
        notes=notes,
        wrong=css_color(WRONG),
        ignored=css_color(IGNORED),
    )
    write_text(path, page)


def _class_figures(scores: Scores) -> list[PageFigure]:
    metrics = scores.metrics
    bars = PageFigure(
        image=svg_uri(iou_bars(metrics, format="svg")),
        alt=f"Bars of the IoU of {len(metrics.classes)} classes; the table below has the numbers",
        note="True positives / (true positives + false positives + false negatives). The line is the mean.",
    )
    heatmap = PageFigure(
        image=svg_uri(confusion_heatmap(scores.confusion, [entry.name for entry in metrics.classes], format="svg")),
        alt="Heat map of predicted class by true class; the diagonal is each class's recall",
        note="Each row: predicted classes of the pixels of one true class, in %; shares below 0.5 % have no number.",
    )
    return [bars, heatmap]


def write_score_tables(folder: Path, scores: Scores) -> None:
    """Write all three files into `folder`.

    confusion.csv: pixel counts; class names in the first row (prediction) and in the first column (truth).
    per_image.csv: one row an image, in the order of the records; NaN is an empty cell.
    """
    names = [entry.name for entry in scores.metrics.classes]
    rows = [[name, *counts] for name, counts in zip(names, scores.confusion.tolist(), strict=True)]
    images = [[image.record_id, image.miou, image.pixel_accuracy, image.pixels] for image in scores.per_image]
    sets = {"sets": scores.by_set} if scores.by_set else {}
    write_json(folder / "metrics.json", {**scores.metrics.to_dict(), **sets})
    write_text(folder / "confusion.csv", csv_text([["truth \\ prediction", *names], *rows]))
    write_text(folder / "per_image.csv", csv_text([["image", "miou", "pixel_accuracy", "pixels"], *images]))


def format_scores(scores: Scores) -> str:
    """The scores as text: one line a class, then the means, and those of each of joined datasets."""
    metrics = scores.metrics
    width = max(len("class"), *(len(entry.name) for entry in metrics.classes))
    head = f"{'class':<{width}}     IoU    Dice  precision  recall"
    rows = [
        f"{entry.name:<{width}}  {_cell(entry.iou)}  {_cell(entry.dice)}  {_cell(entry.precision):>9}  "
        f"{_cell(entry.recall)}"
        for entry in metrics.classes
    ]
    return "\n".join(
        [
            head,
            *rows,
            f"mIoU {metrics.miou:.4f}, pixel accuracy {metrics.pixel_accuracy:.4f}, mean class accuracy "
            f"{metrics.mean_class_accuracy:.4f}, mean Dice {metrics.mean_dice:.4f}, {metrics.images} images",
            *(
                f"{name}: mIoU of its classes {of_set['miou']:.4f}, pixel accuracy {of_set['pixel_accuracy']:.4f}, "
                f"{of_set['images']} images"
                for name, of_set in scores.by_set.items()
            ),
        ]
    )


def _cell(value: float) -> str:
    return f"{value:6.4f}" if value == value else "     -"
