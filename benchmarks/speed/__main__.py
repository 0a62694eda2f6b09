"""Speed against segmentation_models.pytorch and against the machine's own limit, in one command.

    python -m benchmarks.speed --out DIR                            all, in some 45 minutes on two cores
    python -m benchmarks.speed --out DIR --only training,labels     a part; the rest of DIR is kept
    python -m benchmarks.speed --out DIR --camvid DATASET           with epochs of CamVid, 7 minutes more
    python -m benchmarks.speed --out DIR --table benchmarks/speed/README.md

From the root of the checkout, on a machine that does nothing else. The convolution roofline is measured first, each
time. DIR/results.json is written after each section, and says nothing of where it was measured but the processor, the
GPU and the versions. On a GPU (`--device cuda`, which `auto` takes) the same is measured there.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import torch
from benchmarks.speed.epoch import measure_epoch
from benchmarks.speed.folder import measure_folder
from benchmarks.speed.goals import goals
from benchmarks.speed.labels import measure_labels
from benchmarks.speed.memory import measure_memory
from benchmarks.speed.models import Workshop
from benchmarks.speed.prediction import measure_prediction
from benchmarks.speed.results import OtherMachine, Results, read_results
from benchmarks.speed.rows import Row
from benchmarks.speed.settings import Bench, Settings
from benchmarks.speed.startup import measure_startup
from benchmarks.speed.table import page
from benchmarks.speed.training import measure_training

from pyramidseg.base.device import choose_device
from pyramidseg.base.files import write_text
from pyramidseg.predict.pipeline import use_available_processors
from pyramidseg.studies.hardware import describe_machine
from pyramidseg.studies.roofline import measure_roofline

SECTIONS: dict[str, Callable[[Bench], list[Row]]] = {
    "prediction": measure_prediction,
    "memory": measure_memory,
    "training": measure_training,
    "epoch": measure_epoch,
    "folder": measure_folder,
    "labels": measure_labels,
    "startup": measure_startup,
}
"""In the order in which they are measured; `epoch` only with a dataset, or where --only names it."""

PEER = "segmentation-models-pytorch"


def main(arguments: list[str] | None = None) -> None:
    """Measure, print, and write results.json and the page."""
    parser = _parser()
    options = parser.parse_args(arguments)
    chosen = _chosen(parser, options)
    if len(chosen) > 1:
        _each_by_itself(chosen, sys.argv[1:] if arguments is None else arguments)
        return
    os.environ["PYRAMIDSEG_CACHE"] = "off"  # nothing of the benchmark's data is worth remembering
    use_available_processors()
    device = choose_device(options.device)
    try:
        results = read_results(options.out, describe_machine(device, PEER))
    except OtherMachine as error:
        parser.error(str(error))
    settings = Settings(
        encoders=tuple(options.encoders.split(",")),
        side_px=options.size,
        batch=options.batch_size,
        rounds=options.rounds,
        crop_px=options.crop,
        images=options.images,
        camvid=options.camvid,
        precisions=tuple(options.precisions.split(",")) if options.precisions else (),
    )
    with tempfile.TemporaryDirectory(prefix="pyramidseg-speed-") as folder:
        measure(results, chosen, settings, device, Path(folder), options.out)
    if options.table:
        write_text(options.table, page(results))


def _each_by_itself(chosen: list[str], arguments: list[str]) -> None:
    """Every section in a process of its own: none is measured among the threads and memory that another has left."""
    for name in chosen:
        done = subprocess.run([sys.executable, "-m", "benchmarks.speed", *arguments, "--only", name], check=False)
        if done.returncode:
            raise SystemExit(f"the section {name} ended with status {done.returncode}; the others before it are kept")


def measure(
    results: Results, chosen: list[str], settings: Settings, device: torch.device, work: Path, out: Path
) -> None:
    """The roofline, then section after section; what is found is kept after each.

    Args:
        work: for models and their exports.
    """
    print(results.machine, flush=True)
    roofline = measure_roofline(device, rounds=settings.rounds)
    print(roofline, flush=True)
    workshop = Workshop(work, classes=settings.classes, side_px=settings.side_px, on_cpu=device.type == "cpu", say=_say)
    bench = Bench(settings, device, roofline, workshop, _say)
    for name in chosen:
        began = time.monotonic()
        rows = SECTIONS[name](bench)
        results.add(name, rows, settings, roofline, time.monotonic() - began)
        results.write(out)
        for row in rows:
            print(_line(row), flush=True)
    for goal in goals(results.rows()):
        if goal.reached is not None:
            limit = "at most" if goal.at_most else "at least"
            print(
                f"{'met   ' if goal.is_met else 'MISSED'} {goal.what}: {goal.reached:.3g}, asked {limit} {goal.asked:g}"
            )


def _line(row: Row) -> str:
    figures = [
        f"{row.ms:.1f} ms" if row.ms is not None else "",
        f"{100 * row.share_of_floor:.0f} % of the floor" if row.share_of_floor is not None else "",
        f"{row.peak_mb:.0f} MiB" if row.peak_mb is not None else "",
        *(f"{ratio:.2f} x {peer}" for peer, ratio in list(row.times_as_fast.items())[:1]),
        row.note,
    ]
    return f"  {row.group} | {row.who}: {', '.join(figure for figure in figures if figure)}"


def _say(text: str) -> None:
    print(text, flush=True)


def _chosen(parser: argparse.ArgumentParser, options: argparse.Namespace) -> list[str]:
    named = options.only.split(",") if options.only else [name for name in SECTIONS if name != "epoch"]
    for name in named:
        if name not in SECTIONS:
            parser.error(f"--only {name}: no such section; there are {', '.join(SECTIONS)}")
    wanted = {*named, *(["epoch"] if options.camvid and not options.only else [])}
    return [name for name in SECTIONS if name in wanted]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    defaults = Settings()
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder for results.json")
    parser.add_argument("--only", metavar="NAME,...", help=f"of {', '.join(SECTIONS)}")
    parser.add_argument("--table", type=Path, metavar="FILE", help="write the page of all results there")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda")
    parser.add_argument("--encoders", default=",".join(defaults.encoders), help="of timm, for prediction")
    parser.add_argument("--size", type=int, default=defaults.side_px, help="side of the predicted images, in pixels")
    parser.add_argument("--crop", type=int, default=defaults.crop_px, help="side of the training crops, in pixels")
    parser.add_argument("--batch-size", type=int, default=defaults.batch, help="for throughput and training")
    parser.add_argument("--rounds", type=int, default=defaults.rounds, help="in which contestants take turns")
    parser.add_argument("--images", type=int, default=defaults.images, help="in the folder that is predicted")
    parser.add_argument("--precisions", default="", help="in prediction: of fp32, bf16, int8; all by default")
    parser.add_argument(
        "--camvid",
        metavar="DATASET",
        help="CamVid in the SegNet layout, for the section epoch, which else takes synthetic scenes",
    )
    return parser


if __name__ == "__main__":
    main()
