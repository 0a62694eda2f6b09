"""How fast datasets are converted, in image-mask pairs a second at 480x360, for each format; or in what memory.

    python benchmarks/conversion.py [--pairs 200] [--rounds 5] [--formats coco yolo ...]
    python benchmarks/conversion.py --memory 20000 [--formats coco masks]

The dataset is made scenes with index masks, and images are left where they are. Each format is written, and its
conversion is read and written as masks again. The floor, in turn with them: the same masks decoded by Pillow, encoded
as PNG, and written. As in the command, the allocator keeps freed memory. What is written is deleted at the end: ext4
looks at each lately deleted inode before it gives a new file one, which can take as long as all other work.

Asked on two cores: 500 pairs a second for masks and run lengths, 150 for outlines. Next to the rate is the processor
time, which other programs disturb less; the rate of n cores is about n times its reciprocal.

Memory: that many pairs of 24x32 pixels are written, and converted by a process for each format; printed are its peak
and that of the processes that it forks, with all of them and with a tenth.
"""

import argparse
import multiprocessing
import os
import resource
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pyramidseg.base.config import DataConfig
from pyramidseg.base.machine import keep_freed_memory
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.formats.paired_writer import png
from pyramidseg.formats.writers import LABEL_WRITERS


def main() -> None:
    """Time, or weigh."""
    formats = [name for name in LABEL_WRITERS if name != "geojson"]  # it needs images with a place on the map
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=200)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--formats", nargs="+", default=formats, choices=formats)
    parser.add_argument("--memory", type=int, default=0, metavar="PAIRS")
    arguments = parser.parse_args()
    keep_freed_memory()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            weigh(Path(folder), arguments.memory, arguments.formats)
        else:
            compare(Path(folder), arguments.pairs, arguments.formats, arguments.rounds)


def compare(folder: Path, pairs: int, formats: list[str], rounds: int) -> None:
    """Print the medians of all, round by round in turn."""
    write_scenes(folder / "in", train=pairs, val=1, height=360, width=480)
    masks = [record.mask for record in open_dataset(folder / "in", DataConfig()).split("train") if record.mask]
    cv2.setNumThreads(0)

    def floor(out: Path) -> None:
        out.mkdir()
        for mask in masks:
            with Image.open(mask) as image:
                (out / mask.name).write_bytes(png(np.asarray(image)))

    contestants: dict[str, Callable[[Path], object]] = {"floor": floor}
    for name in formats:
        convert_dataset(folder / "in", to=name, out=folder / name, images="link")
        contestants[f"write {name}"] = lambda out, name=name: convert_dataset(
            folder / "in", to=name, out=out, images="none"
        )
        contestants[f"read {name}"] = lambda out, name=name: convert_dataset(
            folder / name, to="masks", out=out, images="none"
        )
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in contestants}
    for number in range(rounds):
        (folder / str(number)).mkdir()
        for name, work in contestants.items():
            wall, processor = time.perf_counter(), sum(os.times()[:4])  # its own, and of processes that have ended
            work(folder / str(number) / name)
            seconds[name].append((time.perf_counter() - wall, sum(os.times()[:4]) - processor))
    base = statistics.median(processor for _, processor in seconds["floor"])
    print(f"{os.cpu_count()} processors; a row: pairs a second, processor ms a pair, and times the floor's")
    for name, measured in seconds.items():
        wall, processor = (statistics.median(column) for column in zip(*measured, strict=True))
        print(f"{name:20} {pairs / wall:7.0f} {1000 * processor / pairs:7.2f} {processor / base:6.2f}")


def weigh(folder: Path, pairs: int, formats: list[str]) -> None:
    """Print the peak memory of a process that converts all pairs, and of one that converts a tenth."""
    for name, count in (("tenth", pairs // 10), ("all", pairs)):
        for kind in ("images", "masks"):
            (folder / name / "train" / kind).mkdir(parents=True)
        for index in range(count):
            small = np.random.default_rng(index).integers(0, 4, (6, 8), np.uint8).repeat(4, 0).repeat(4, 1)
            for kind, pixels in (("images", small * 60), ("masks", small)):
                Image.fromarray(pixels).save(folder / name / "train" / kind / f"{index:06d}.png", compress_level=1)
    context = multiprocessing.get_context("spawn")
    for to in formats:
        peaks = []
        for name in ("tenth", "all"):
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                own, forked = pool.submit(peak_of, folder / name, to, folder / "out").result()
            peaks.append(f"{own:4.0f} MB and {forked:4.0f} MB in each of its processes")
        print(f"{to:15} {pairs // 10} pairs: {peaks[0]}; {pairs}: {peaks[1]}", flush=True)


def peak_of(source: Path, to: str, out: Path) -> tuple[float, float]:
    """The peak memory in MB of this process after a conversion, and of the largest that it forked.

    Both count the pages that they share.
    """
    convert_dataset(source, to=to, out=out, images="none", data=DataConfig(val_share=0.1))
    shutil.rmtree(out)
    own, forked = (resource.getrusage(who).ru_maxrss / 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own, forked


if __name__ == "__main__":
    main()
