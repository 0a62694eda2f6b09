"""pyramidseg compare: encoders against each other under one budget."""

import argparse

from pyramidseg.cli.train import FLAGS

HELP = "train several encoders under one budget, and say which differences are real"

SHARED = {flag: entry for flag, entry in FLAGS.items() if flag not in ("encoder", "encoder-depth", "epochs", "seed")}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `compare`."""
    parser.add_argument("dataset", metavar="DATASET", help="a folder whose layout is recognised, or a YAML file")
    parser.add_argument("settings", nargs="*", default=[], metavar="section.key=value", help="setting of all runs")
    parser.add_argument("--encoders", required=True, metavar="NAME,NAME,...", help="such as resnet18,resnet34,resnet50")
    parser.add_argument(
        "--out", required=True, metavar="DIR", help="folder of the comparison; goes on where it stopped"
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="runs of each encoder (default 1)")
    parser.add_argument("--epochs", type=int, metavar="N", help="budget of each run, in epochs")
    parser.add_argument(
        "--minutes", type=float, metavar="M", help="budget of each run: training and validation on this machine"
    )
    for flag, (setting, text) in SHARED.items():
        parser.add_argument(f"--{flag}", dest=setting, metavar=flag.rpartition("-")[2].upper(), help=text)
    parser.set_defaults(collect="settings")


def run(arguments: argparse.Namespace) -> int:
    """Train what is missing, then write the report."""
    from pathlib import Path

    from pyramidseg.base.overrides import load_config
    from pyramidseg.cli.train import given_overrides
    from pyramidseg.studies.compare_encoders import begin_study, carry_out
    from pyramidseg.studies.compare_report import write_report
    from pyramidseg.studies.compare_results import collect

    overrides = given_overrides(arguments, SHARED)
    settings = load_config(None, overrides).model_dump(mode="json")
    given = {name: settings[name.partition(".")[0]][name.partition(".")[2]] for name in overrides}
    out = Path(arguments.out)
    study = begin_study(
        arguments.dataset,
        tuple(name.strip() for name in arguments.encoders.split(",") if name.strip()),
        out=out,
        seeds=arguments.seeds,
        epochs=arguments.epochs,
        minutes=arguments.minutes,
        settings=given,
    )
    runs = carry_out(study, out)
    for sentence in write_report(out, study, collect(runs, study.dataset)):
        print(sentence)
    print(f"report: {out / 'report.html'}")
    return 0
