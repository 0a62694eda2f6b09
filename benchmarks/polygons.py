"""Outlines of label maps against rasterio.features.shapes, which does not share corners and simplifies nothing.

    python -m benchmarks.polygons [--side 2000] [--rounds 5]

Prints a row for each map: milliseconds a megapixel, medians of rounds in turn, and the ratio within each round.
"""

import argparse
import statistics
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from rasterio.features import shapes

from pyramidseg.annotations.contours import find_regions


def made_map(side: int, *, noise: float) -> np.ndarray:
    """Six classes in smooth blobs of some dozen pixels, with a share of single pixels."""
    generator = np.random.default_rng(0)
    fields = [
        cv2.GaussianBlur(generator.standard_normal((side, side)).astype(np.float32), (0, 0), 12) for _ in range(6)
    ]
    labels = np.argmax(fields, axis=0).astype(np.uint8)
    return np.where(generator.random(labels.shape) < noise, generator.integers(0, 6, labels.shape), labels).astype(
        np.uint8
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--side", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    contestants: dict[str, Callable[[np.ndarray], Any]] = {
        "rasterio.features.shapes": lambda labels: list(shapes(labels, connectivity=4)),
        "corners": find_regions,
        "shared corners": lambda labels: find_regions(labels, simplify_px=0),
        "simplified 1 px": lambda labels: find_regions(labels, simplify_px=1.0),
    }
    print("| map | contestant | ms a megapixel | times shapes | peak bytes a pixel |")
    print("|---|---|---|---|---|")
    for noise in (0.0, 0.02):
        labels = made_map(arguments.side, noise=noise)
        seconds: dict[str, list[float]] = {name: [] for name in contestants}
        for _ in range(arguments.rounds):
            for name, run in contestants.items():
                start = time.perf_counter()
                run(labels)
                seconds[name].append(time.perf_counter() - start)
        for name, run in contestants.items():
            tracemalloc.start()
            run(labels)
            peak = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
            ratio = statistics.median(
                own / other for own, other in zip(seconds[name], seconds["rasterio.features.shapes"], strict=True)
            )
            each = 1000 * statistics.median(seconds[name]) / (labels.size / 1e6)
            print(f"| noise {noise:.0%} | {name} | {each:.0f} | {ratio:.2f} | {peak / labels.size:.0f} |")


if __name__ == "__main__":
    main()
