"""convert: write a dataset in another format."""

import argparse

from pyramidseg.base.text import show
from pyramidseg.cli.flags import LABEL_FORMATS, add_label_config, add_reading_settings, add_simplification, values_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a folder in a known layout or a YAML file, or several")
    add_reading_settings(parser)
    add("--to", required=True, metavar="FORMAT", help=", ".join(LABEL_FORMATS))
    add("--out", required=True, metavar="DIR", help="a new folder, or that of an unfinished conversion")
    text = "copy the image files, link them, or leave them out (default: copy)"
    add("--images", choices=("copy", "link", "none"), default="copy", help=text)
    add_simplification(parser)
    add_label_config(parser)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and print what was written and what the format cannot hold."""
    from pyramidseg.formats.convert_dataset import convert_dataset
    from pyramidseg.formats.dataset_statements import reading_config

    conversion = convert_dataset(
        arguments.dataset,
        **values_of(arguments, "to", "out", "images", "label_config", "simplify_px"),
        data=reading_config(arguments.settings),
    )
    for split, count in conversion.images.items():
        show(f"{split}: {count} images")
    for reason, pixels in conversion.lost.items():
        show(f"lost: {reason}: {pixels} pixels")
    show(f"{arguments.to}: {conversion.out}")
    return 0
