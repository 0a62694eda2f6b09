"""The last step, coarse logits to label map: ours against interpolate-then-argmax, alternating, medians.

    python benchmarks/labels.py [--classes 150] [--side 512]

The logits are made to look like a trained network's: the label map of a made scene, with a few of the classes in it,
shrunk to stride 4 and smoothed, with smooth noise on all classes. What counts for the time is the share of cells whose
corners disagree, which is printed. Interpolate-then-argmax is timed twice: with `argmax`, as people write it, and with
`max(...).indices`, which torch computes faster on a CPU. Figures: README.md beside this file.
"""

import argparse
import statistics
import time
from collections.abc import Callable

import cv2
import numpy as np
import torch
from torch import Tensor

from pyramidseg.data.synthetic.scenes import SCENE_CLASSES, draw_scene
from pyramidseg.predict.backends import LogitGeometry
from pyramidseg.predict.labels import label_maps

GEOMETRY = LogitGeometry(stride=4, align_corners=False)
ROUNDS = 15


def main() -> None:
    """Time the three on both memory formats, and print ratios."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=150)
    parser.add_argument("--side", type=int, default=512, help="of the square image, in pixels")
    arguments = parser.parse_args()
    side = arguments.side
    coarse = made_logits(arguments.classes, side)
    print(f"{arguments.classes} classes, {side}x{side}, {torch.get_num_threads()} threads")
    print(f"cells whose corners disagree: {100 * mixed_share(coarse):.1f} %")
    for name, memory_format in (("channels last", torch.channels_last), ("contiguous", torch.contiguous_format)):
        logits = coarse.contiguous(memory_format=memory_format)
        contestants: dict[str, Callable[[], Tensor]] = {
            "ours": lambda logits=logits: label_maps(logits, side, side, GEOMETRY),
            "interpolate, argmax": lambda logits=logits: GEOMETRY.upsample(logits, side, side).argmax(dim=1),
            "interpolate, max": lambda logits=logits: GEOMETRY.upsample(logits, side, side).max(dim=1).indices,
        }
        compare(name, contestants)


def compare(name: str, contestants: dict[str, Callable[[], Tensor]]) -> None:
    """Medians and ratios of alternating rounds, after a look at whether all agree."""
    ours, *others = (once() for once in contestants.values())
    differing = max(int((ours != other).sum()) for other in others)
    times: dict[str, list[float]] = {contestant: [] for contestant in contestants}
    for _ in range(ROUNDS):
        for contestant, once in contestants.items():
            began = time.perf_counter()
            once()
            times[contestant].append(1000 * (time.perf_counter() - began))
    print(f"{name}: {differing} pixels differ")
    for contestant, rounds in times.items():
        ratio = statistics.median(theirs / ours for ours, theirs in zip(times["ours"], rounds, strict=True))
        print(f"  {contestant:<20} {statistics.median(rounds):8.2f} ms  {ratio:6.1f} x ours")


def made_logits(classes: int, side: int) -> Tensor:
    """(1, classes, side / 4, side / 4) float32."""
    rng = np.random.default_rng(0)
    labels = draw_scene(0, height=side, width=side).labels
    # A picture shows a few of many classes, as in ADE20K.
    ids = rng.permutation(classes)[: len(SCENE_CLASSES)] if classes >= len(SCENE_CLASSES) else np.arange(classes)
    points = side // GEOMETRY.stride
    logits = np.stack([smooth_noise(rng, points) for _ in range(classes)])
    for index, class_id in enumerate(ids):
        shape = cv2.GaussianBlur((labels == index).astype(np.float32), (0, 0), GEOMETRY.stride)
        logits[class_id] += 4 * cv2.resize(shape, (points, points), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(logits.astype(np.float32))[None]


def smooth_noise(rng: np.random.Generator, points: int) -> np.ndarray:
    """(points, points) of deviation about 1, alike over some ten points."""
    noise = cv2.resize(rng.normal(size=(points // 8, points // 8)), (points, points), interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise)


def mixed_share(coarse: Tensor) -> float:
    """Share of the cells between four points that are not of one class."""
    winners = coarse[0].argmax(dim=0)
    corner = winners[:-1, :-1]
    mixed = (corner != winners[1:, :-1]) | (corner != winners[:-1, 1:]) | (corner != winners[1:, 1:])
    return float(mixed.float().mean())


if __name__ == "__main__":
    main()
