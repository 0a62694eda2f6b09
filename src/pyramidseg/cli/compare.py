"""compare: train several encoders with the same budget, and report which differences are significant."""

import argparse

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import show
from pyramidseg.cli.flags import add_study_arguments, comma_list, config_of, values_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    text = "resnet18,resnet34,resnet50"
    parser.add_argument("--encoders", type=comma_list(), required=True, metavar="NAME,NAME,...", help=text)
    add_study_arguments(parser, "runs of each encoder", own=("encoder", "encoder-depth"))


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.studies.compare_encoders import compare_encoders

    if further := [word for word in arguments.settings if "=" not in word]:
        listed = ",".join([*arguments.encoders, *further])
        raise ConfigError(f"{further[0]!r} is not a setting; encoders are separated by commas: --encoders {listed}")
    how = values_of(arguments, "out", "seeds", "epochs", "minutes")
    comparison = compare_encoders(arguments.dataset, arguments.encoders, **how, config=config_of(arguments))
    show("\n".join([*comparison.verdict, f"report: {comparison.report}"]))
    return 0
