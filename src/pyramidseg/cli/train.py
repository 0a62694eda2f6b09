"""train: train on a dataset: write model, figures and report to RUN."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import SETTING_OPTIONS, add_run_options, add_setting_options, config_of

if TYPE_CHECKING:
    from pyramidseg.base.config import Config


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a folder in a known layout or a YAML file, or several")
    add("--out", metavar="RUN", help="folder of the run; must not exist (no default; only --dry-run works without)")
    add_run_options(parser)
    text = "with --weights: start the classifier from random weights"
    add("--reset-head", dest="train.reset_head", action="store_const", const=True, help=text)
    text = "cross-validation: K runs, each scored on another part, and one on all (default: one run)"
    add("--folds", type=int, metavar="K", help=text)
    add("--auto", action="store_true", help="choose settings that are not given by dataset and machine")
    add("--minutes", type=float, metavar="M", help="with --auto: time of the whole run (default: no limit)")
    add("--dry-run", action="store_true", help="check configuration and dataset, report what would be done, and stop")
    unlabeled = ("data.unlabeled", "folder of images without masks to learn from too", "none")
    add_setting_options(parser, {**SETTING_OPTIONS, "unlabeled": unlabeled})


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.base.output_lock import locked
    from pyramidseg.training.auto_plan import plan_minutes
    from pyramidseg.training.run_folder import open_run, with_precision
    from pyramidseg.training.segmentation_training import plan_segmentation, run_inputs, train_segmentation

    config = config_of(arguments)
    out = None if arguments.out is None else Path(arguments.out)
    if out is None and (not arguments.dry_run or arguments.resume or arguments.overwrite):
        raise ConfigError("--out RUN is required (except with --dry-run alone): name the folder of the run")
    minutes = plan_minutes(arguments.minutes, auto=arguments.auto)
    how = {"resume": arguments.resume, "overwrite": arguments.overwrite}
    if arguments.folds is not None:
        if arguments.auto:
            raise ConfigError("--folds: cannot be planned; give it the settings that --auto --dry-run prints")
        return _cross_validate(arguments, config, how)
    inputs = () if arguments.config is None else (arguments.config,)
    if out is None or arguments.dry_run:
        if out is None:
            config = with_precision(config)
        else:
            with locked(out):
                config = open_run(out, config, **how, inputs=(*inputs, *run_inputs(config, arguments.dataset)))[1]
        plan_segmentation(config, arguments.dataset, dry_run=True, plan_minutes=minutes)
        where = "" if out is None else f"; the run would be written to {out}"
        show(f"dry run: configuration and dataset are valid; nothing was trained{where}")
        return 0
    train_segmentation(config, arguments.dataset, out=out, **how, inputs=inputs, plan_minutes=minutes)
    return 0


def _cross_validate(arguments: argparse.Namespace, config: "Config", how: dict[str, Any]) -> int:
    from pyramidseg.studies.cross_validation import cross_validate

    if arguments.dry_run or arguments.out is None:
        raise ConfigError("--folds: needs --out DIR, and cannot be tried with --dry-run; leave out --folds for that")
    found = cross_validate(arguments.dataset, out=arguments.out, folds=arguments.folds, config=config, **how)
    show(f"mean and standard deviation over {arguments.folds} folds, last epoch:")
    show(found.table())
    show(f"scores: {found.file}")
    show(f"model of all images: {found.final.last}")
    return 0
