"""pyramidseg evaluate: scores of a model on a labelled split."""

import argparse

HELP = "score a model on a labelled dataset"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `evaluate`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle, such as RUN/best.safetensors")
    parser.add_argument("dataset", metavar="DATASET", help="a folder or a YAML file")
    parser.add_argument("--split", default="val", help="which split to score (val)")
    parser.add_argument("--out", metavar="DIR", help="folder for metrics.json, confusion.csv and report.html")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--batch-size", type=int, default=4, help="images at once (4)")
    parser.add_argument("--tta", action="store_true", help="average over flips and scales")


def run(arguments: argparse.Namespace) -> int:
    """Score, print the table, and write it where asked."""
    from pathlib import Path

    from pyramidseg.config import DataConfig
    from pyramidseg.console import Console
    from pyramidseg.data.readers import open_dataset
    from pyramidseg.evaluate.scoring import evaluate
    from pyramidseg.evaluate.tables import table

    console = Console()
    dataset = open_dataset(arguments.dataset, DataConfig())
    console.say(f"{dataset.source}: {dataset.layout}")
    records = dataset.split(arguments.split)
    with console.bar(total=len(records), title=f"scoring {arguments.split}") as bar:
        scores = evaluate(
            arguments.model,
            dataset,
            split=arguments.split,
            out=Path(arguments.out) if arguments.out else None,
            device=arguments.device,
            batch_size=arguments.batch_size,
            tta=arguments.tta,
            track=bar.advance,
        )
    console.say(table(scores.metrics))
    if arguments.out:
        console.say(f"report: {Path(arguments.out) / 'report.html'}")
    return 0
