"""How fast datasets are converted, in image-mask pairs a second at 480x360, for each format; or in what memory.

    python benchmarks/conversion.py [--pairs 200] [--rounds 5] [--formats coco yolo ...]
    python benchmarks/conversion.py --memory 20000 [--formats coco masks]

The dataset is synthetic scenes with index masks, and images are left where they are. Each format is written, and its
conversion is read and written as masks again. The floor, in turn with them: the same masks decoded by Pillow, encoded
as PNG, and written. As in the command, the allocator keeps freed memory. What is written is deleted at the end: ext4
looks at each lately deleted inode before it gives a new file one, which can take as long as all other work.

Asked on two cores: 500 pairs a second for masks and run lengths, 150 for outlines. Next to the rate is the processor
time, which other programs disturb less; the rate of n cores is about n times its reciprocal.

Memory: that many pairs of 24x32 pixels are written, and converted by a process for each format; printed are its peak
and that of the processes that it forks, with all of them and with a tenth, and how they grow with the pairs.
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
    """Print the peak memory of a process that converts all pairs, and how it grows from a tenth of them."""
    counts = {"tenth": pairs // 10, "all": pairs}
    for name, count in counts.items():
        write_small_pairs(folder / name / "train", count)
    context = multiprocessing.get_context("spawn")
    print("peak in MB of the main process, and of the largest of its others; bytes that each further pair takes")
    for to in formats:
        peaks = []
        for name in counts:
            with ProcessPoolExecutor(1, mp_context=context) as pool:
                peaks.append(pool.submit(peak_of, folder / name, to, folder / "out").result())
        growth = [(more - less) / (pairs - pairs // 10) for less, more in zip(*peaks, strict=True)]
        for count, (own, forked) in zip(counts.values(), peaks, strict=True):
            print(f"{to:22} {count:>8} {own / 1e6:6.1f} {forked / 1e6:6.1f}")
        print(f"{to:22} {'a pair':>8} {growth[0]:6.0f} {growth[1]:6.0f}", flush=True)


def write_small_pairs(folder: Path, count: int) -> None:
    """Pairs of 24x32 pixels, a thousand different ones; the others are hard links to them."""
    for kind in ("images", "masks"):
        (folder / kind).mkdir(parents=True)
        for index in range(count):
            path = folder / kind / f"{index:06d}.png"
            if index >= 1000:
                os.link(folder / kind / f"{index % 1000:06d}.png", path)
                continue
            small = np.random.default_rng(index).integers(0, 4, (6, 8), np.uint8).repeat(4, 0).repeat(4, 1)
            Image.fromarray(small * 60 if kind == "images" else small).save(path, compress_level=1)


def peak_of(source: Path, to: str, out: Path) -> tuple[int, int]:
    """The peak memory in bytes of this process after a conversion, and of the largest that it forked.

    Both count the pages that they share.
    """
    convert_dataset(source, to=to, out=out, images="none")
    shutil.rmtree(out)
    own, forked = (resource.getrusage(who).ru_maxrss * 1024 for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return own, forked


if __name__ == "__main__":
    main()
