"""benchmark: measure latency, throughput and memory of a model by backend."""

import argparse
from pathlib import Path

from pyramidseg.base.text import show
from pyramidseg.cli.flags import add_as_written, comma_list, image_size, values_of

BACKENDS = ("torch", "torch-compiled", "torch-exported", "onnxruntime", "openvino")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("model", metavar="MODEL", help="a bundle such as RUN/best.safetensors, or an exported file")
    add("--size", type=image_size, metavar="HxW", help="image size in pixels (default: the bundle's crop, or 512x512)")
    add("--batch-size", type=int, default=8, metavar="N", help="images in a batch, for the throughput")
    add("--rounds", type=int, default=9, metavar="N", help="rounds of measurements; medians are reported")
    text = f"{', '.join(BACKENDS)} (default: all that can run the model here)"
    add("--backends", type=comma_list(known=BACKENDS), metavar="NAME,NAME,...", help=text)
    add("--device", default="auto", help="auto, cpu, cuda, cuda:N or mps")
    add_as_written(parser)
    add("--out", metavar="DIR", help="folder for benchmark.json (default: not written)")


def run(arguments: argparse.Namespace) -> int:
    from pyramidseg.studies.benchmark_model import RESULTS, benchmark_model

    how = values_of(arguments, "size", "batch_size", "rounds", "backends", "device", "as_written", "out")
    result = benchmark_model(arguments.model, **how)
    show(f"\n{result.table()}")
    if arguments.out:
        show(f"file: {Path(arguments.out) / RESULTS}")
    return 0
