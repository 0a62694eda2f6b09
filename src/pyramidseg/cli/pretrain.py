"""pretrain: pretrain an encoder as an image classifier, for --encoder-weights."""

import argparse
from pathlib import Path

from pyramidseg.cli.flags import SETTING_OPTIONS, add_run_options, add_setting_options, config_of

OPTIONS = {
    **{name: option for name, option in SETTING_OPTIONS.items() if name != "weights"},
    "encoder-weights": ("model.encoder_weights", "none, imagenet, a timm tag, or a file", "none"),
    "dropout": ("model.dropout", "dropout rate before the fully connected layer, from 0 to below 1", "0"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "FOLDER with train/CLASS/... and val/CLASS/..., or with CLASS/..."
    parser.add_argument("folder", metavar="IMAGE_FOLDERS", help=text)
    parser.add_argument("--out", required=True, metavar="RUN", help="folder of the run; must not exist")
    add_run_options(parser)
    add_setting_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.pretrain.classification_task import prepare_classification
    from pyramidseg.training.loop import fit

    folder = Path(arguments.folder)
    fit(
        config_of(arguments),
        lambda resolved, initial: prepare_classification(resolved, folder, initial),
        out=Path(arguments.out),
        resume=arguments.resume,
        overwrite=arguments.overwrite,
        inputs=(folder, *(() if arguments.config is None else (arguments.config,))),
    )
    return 0
