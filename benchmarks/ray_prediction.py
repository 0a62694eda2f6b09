"""Images per second of `predict --engine ray` with some workers on this machine, against the plain engine.

    python -m benchmarks.ray_prediction [--images 200] [--side 512] [--workers 1,2,4] [--rounds 3]

Everything is measured in one run, in turn; printed are medians, and the median of the ratios within each round. The
start is left out: a rate counts from the time at which a tenth of the images is done, because processes that load the
model first have not all begun before.
"""

import argparse
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
import torch
from PIL import Image

from pyramidseg.base.log import Progress, only_warnings, report_progress
from pyramidseg.base.machine import available_processors
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predict_files import Engine, predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.ray_engine import RayEngine


def images_per_second(predictor: Predictor, images: Path, out: Path, engine: Engine | None) -> float:
    seen: list[tuple[float, int]] = []

    def note(progress: Progress) -> None:
        if progress.done >= progress.total // 10 and (not seen or progress.done > seen[-1][1]):
            seen.append((time.perf_counter(), progress.done))

    with only_warnings(), report_progress(note):
        predict_files(predictor, [images], out, engine=engine)
    (began, first), (ended, last) = seen[0], seen[-1]
    return (last - first) / (ended - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=200)
    parser.add_argument("--side", type=int, default=512)
    parser.add_argument("--workers", default="1,2,4")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(available_processors())
    generator = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "images").mkdir()
        for number in range(arguments.images):
            pixels = generator.integers(0, 256, (arguments.side, arguments.side, 3), np.uint8)
            Image.fromarray(pixels).save(folder / "images" / f"{number}.png")
        Segmenter(encoder="resnet18", encoder_weights="none", num_classes=11).eval().save(folder / "model.safetensors")
        predictor = Predictor(folder / "model.safetensors", device="cpu")
        engines = {"plain": None} | {
            f"ray, {number} workers": RayEngine(workers=(number, number))
            for number in map(int, arguments.workers.split(","))
        }
        rates = dict[str, list[float]]()
        for turn in range(arguments.rounds):
            for name, engine in engines.items():
                rate = images_per_second(predictor, folder / "images", folder / f"{name} {turn}", engine)
                rates.setdefault(name, []).append(rate)
                print(f"round {turn + 1}: {name}: {rate:.2f} images/s", flush=True)
    print(f"{available_processors()} processors, images of {arguments.side} x {arguments.side}")
    for name, own in rates.items():
        ratio = median(rate / plain for rate, plain in zip(own, rates["plain"], strict=True))
        print(f"{name}: {median(own):.2f} images/s, {ratio:.2f} of plain")


if __name__ == "__main__":
    main()
