"""pyramidseg benchmark: how fast a model predicts here, and how much faster it could."""

import argparse

HELP = "latency, throughput and memory by backend, beside what this machine's convolutions reach"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Flags of `benchmark`."""
    parser.add_argument("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or its export")
    parser.add_argument("--size", metavar="HxW", help="of the images, in pixels (the bundle's crop, or 512x512)")
    parser.add_argument("--batch-size", type=int, default=8, help="images at once, for the throughput (8)")
    parser.add_argument("--rounds", type=int, default=9, help="in which all take turns (9); medians count")
    parser.add_argument(
        "--backends",
        metavar="NAME,NAME,...",
        help="of torch, torch-compiled, torch-exported, onnxruntime, openvino (those that suit model and machine)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    parser.add_argument("--out", metavar="DIR", help="folder for benchmark.json")


def run(arguments: argparse.Namespace) -> int:
    """Measure and print the table."""
    from pathlib import Path

    from pyramidseg.cli.describe import parsed_size
    from pyramidseg.studies.benchmark_model import RESULTS, benchmark_model

    names = arguments.backends
    result = benchmark_model(
        arguments.model,
        size=None if arguments.size is None else parsed_size(arguments.size),
        batch_size=arguments.batch_size,
        rounds=arguments.rounds,
        backends=None if names is None else [name.strip() for name in names.split(",") if name.strip()],
        device=arguments.device,
        out=arguments.out,
    )
    print(f"\n{result.table()}")
    if arguments.out:
        print(f"file: {Path(arguments.out) / RESULTS}")
    return 0
