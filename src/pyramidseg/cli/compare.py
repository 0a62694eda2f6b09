"""pyramidseg compare: train several encoders with the same budget and compare them."""

import argparse

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import (
    SETTING_OPTIONS,
    add_config_option,
    add_setting_options,
    comma_list,
    given_settings,
    values_of,
)

HELP = "train several encoders with the same budget, and report which differences are significant"

OPTIONS = {
    name: option
    for name, option in SETTING_OPTIONS.items()
    if name not in ("encoder", "encoder-depth", "epochs", "seed")
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `compare`."""
    parser.add_argument(
        "--encoders", type=comma_list(), required=True, metavar="NAME,NAME,...", help="resnet18,resnet34,resnet50"
    )
    add_study_arguments(parser, "runs of each encoder")
    add_setting_options(parser, OPTIONS)


def add_study_arguments(parser: argparse.ArgumentParser, seeds: str) -> None:
    """Dataset, folder, and number and budget of the runs of a study."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="a folder in a known layout, or a YAML file")
    add("--out", required=True, metavar="DIR", help="folder of the study; an interrupted one is continued")
    add_config_option(parser)
    add("--seeds", type=int, default=1, metavar="N", help=seeds)
    budget = "budget of each run in"
    add("--epochs", type=int, metavar="N", help=f"{budget} epochs (no default: give this or --minutes)")
    add("--minutes", type=float, metavar="M", help=f"{budget} minutes of training on this machine (no default)")


def run(arguments: argparse.Namespace) -> int:
    """Train the missing runs, then write the report."""
    from pyramidseg.base.overrides import load_config
    from pyramidseg.studies.comparison import compare_encoders

    if further := [word for word in arguments.settings if "=" not in word]:
        listed = ",".join([*arguments.encoders, *further])
        raise ConfigError(f"{further[0]!r} is not a setting; encoders are separated by commas: --encoders {listed}")
    how = values_of(arguments, "out", "seeds", "epochs", "minutes")
    config = load_config(arguments.config, given_settings(arguments, OPTIONS))
    comparison = compare_encoders(arguments.dataset, arguments.encoders, **how, config=config)
    for sentence in comparison.verdict:
        show(sentence)
    show(f"report: {comparison.report}")
    return 0
