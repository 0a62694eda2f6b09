"""curve: train on 10, 25, 50 and 100 percent of the labels, and estimate what 100 more would add."""

import argparse

from pyramidseg.base.text import show
from pyramidseg.cli.flags import add_study_arguments, config_of, values_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_study_arguments(parser, "runs of each number of labels, which each seed draws from others")


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.studies.learning_curve import label_curve

    how = values_of(arguments, "out", "seeds", "epochs", "minutes")
    curve = label_curve(arguments.dataset, **how, config=config_of(arguments))
    show("\n".join([*curve.verdict, f"report: {curve.report}"]))
    return 0
