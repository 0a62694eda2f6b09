"""evaluate: score a model on a labelled dataset."""

import argparse
from pathlib import Path

from pyramidseg.base.text import show
from pyramidseg.cli.flags import add_prediction_options, add_reading_settings, values_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or an exported file")
    add("dataset", metavar="DATASET", help="a folder in a known layout or a YAML file, or several")
    add_reading_settings(parser)
    add("--split", default="val", help="split to score")
    files = "report.html, metrics.json, confusion.csv and per_image.csv"
    add("--out", metavar="DIR", help=f"folder for {files} (default: not written)")
    add_prediction_options(parser)


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table, and write the files if --out is given."""
    from pyramidseg.evaluation.evaluation_report import format_scores
    from pyramidseg.evaluation.scoring import evaluate
    from pyramidseg.formats.dataset_statements import reading_config

    scores = evaluate(
        arguments.model,
        arguments.dataset,
        data=reading_config(arguments.settings),
        out=Path(arguments.out) if arguments.out else None,
        **values_of(arguments, "split", "backend", "device", "precision", "as_written", "batch_size", "tta"),
        **values_of(arguments, "tile_px", "overlap_px"),
    )
    show(format_scores(scores))
    if arguments.out:
        show(f"report: {Path(arguments.out) / 'report.html'}")
    return 0
