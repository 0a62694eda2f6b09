"""Augmentation: random scale, crop, flip and colour, computed only for the pixels inside the crop.

OpenCV on arrays instead of torchvision.transforms.v2: benchmarks/augmentation.py measures both. Every random choice
comes from the generator that is passed in, which is seeded by (seed, epoch, sample index).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE

Image = NDArray[Any]
Labels = NDArray[np.uint8]


@dataclass(frozen=True)
class RareClassCrops:
    """Draw a class of the image, rare classes more often, and place the crop so that it contains a pixel of it.

    Every image is still drawn equally often; only the position of the crop changes.

    Attributes:
        share: of the crops that are placed in this way; the others are placed uniformly.
        odds: by class id: relative probability among the classes that are in the image.
    """

    share: float
    odds: tuple[float, ...]

    @classmethod
    def by_frequency(cls, share: float, pixels: Sequence[int]) -> "RareClassCrops":
        """The odds of a class are the inverse of its number of labelled pixels in the training images."""
        return cls(share, tuple(1 / max(1, count) for count in pixels))

    def draw_pixel(self, labels: Labels, rng: np.random.Generator) -> tuple[int, int] | None:
        """Row and column of a pixel that the crop must contain; None if it may be anywhere, or nothing is labelled."""
        if rng.random() >= self.share:
            return None
        present = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[: len(self.odds)])
        if not len(present):
            return None
        odds = np.asarray(self.odds)[present]
        chosen = rng.choice(present, p=odds / odds.sum())
        row, column = divmod(int(rng.choice(np.flatnonzero(labels == chosen))), labels.shape[1])
        return row, column


@dataclass(frozen=True)
class Augmentation:
    """Random scale, crop, flip and colour.

    Attributes:
        crop: (height, width) of the result. Smaller images are padded with their own mean colour, labels with `IGNORE`.
        scale: range of the scale factor, which is log-uniform, so that halving is as likely as doubling.
        flip: probability of a horizontal flip.
        color: strength s: brightness, contrast and saturation are each multiplied by a factor between 1-s and 1+s.
        rare: moves crops towards rare classes; None for uniform crops.
    """

    crop: tuple[int, int]
    scale: tuple[float, float] = (0.5, 2.0)
    flip: float = 0.5
    color: float = 0.3
    rare: RareClassCrops | None = None

    def __call__(self, image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """(H, W, C) image and (H, W) labels to the crop's size, contiguous, of the same types."""
        factor = float(np.exp(rng.uniform(*np.log(self.scale))))
        shown = self.rare.draw_pixel(labels, rng) if self.rare else None
        image, labels = random_scaled_crop(image, labels, factor, self.crop, rng, shown=shown)
        if rng.random() < self.flip:
            image, labels = image[:, ::-1], labels[:, ::-1]
        if self.color:
            image = jitter_color(image, *rng.uniform(1 - self.color, 1 + self.color, size=3))
        return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def random_scaled_crop(
    image: Image,
    labels: Labels,
    factor: float,
    crop: tuple[int, int],
    rng: np.random.Generator,
    *,
    shown: tuple[int, int] | None = None,
) -> tuple[Image, Labels]:
    """Resize by `factor` and crop at a random position; only the pixels inside the crop are resized.

    An image that is smaller than the crop after resizing is placed at a random position inside the padding.

    Args:
        shown: row and column of a pixel that the crop must contain.
    """
    height, width = labels.shape
    row, column = shown or (None, None)
    rows = _cut(height, factor, crop[0], rng, shown=row)
    columns = _cut(width, factor, crop[1], rng, shown=column)
    source = (slice(rows.source, rows.source + rows.length), slice(columns.source, columns.source + columns.length))
    size = (columns.size, rows.size)
    shrinking = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = resize(image[source], size, interpolation=shrinking)
    small_labels = cv2.resize(np.ascontiguousarray(labels[source]), size, interpolation=cv2.INTER_NEAREST)
    if small_labels.shape == crop:
        return small, small_labels.astype(np.uint8, copy=False)
    filled = np.empty((*crop, image.shape[2]), image.dtype)
    filled[:] = small.mean(axis=(0, 1), dtype=np.float64).astype(image.dtype)
    filled_labels = np.full(crop, IGNORE, np.uint8)
    place = (slice(rows.offset, rows.offset + rows.size), slice(columns.offset, columns.offset + columns.size))
    filled[place] = small
    filled_labels[place] = small_labels
    return filled, filled_labels


@dataclass(frozen=True)
class _Cut:
    """Along one axis: `length` source pixels from `source` become `size` pixels at `offset` of the crop."""

    source: int
    length: int
    size: int
    offset: int


def _cut(extent: int, factor: float, crop: int, rng: np.random.Generator, *, shown: int | None) -> _Cut:
    size = max(1, round(extent * factor))
    if size <= crop:
        return _Cut(source=0, length=extent, size=size, offset=int(rng.integers(0, crop - size + 1)))
    length = min(extent, max(1, round(crop / factor)))
    first, last = 0, extent - length
    if shown is not None:
        first, last = max(first, shown - length + 1), min(last, shown)
    return _Cut(source=int(rng.integers(first, last + 1)), length=length, size=crop, offset=0)


def jitter_color(image: Image, brightness: float, contrast: float, saturation: float) -> Image:
    """Change brightness, contrast and saturation; integers are rounded and clipped to their range.

    Unsigned integers are amounts of light: their values are scaled (brightness), then their distance to the mean
    (contrast). Three channels are RGB, with a common mean, and the distance to the pixel's grey is scaled too
    (saturation); with any other number of channels each has its own mean, because bands may differ widely.

    Signed integers and floats may have any unit, and 0 no special meaning: each channel is shifted by the same share of
    twice its standard deviation, which is about the mean of a photograph.
    """
    channels = image.shape[2]
    light = image.dtype.kind == "u"
    if light:
        mean = image.mean(axis=(0, 1)) if channels != 3 else np.full(3, image.mean())
        scale, shift = brightness * contrast, brightness * (1 - contrast) * mean
    else:
        mean, deviation = image.mean(axis=(0, 1), dtype=np.float64), image.std(axis=(0, 1), dtype=np.float64)
        scale, shift = contrast, (1 - contrast) * mean + 2 * (brightness - 1) * deviation
    if light and channels <= 4:
        matrix = np.eye(channels) * scale
        if channels == 3:
            matrix = saturation * matrix + (1 - saturation) * scale / 3
        return _with_channel_axis(
            cv2.transform(image, np.hstack([matrix, shift[:, None]]))
        )  # saturates to the type's range
    values = image.astype(np.float32) * np.float32(scale) + shift.astype(np.float32)
    if image.dtype.kind in "iu":
        values = np.clip(np.rint(values), np.iinfo(image.dtype).min, np.iinfo(image.dtype).max)
    return values.astype(image.dtype)


def resize(image: Image, size: tuple[int, int], *, interpolation: int) -> Image:
    """(H, W, C) to (height, width, C) for `size` = (width, height) and any C: OpenCV's INTER_AREA takes at most 4."""
    groups = [image[:, :, start : start + 4] for start in range(0, image.shape[2], 4)]
    parts = [
        _with_channel_axis(cv2.resize(np.ascontiguousarray(part), size, interpolation=interpolation)) for part in groups
    ]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _with_channel_axis(image: Image) -> Image:
    """Restore the channel axis, which OpenCV drops for single-channel images."""
    return image if image.ndim == 3 else image[:, :, None]
