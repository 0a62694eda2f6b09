"""Small embedded pictures of a report: examples with input, true and predicted classes, and errors; maps of scenes."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.data.records import Dataset
from pyramidseg.evaluation.metrics import ImageScore
from pyramidseg.images.scene_windows import SceneWindow, read_overview, window_at
from pyramidseg.images.thumbnails import jpeg_uri, labels_png_uri, resize_to_thumbnail, to_rgb

MAX_WIDTH_PX, MAPS, MAP_SIDE_PX = 480, 6, 900

WRONG = (213, 94, 0)
"""Okabe and Ito's vermilion, visible with any colour vision deficiency."""

IGNORED = (150, 150, 150)


@dataclass(frozen=True)
class Example:
    """One image of a report; the pictures are data URIs, at most `MAX_WIDTH_PX` wide.

    Attributes:
        total_pixels: all pixels of the image; `score.pixels` are those that are not ignored.
        truth: ignored pixels are transparent.
        errors: the faded image with wrong pixels in vermilion and ignored ones in grey.
    """

    score: ImageScore
    total_pixels: int
    image: str
    truth: str
    prediction: str
    errors: str


def select_examples(per_image: Sequence[ImageScore], count: int = 6) -> tuple[ImageScore, ...]:
    """Select the worst and the best images by mIoU, half each, worst first; all images if there are at most `count`.

    Images without a labelled pixel have no score and are never selected.
    """
    ranked = sorted((entry for entry in per_image if not math.isnan(entry.miou)), key=lambda entry: entry.miou)
    if len(ranked) <= count:
        return tuple(ranked)
    best = count // 2
    return (*ranked[: count - best], *ranked[len(ranked) - best :])


def make_example(
    image: NDArray[Any], truth: NDArray[np.uint8], labels: NDArray[np.uint8], classes: Classes, score: ImageScore
) -> Example:
    """Draw the pictures of one image (H, W, C) of any dtype, with true and predicted labels (H, W)."""
    picture = to_rgb(image)
    faded = (0.35 * cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) + 0.65 * 255).astype(np.uint8)
    # Area resizing keeps thin errors visible; taking the nearest pixel would drop them.
    errors = resize_to_thumbnail(np.repeat(faded[..., None], 3, axis=2), max_width_px=MAX_WIDTH_PX).astype(np.float32)
    for mask, color in ((truth == IGNORE, IGNORED), ((labels != truth) & (truth != IGNORE), WRONG)):
        share = resize_to_thumbnail(mask.astype(np.float32), max_width_px=MAX_WIDTH_PX)[..., None]
        errors = errors * (1 - share) + np.array(color, np.float32) * share
    return Example(
        score=score,
        total_pixels=truth.size,
        image=jpeg_uri(resize_to_thumbnail(picture, max_width_px=MAX_WIDTH_PX)),
        truth=labels_png_uri(truth, classes, max_width_px=MAX_WIDTH_PX),
        prediction=labels_png_uri(labels, classes, max_width_px=MAX_WIDTH_PX),
        errors=jpeg_uri(errors.round().astype(np.uint8)),
    )


def scene_maps(dataset: Dataset) -> list[dict[str, Any]]:
    """The first `MAPS` scenes as small pictures, with their windows by split; the report draws them."""
    scenes: dict[Path, list[tuple[str, SceneWindow]]] = {}
    for split, records in dataset.splits.items():
        for window in filter(None, (window_at(record.image) for record in records)):
            scenes.setdefault(window.scene, []).append((split, window))
    maps = []
    for scene, windows in islice(scenes.items(), MAPS):
        pixels, (height, width) = read_overview(scene, MAP_SIDE_PX)
        counts = Counter(split for split, _ in windows)
        found = {"name": scene.name, "height": height, "width": width, "image": jpeg_uri(to_rgb(pixels))}
        maps.append({**found, "windows": windows, "counts": counts, "scenes": len(scenes)})
    return maps
