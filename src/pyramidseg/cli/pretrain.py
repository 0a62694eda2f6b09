"""pyramidseg pretrain: an encoder with its fully connected layer, from folders of images by class."""

import argparse

from pyramidseg.cli.train import FLAGS

HELP = "pretrain an encoder as a classifier, for --encoder-weights"

SHARED = {
    **{flag: entry for flag, entry in FLAGS.items() if flag != "weights"},
    "encoder-weights": ("model.encoder_weights", "none (the default), imagenet, a timm tag, or a file"),
    "dropout": ("model.dropout", "before the fully connected layer, from 0 (the default) to below 1"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `pretrain`."""
    parser.add_argument("folder", metavar="IMAGE_FOLDERS", help="FOLDER/train/CLASS/... and val, or FOLDER/CLASS/...")
    parser.add_argument("settings", nargs="*", default=[], metavar="section.key=value", help="any other setting")
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run; must not exist")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, such as another run's config.yaml")
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN")
    parser.add_argument("--overwrite", action="store_true", help="discard the run in RUN")
    for flag, (setting, text) in SHARED.items():
        parser.add_argument(f"--{flag}", dest=setting, metavar=flag.rpartition("-")[2].upper(), help=text)
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    """Train a classifier."""
    from pathlib import Path

    from pyramidseg.base.overrides import load_config
    from pyramidseg.cli.train import given_overrides
    from pyramidseg.pretrain.classification_task import plan_pretraining
    from pyramidseg.training.loop import run_task

    config = load_config(arguments.config, given_overrides(arguments, SHARED))
    folder = Path(arguments.folder)
    run_task(
        config,
        lambda resolved, origin: plan_pretraining(resolved, folder, origin),
        out=Path(arguments.out),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    return 0
