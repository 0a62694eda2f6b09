"""The check before training and the whole inspection, in image-mask pairs a second at 480x360; or their memory.

    python benchmarks/inspection.py [--pairs 300] [--format jpg]
    python benchmarks/inspection.py --memory 100000

The floors, measured in the same run and alternating: decoding the same files, by Pillow in one thread, and by OpenCV in
as many threads as the inspection has. Asked: at least 300 pairs a second on two cores.

Memory: that many pairs of 24x32 pixels are written (some minutes), and inspected; printed is by how much the process
has grown, over all and above what it holds after the listing alone.
"""

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from pyramidseg.base.config import DataConfig
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.timing import alternate
from pyramidseg.demo.scenes import write_scenes
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset


def main() -> None:
    """Time, or weigh."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    parser.add_argument("--format", choices=("jpg", "png"), default="jpg", help="of the images")
    parser.add_argument("--memory", type=int, default=0, metavar="PAIRS")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        if arguments.memory:
            weigh(Path(folder), arguments.memory)
        else:
            compare(Path(folder), arguments.pairs, arguments.format, arguments.rounds)


def compare(folder: Path, pairs: int, format: str, rounds: int) -> None:
    """Print the medians of all, round by round in turn."""
    write_scenes(folder, train=pairs, val=1, height=360, width=480)
    if format == "jpg":
        for image in (folder / "train" / "images").iterdir():
            Image.open(image).save(image.with_suffix(".jpg"), quality=92)
            image.unlink()
    dataset = open_dataset(folder, DataConfig())
    records = dataset.split("train")
    files = [path for record in records for path in (record.image, record.mask) if path is not None]
    masks = [record.mask for record in records if record.mask is not None]
    cv2.setNumThreads(0)
    work: dict[str, Callable[[], object]] = {
        "check before training": lambda: check_dataset(dataset, splits=("train",)),
        "  floor: masks, Pillow, 1 thread": lambda: [decoded(mask) for mask in masks],
        "inspection": lambda: inspect_dataset(folder),
        "  floor: all files, Pillow, 1 thread": lambda: [decoded(file) for file in files],
        "  floor: all files, OpenCV, threads": lambda: list(map_in_threads(with_opencv, files)),
    }
    timings = alternate(work, rounds=rounds, warmup=0)
    print(f"{pairs} pairs of 480x360, images as {format}, {os.cpu_count()} processors, median of {rounds}")
    for name, timing in timings.items():
        print(f"{name:<36} {pairs / timing.median:7.0f} pairs/s")


def weigh(folder: Path, pairs: int) -> None:
    """Print what the inspection of many small pairs adds to the process's largest size."""
    rng = np.random.default_rng(0)
    for split, count in (("train", pairs - pairs // 10), ("val", pairs // 10)):
        for kind in ("images", "masks"):
            (folder / split / kind).mkdir(parents=True)
        for index in range(count):
            image = cv2.resize(rng.integers(0, 256, (6, 8, 3), np.uint8), (32, 24), interpolation=cv2.INTER_CUBIC)
            labels = np.repeat(rng.integers(0, 3, (24, 1), np.uint8), 32, axis=1)
            labels[:3] = [[0], [1], [2]]
            cv2.imwrite(str(folder / split / "images" / f"{index:06}.png"), image)
            cv2.imwrite(str(folder / split / "masks" / f"{index:06}.png"), labels)
    (folder / "dataset.yaml").write_text("classes: [a, b, c]")
    start = largest_mb()
    open_dataset(folder, DataConfig())
    listed = largest_mb()
    began = time.perf_counter()
    inspection = inspect_dataset(folder)
    took = time.perf_counter() - began
    print(
        f"{pairs} pairs: {listed - start:.0f} MB for the listing, {largest_mb() - listed:.0f} MB more for the "
        f"inspection ({len(inspection.defects)} defects, {took:.0f} s)"
    )


def decoded(file: Path) -> object:
    with Image.open(file) as image:
        return np.asarray(image)


def with_opencv(file: Path) -> object:
    return cv2.imread(str(file), cv2.IMREAD_UNCHANGED)


def largest_mb() -> float:
    """The process's largest size so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


if __name__ == "__main__":
    main()
