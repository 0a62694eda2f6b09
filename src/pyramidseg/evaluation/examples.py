"""The best and the worst images of an evaluation: input, truth, prediction and errors as small embedded pictures."""

import base64
import io
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.classes import IGNORE, Classes
from pyramidseg.data.records import Record
from pyramidseg.evaluation.metrics import ImageScore

Picture = TypeVar("Picture", NDArray[np.uint8], NDArray[np.float32])

MAX_WIDTH_PX = 480

WRONG = (213, 94, 0)
"""Okabe and Ito's vermilion: seen by every eye beside a faded picture."""

IGNORED = (150, 150, 150)


@dataclass(frozen=True)
class Example:
    """One image of a report; the pictures are data URIs, at most 480 pixels wide.

    Attributes:
        total_pixels: of the image; more than `score.pixels` where some are ignored.
        truth: ignored pixels are transparent.
        errors: the faded picture with wrong pixels in vermilion and ignored ones in grey.
    """

    record_id: str
    score: ImageScore
    total_pixels: int
    image: str
    truth: str
    prediction: str
    errors: str


def choose_examples(per_image: Sequence[ImageScore], count: int) -> tuple[ImageScore, ...]:
    """The worst and the best images by mIoU, half each, worst first; all of them where there are no more than `count`.

    Images without a labelled pixel have no score and are never chosen.
    """
    ranked = sorted((entry for entry in per_image if not math.isnan(entry.miou)), key=lambda entry: entry.miou)
    if len(ranked) <= count:
        return tuple(ranked)
    best = count // 2
    return (*ranked[: count - best], *ranked[len(ranked) - best :])


def make_example(
    record: Record,
    image: NDArray[Any],
    truth: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    classes: Classes,
    score: ImageScore,
) -> Example:
    """Pictures of one image: (H, W, C) of any dtype, with true and predicted labels (H, W)."""
    picture = to_rgb(image)
    faded = (0.35 * cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY) + 0.65 * 255).astype(np.uint8)
    # Shrinking by area keeps a thin error visible, where taking the nearest pixel would drop it.
    errors = _shrink(np.repeat(faded[..., None], 3, axis=2)).astype(np.float32)
    for mask, color in ((truth == IGNORE, IGNORED), ((labels != truth) & (truth != IGNORE), WRONG)):
        share = _shrink(mask.astype(np.float32))[..., None]
        errors = errors * (1 - share) + np.array(color, np.float32) * share
    return Example(
        record_id=record.id,
        score=score,
        total_pixels=truth.size,
        image=_jpeg(_shrink(picture)),
        truth=_png(truth, classes),
        prediction=_png(labels, classes),
        errors=_jpeg(errors.round().astype(np.uint8)),
    )


def to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, C) of any channel count and dtype to (H, W, 3) uint8: the first three channels, or the first as grey.

    What is not 8 bit is stretched between its 1st and 99th percentile.
    """
    chosen = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if chosen.dtype != np.uint8:
        values = np.nan_to_num(chosen.astype(np.float32))
        low, high = np.percentile(values, (1, 99))
        chosen = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.ascontiguousarray(chosen, np.uint8)


def _shrink(picture: Picture) -> Picture:
    height, width = _small_size(picture.shape[:2])
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), picture.dtype)


def _small_size(size: Sequence[int]) -> tuple[int, int]:
    height, width = size
    factor = min(1.0, MAX_WIDTH_PX / width, 2 * MAX_WIDTH_PX / height)
    return max(1, round(height * factor)), max(1, round(width * factor))


def _jpeg(picture: NDArray[np.uint8]) -> str:
    data = io.BytesIO()
    # Full-resolution colour: the usual subsampling washes out errors that are a pixel wide.
    Image.fromarray(picture).save(data, "JPEG", quality=82, subsampling=0)
    return _uri(data, "image/jpeg")


def _png(labels: NDArray[np.uint8], classes: Classes) -> str:
    height, width = _small_size(labels.shape)
    small = Image.fromarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), "P")
    small.putpalette(classes.palette().tobytes())
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True, transparency=IGNORE)
    return _uri(data, "image/png")


def _uri(data: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(data.getvalue()).decode()}"
