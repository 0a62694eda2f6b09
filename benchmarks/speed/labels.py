"""The last step, coarse logits to label map: ours against interpolate-then-argmax.

The logits are made to look like a trained network's: the label map of a made scene, with a few of the classes in it,
shrunk to stride 4 and smoothed, with smooth noise on all classes. What counts for the time is the share of cells whose
corners disagree, which is noted. Interpolate-then-argmax is timed twice: with `argmax`, as people write it, and with
`max(...).indices`, which torch computes faster on a CPU.
"""

from functools import partial

import cv2
import numpy as np
import torch
from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench
from torch import Tensor

from pyramidseg.backends import LogitGeometry
from pyramidseg.base.timing import alternate
from pyramidseg.demo.scenes import SCENE_CLASSES, draw_scene
from pyramidseg.predict.label_maps import label_maps

GEOMETRY = LogitGeometry(stride=4, align_corners=False)

MANY_CLASSES = 150
"""As ADE20K has."""

FORMATS = {"channels last": torch.channels_last, "contiguous": torch.contiguous_format}

OURS, ARGMAX, MAXIMUM = "ours", "interpolate, argmax", "interpolate, max"


def measure_labels(bench: Bench) -> list[Row]:
    """All three on both memory formats, with few and with many classes."""
    side = bench.settings.side_px
    rows = []
    for classes in (bench.settings.classes, MANY_CLASSES):
        coarse = made_logits(classes, side)
        note = f"{100 * mixed_share(coarse):.1f} % of the cells have corners that disagree"
        for words, memory_format in FORMATS.items():
            bench.say(f"label maps: {classes} classes, {words}")
            logits = coarse.to(bench.device).contiguous(memory_format=memory_format)
            calls = {
                ARGMAX: partial(_interpolated_argmax, logits, side),
                MAXIMUM: partial(_interpolated_maximum, logits, side),
                OURS: partial(label_maps, logits, side, side, GEOMETRY),
            }
            timings = alternate(calls, rounds=bench.settings.rounds, device=bench.device)
            rows += timed_rows(
                group_name(classes, side, words), timings, peers=[ARGMAX, MAXIMUM], images=1, notes={OURS: note}
            )
    return rows


def group_name(classes: int, side_px: int, words: str) -> str:
    """What rows of one number of classes and memory format are called."""
    return f"{classes} classes, {side_px}x{side_px}, {words}"


def made_logits(classes: int, side: int) -> Tensor:
    """(1, classes, side / 4, side / 4) float32."""
    rng = np.random.default_rng(0)
    labels = draw_scene(0, height=side, width=side).labels
    # A picture shows a few of many classes, as in ADE20K.
    ids = rng.permutation(classes)[: len(SCENE_CLASSES)] if classes >= len(SCENE_CLASSES) else np.arange(classes)
    points = side // GEOMETRY.stride
    logits = np.stack([_smooth_noise(rng, points) for _ in range(classes)])
    for index, class_id in enumerate(ids):
        shape = cv2.GaussianBlur((labels == index).astype(np.float32), (0, 0), GEOMETRY.stride)
        logits[class_id] += 4 * cv2.resize(shape, (points, points), interpolation=cv2.INTER_AREA)
    return torch.from_numpy(logits.astype(np.float32))[None]


def mixed_share(coarse: Tensor) -> float:
    """Share of the cells between four points that are not of one class."""
    winners = coarse[0].argmax(dim=0)
    corner = winners[:-1, :-1]
    mixed = (corner != winners[1:, :-1]) | (corner != winners[:-1, 1:]) | (corner != winners[1:, 1:])
    return float(mixed.float().mean())


def _smooth_noise(rng: np.random.Generator, points: int) -> np.ndarray:
    """(points, points) of deviation about 1, alike over some ten points."""
    noise = cv2.resize(rng.normal(size=(points // 8, points // 8)), (points, points), interpolation=cv2.INTER_CUBIC)
    return np.asarray(noise)


def _interpolated_argmax(logits: Tensor, side: int) -> Tensor:
    return GEOMETRY.upsample(logits, side, side).argmax(dim=1)


def _interpolated_maximum(logits: Tensor, side: int) -> Tensor:
    return GEOMETRY.upsample(logits, side, side).max(dim=1).indices
