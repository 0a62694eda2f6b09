"""Scores as files (metrics.json, confusion.csv, per_image.csv) and as text."""

from pathlib import Path

from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.text import csv_text
from pyramidseg.evaluation.metrics import Metrics, Scores

SCORE_FILES = ("metrics.json", "confusion.csv", "per_image.csv")


def write_score_tables(folder: Path, scores: Scores) -> None:
    """Write all three files into `folder`.

    confusion.csv: pixel counts; class names in the first row (prediction) and in the first column (truth).
    per_image.csv: one row an image, in the order of the records; NaN is an empty cell.
    """
    names = [entry.name for entry in scores.metrics.classes]
    rows = [[name, *counts] for name, counts in zip(names, scores.confusion.tolist(), strict=True)]
    images = [[image.record_id, image.miou, image.pixel_accuracy, image.pixels] for image in scores.per_image]
    write_json(folder / "metrics.json", scores.metrics.to_dict())
    write_text(folder / "confusion.csv", csv_text([["truth \\ prediction", *names], *rows]))
    write_text(folder / "per_image.csv", csv_text([["image", "miou", "pixel_accuracy", "pixels"], *images]))


def format_scores(metrics: Metrics) -> str:
    """The scores as text: one line a class, then the means."""
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
        ]
    )


def _cell(value: float) -> str:
    return f"{value:6.4f}" if value == value else "     -"
