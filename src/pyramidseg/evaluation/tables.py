"""Scores as files for other programs: metrics.json, confusion.csv, per_image.csv."""

from pathlib import Path

from pyramidseg.base.files import write_json, write_text
from pyramidseg.base.text import csv_text
from pyramidseg.evaluation.metrics import Metrics, Scores

TABLES = ("metrics.json", "confusion.csv", "per_image.csv")


def write_tables(folder: Path, scores: Scores) -> None:
    """Write all three into `folder`.

    confusion.csv: class names in the first row (prediction) and the first column (truth), pixel counts inside.
    per_image.csv: a row an image, in the order of the records; a figure that is NaN is left empty.
    """
    names = [entry.name for entry in scores.metrics.classes]
    rows = [[name, *counts] for name, counts in zip(names, scores.confusion.tolist(), strict=True)]
    images = [[image.record_id, image.miou, image.pixel_accuracy, image.pixels] for image in scores.per_image]
    write_json(folder / "metrics.json", scores.metrics.to_dict())
    write_text(folder / "confusion.csv", csv_text([["truth \\ prediction", *names], *rows]))
    write_text(folder / "per_image.csv", csv_text([["image", "miou", "pixel_accuracy", "pixels"], *images]))


def table(metrics: Metrics) -> str:
    """The scores for a terminal: a row a class, then the means."""
    width = max(len("class"), *(len(entry.name) for entry in metrics.classes))
    head = f"{'class':<{width}}     IoU    Dice  precision  recall"
    rows = [
        f"{entry.name:<{width}}  {_percent(entry.iou)}  {_percent(entry.dice)}  {_percent(entry.precision):>9}  "
        f"{_percent(entry.recall)}"
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


def _percent(figure: float) -> str:
    return f"{figure:6.4f}" if figure == figure else "     -"
