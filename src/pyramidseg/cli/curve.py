"""pyramidseg curve: what more labels are worth."""

import argparse

from pyramidseg.base.text import show
from pyramidseg.cli.compare import add_study_arguments
from pyramidseg.cli.flags import SETTING_OPTIONS, add_setting_options, given_settings, values_of

HELP = "train on 10, 25, 50 and 100 percent of the labels, and say what the next hundred are worth"

OPTIONS = {name: option for name, option in SETTING_OPTIONS.items() if name not in ("epochs", "seed")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Options of `curve`."""
    add_study_arguments(parser, "runs of each number of labels, which each seed draws from others")
    add_setting_options(parser, OPTIONS)


def run(arguments: argparse.Namespace) -> int:
    """Train the missing runs, then write the report."""
    from pyramidseg.base.overrides import load_config
    from pyramidseg.studies.learning_curve import label_curve

    how = values_of(arguments, "out", "seeds", "epochs", "minutes")
    config = load_config(arguments.config, given_settings(arguments, OPTIONS))
    curve = label_curve(arguments.dataset, **how, config=config)
    for sentence in (*curve.verdict, f"report: {curve.report}"):
        show(sentence)
    return 0
