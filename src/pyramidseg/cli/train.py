"""pyramidseg train: from a dataset to a run folder."""

import argparse
from collections.abc import Mapping

HELP = "train on a dataset; leaves model, figures and report in RUN"

Flags = Mapping[str, tuple[str, str]]
"""Setting and help by flag."""

FLAGS: Flags = {
    "encoder": ("model.encoder", "family (resnet, efficientnet) or full timm name"),
    "encoder-depth": ("model.encoder_depth", "18, 34, 50, 101, 152 for resnet; 0 to 7 for efficientnet"),
    "encoder-weights": ("model.encoder_weights", "imagenet, none, a timm tag, or a file"),
    "weights": ("model.weights", "weights of the whole network: random, or a bundle"),
    "dropout": ("model.dropout", "spatial dropout rate, from 0 to below 1"),
    "epochs": ("train.epochs", "passes over the training images"),
    "batch-size": ("train.batch_size", "crops in a step on each process"),
    "crop": ("data.crop", "crop in pixels: 320, or 256x512 for height x width"),
    "lr": ("optim.lr", "peak learning rate"),
    "seed": ("train.seed", "everything random follows from it"),
    "device": ("train.device", "auto, cpu, cuda, cuda:N or mps"),
    "workers": ("data.workers", "processes that load images"),
}
"""Every other setting is reachable as section.key=value."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `train`."""
    parser.add_argument("dataset", metavar="DATASET", help="a folder whose layout is recognised, or a YAML file")
    parser.add_argument("settings", nargs="*", default=[], metavar="section.key=value", help="any other setting")
    parser.add_argument("--out", metavar="RUN", help="folder of the run; must not exist; a dry run needs none")
    parser.add_argument("--config", metavar="FILE", help="YAML file of settings, such as another run's config.yaml")
    parser.add_argument("--resume", action="store_true", help="continue the run in RUN")
    parser.add_argument("--overwrite", action="store_true", help="discard the run in RUN")
    parser.add_argument("--reset-head", action="store_true", help="with --weights: start the classifier anew")
    parser.add_argument("--dry-run", action="store_true", help="check everything, say what would be done, and stop")
    for flag, (setting, text) in FLAGS.items():
        parser.add_argument(f"--{flag}", dest=setting, metavar=flag.rpartition("-")[2].upper(), help=text)
    parser.set_defaults(collect="settings")


def given_overrides(arguments: argparse.Namespace, flags: Flags) -> dict[str, str]:
    """Settings that were given as flags or as section.key=value, which go before."""
    from pyramidseg.base.overrides import parse_override

    by_flag = {setting: getattr(arguments, setting) for setting, _ in flags.values()}
    given = {setting: value for setting, value in by_flag.items() if value is not None}
    return given | dict(parse_override(text) for text in arguments.settings)


def run(arguments: argparse.Namespace) -> int:
    """Train, or check and stop."""
    from pathlib import Path

    from pyramidseg.base.errors import ConfigError
    from pyramidseg.base.overrides import load_config
    from pyramidseg.training.loop import fit, plan
    from pyramidseg.training.run_folder import open_run, with_precision

    overrides = given_overrides(arguments, FLAGS)
    if arguments.reset_head:
        overrides["train.reset_head"] = "true"
    config = load_config(arguments.config, overrides)
    out = None if arguments.out is None else Path(arguments.out)
    if out is None and (not arguments.dry_run or arguments.resume or arguments.overwrite):
        raise ConfigError("--out RUN is missing, the folder of the run; name it (--dry-run by itself needs none)")
    if out is None or arguments.dry_run:
        config = (
            with_precision(config)
            if out is None
            else open_run(out, config, resume=arguments.resume, overwrite=arguments.overwrite)[1]
        )
        plan(config, arguments.dataset)
        where = "" if out is None else f"; the run would be written to {out}"
        print(f"dry run: all is well, nothing was trained{where}")
        return 0
    fit(
        config,
        arguments.dataset,
        out=out,
        resume=arguments.resume,
        overwrite=arguments.overwrite,
    )
    return 0
