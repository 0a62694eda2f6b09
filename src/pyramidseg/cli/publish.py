"""publish: publish a bundle with a model card on the Hugging Face hub."""

import argparse
import sys

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors")
    add("url", metavar="hf://OWNER/NAME", help="repository, which is created if it does not exist")
    add("--license", metavar="ID", help="identifier of the hub, such as apache-2.0 or other (no default)")
    add("--private", action="store_true", help="make a new repository private")
    add("--overwrite", action="store_true", help="replace a README.md that pyramidseg has not written")


def run(arguments: argparse.Namespace) -> int:
    """Publish, and print the URL of this version."""
    if not arguments.license:
        raise ConfigError(
            "--license: give the licence under which others may use the model, such as --license apache-2.0, "
            "cc-by-4.0, cc-by-nc-4.0 or other; the licence of its training images may limit the choice"
        )
    from huggingface_hub.utils.tqdm import disable_progress_bars

    from pyramidseg.export.publish_model import publish_model

    if arguments.quiet or sys.stderr is None or not sys.stderr.isatty():
        disable_progress_bars()
    options = {"license": arguments.license, "private": arguments.private, "overwrite": arguments.overwrite}
    show(f"published: {arguments.url}@{publish_model(arguments.model, arguments.url, **options)}")
    return 0
