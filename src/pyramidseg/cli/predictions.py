"""predictions: list what predict wrote into DIR, also by several processes: predictions.json, Parquet."""

import argparse

from pyramidseg.base.text import show
from pyramidseg.cli.flags import FINDINGS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("action", choices=("merge",), help="merge: write DIR/predictions.json of all images in DIR")
    add("out", metavar="DIR", help="the --out of predict, a folder or URL")
    add("--parquet", action="store_true", help="also write DIR/predictions.parquet")
    text = "where DIR has images of several models, those of this one (default: the only one)"
    add("--model", default="", metavar="DIGEST", help=text)


def run(arguments: argparse.Namespace) -> int:
    """Write the list; status 3 if it has images that could not be predicted."""
    from pyramidseg.predict.summary_file import SUMMARY_FILE, merge_predictions

    summary = merge_predictions(arguments.out, model=arguments.model, parquet=arguments.parquet)
    done = summary.images - len(summary.failed)
    show(f"{done} of {summary.images} images predicted: {arguments.out}/{SUMMARY_FILE}")
    return FINDINGS if summary.failed else 0
