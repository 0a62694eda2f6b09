"""Checking a dataset before the first epoch, in image-mask pairs a second at 480x360.

    python benchmarks/checking.py [--pairs 300]

The floor, measured in the same run and alternating: decoding the masks alone, by Pillow in one thread.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

from pyramidseg.config import DataConfig
from pyramidseg.data.inspection import check_dataset
from pyramidseg.data.readers import open_dataset
from pyramidseg.data.synthetic.scenes import write_scenes


def main() -> None:
    """Time both and print pairs a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=300)
    pairs = parser.parse_args().pairs
    with tempfile.TemporaryDirectory() as folder:
        write_scenes(Path(folder), train=pairs, val=1, height=360, width=480)
        dataset = open_dataset(folder, DataConfig())
        masks = [record.mask for record in dataset.split("train") if record.mask is not None]
        rates: dict[str, list[float]] = {"check": [], "decoding masks": []}
        for _ in range(5):
            rates["check"].append(pairs / seconds(lambda: check_dataset(dataset, splits=("train",))))
            rates["decoding masks"].append(pairs / seconds(lambda: [np.asarray(Image.open(mask)) for mask in masks]))
    for name, values in rates.items():
        print(f"{name:<15} {statistics.median(values):7.0f} pairs/s")


def seconds(work: Callable[[], object]) -> float:
    """Wall time of one call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


if __name__ == "__main__":
    main()
