"""pyramidseg evaluate: scores of a model on a labelled split."""

import argparse

from pyramidseg.cli.shared_flags import add_running_arguments, tile_side

HELP = "score a model on a labelled dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or its export")
    parser.add_argument("dataset", metavar="DATASET", help="a folder or a YAML file")
    parser.add_argument("settings", nargs="*", default=[], metavar="data.key=value", help="how the data is read")
    parser.add_argument("--split", default="val", help="which split to score (val)")
    parser.add_argument("--out", metavar="DIR", help="folder for metrics.json, confusion.csv and report.html")
    add_running_arguments(parser)
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table, and write it where asked."""
    from pathlib import Path

    from pyramidseg.evaluation.scoring import evaluate
    from pyramidseg.evaluation.tables import table
    from pyramidseg.formats.dataset_yaml import reading_config

    data = reading_config(arguments.settings)
    scores = evaluate(
        arguments.model,
        arguments.dataset,
        split=arguments.split,
        data=data,
        out=Path(arguments.out) if arguments.out else None,
        backend=arguments.backend,
        device=arguments.device,
        precision=arguments.precision,
        batch_size=arguments.batch_size,
        tta=arguments.tta,
        tile_px=tile_side(arguments.tile),
        overlap_px=arguments.overlap,
    )
    print(table(scores.metrics))
    if arguments.out:
        print(f"report: {Path(arguments.out) / 'report.html'}")
    return 0
