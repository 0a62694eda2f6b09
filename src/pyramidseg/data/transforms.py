"""Augmentation: random scale, crop, directions and looks, computed only for the pixels inside the crop.

OpenCV on arrays instead of torchvision.transforms.v2: benchmarks/augmentation.py measures both. Every random choice
comes from the generator that is passed in, which is seeded by (seed, epoch, sample index).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.classes import IGNORE
from pyramidseg.images.open_image import contiguous

TURNED_TRIES = 8
"""Attempts to keep the labels on which a crop was placed, if the crop is turned."""

SPARSE = 0.5
"""Crops of images with a smaller labelled share (scribbles, points, partly labelled) are placed on a labelled pixel."""

STRONG_COLOR = 0.5
STRONG_LOOKS = AugmentationConfig(augment="none", gamma=0.3, grey=0.2, blur=0.5, noise=0.2, jpeg=0.2)
"""Of the strongly augmented view of an unlabelled image, on types for which they are defined."""

Image = NDArray[Any]
Labels = NDArray[np.uint8]


def draw_rare_pixel(
    labels: Labels, rng: np.random.Generator, *, share: float, pixels: Sequence[int]
) -> tuple[int, int] | None:
    """Draw a class of the image, rare classes more often, and a pixel of it that the crop must contain.

    Every image is still drawn equally often; only the position of the crop changes.

    Args:
        share: of the crops that are placed in this way; the others are placed uniformly.
        pixels: labelled pixels of the training images by class id; the odds of a class in the image are the inverse.

    Returns:
        Row and column; None if the crop may be anywhere, or nothing is labelled.
    """
    if rng.random() >= share:
        return None
    present = np.flatnonzero(np.bincount(labels.ravel(), minlength=IGNORE + 1)[: len(pixels)])
    if not len(present):
        return None
    odds = 1 / np.maximum(np.asarray(pixels)[present], 1)
    chosen = rng.choice(present, p=odds / odds.sum())
    row, column = divmod(int(rng.choice(np.flatnonzero(labels == chosen))), labels.shape[1])
    return row, column


@dataclass(frozen=True)
class Augmentation:
    """Random scale, position, directions and looks of a crop.

    A step whose setting is 0 draws nothing, so that it changes nothing in what the others draw.

    Attributes:
        settings: crop size, and the strengths and probabilities. Smaller images are padded with their own mean colour,
            labels with `IGNORE`. The scale factor is log-uniform, so that halving is as likely as doubling.
        pixels: labelled pixels of the training images by class id, for crops of rare classes and pasted classes.
    """

    settings: AugmentationConfig
    pixels: tuple[int, ...] = ()

    def __call__(
        self, image: Image, labels: Labels, rng: np.random.Generator, *, other: Callable[[int], tuple[Image, Labels]]
    ) -> tuple[Image, Labels]:
        """(H, W, C) image and (H, W) labels to the crop's size, contiguous, of the same types.

        Args:
            other: another training pair of the same channels and type by a random number, from which a class is pasted.
        """
        settings = self.settings
        image, labels, _ = self._crop(image, labels, rng, settings.rare_class_crops)
        if settings.copy_paste and rng.random() < settings.copy_paste:
            from_image, from_labels, pasted = self._crop(*other(int(rng.integers(2**62))), rng, 1.0)
            if pasted is not None and from_image.dtype == image.dtype:
                image, labels = image.copy(), labels.copy()
                inside = from_labels == pasted
                image[inside], labels[inside] = from_image[inside], pasted
        if settings.color:
            image = jitter_color(image, *rng.uniform(1 - settings.color, 1 + settings.color, size=3))
        image = degrade(contiguous(image), settings, rng)
        if settings.cutout and rng.random() < settings.cutout:
            image, labels = cut_out(image, labels, rng)
        return contiguous(image), contiguous(labels)

    def two_views(self, image: Image, inside: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
        """(H, W, C) unlabelled image to two views of a crop, (h, w, 2C), and where they show the image, (h, w).

        The first view is augmented weakly, by size, scale and directions alone, to be labelled; the second one has the
        same pixels in the same places with strongly changed looks, to be learned.

        Args:
            inside: (H, W), `IGNORE` where the image has no data.
        """
        weak, inside, _ = self._crop(image, inside, rng, 0.0)
        strong = jitter_color(weak, *rng.uniform(1 - STRONG_COLOR, 1 + STRONG_COLOR, size=3))
        strong = degrade(contiguous(strong), STRONG_LOOKS, rng)
        return np.concatenate([weak, strong], axis=2), contiguous(inside)

    def _crop(
        self, image: Image, labels: Labels, rng: np.random.Generator, rare_share: float
    ) -> tuple[Image, Labels, int | None]:
        """A crop in a random direction, and the class that it was placed on."""
        settings, height_width = self.settings, self.settings.crop
        factor = float(np.exp(rng.uniform(*np.log(settings.scale))))
        shown = draw_rare_pixel(labels, rng, share=rare_share, pixels=self.pixels) if rare_share else None
        chosen = None if shown is None else int(labels[shown])
        if shown is None and 0 < (labelled := np.flatnonzero(labels != IGNORE)).size < SPARSE * labels.size:
            row, column = divmod(int(rng.choice(labelled)), labels.shape[1])
            shown = row, column
        turns = 0
        if settings.quarter_turns and rng.random() < settings.quarter_turns:
            turns = int(rng.integers(1, 4))
        size = height_width[::-1] if turns % 2 else height_width
        if settings.rotation or settings.shear:
            angle, shear = np.radians([settings.rotation, settings.shear] * rng.uniform(-1, 1, size=2))
            for _ in range(TURNED_TRIES):
                crop = random_turned_crop(image, labels, factor, size, angle, shear, rng, shown=shown)
                kept = crop[1] != IGNORE if chosen is None else crop[1] == chosen
                if shown is None or kept.any():  # the corners of the larger piece are cut off
                    break
            image, labels = crop
        else:
            image, labels = random_scaled_crop(image, labels, factor, size, rng, shown=shown)
        image, labels = np.rot90(image, turns), np.rot90(labels, turns)
        if rng.random() < settings.flip:
            image, labels = image[:, ::-1], labels[:, ::-1]
        if settings.vertical_flip and rng.random() < settings.vertical_flip:
            image, labels = image[::-1], labels[::-1]
        return image, labels, chosen


def random_turned_crop(
    image: Image,
    labels: Labels,
    factor: float,
    crop: tuple[int, int],
    angle: float,
    shear: float,
    rng: np.random.Generator,
    *,
    shown: tuple[int, int] | None = None,
) -> tuple[Image, Labels]:
    """`random_scaled_crop` of a larger piece, turned about its middle and sheared, so that its corners are seen too.

    Args:
        angle: in radians, as is `shear`.
    """
    cos, sin = np.cos(angle), np.sin(angle)
    matrix = np.array([[cos, -sin], [sin, cos]]) @ np.array([[1.0, np.tan(shear)], [0.0, 1.0]])
    half = np.array([crop[1] - 1, crop[0] - 1]) / 2
    larger = np.ceil(2 * np.abs(matrix) @ half - 1e-6).astype(int) + 1  # the box around the turned crop
    image, labels = random_scaled_crop(image, labels, factor, (int(larger[1]), int(larger[0])), rng, shown=shown)
    inverse = np.hstack([matrix, ((larger - 1) / 2 - matrix @ half)[:, None]])
    size, linear = (crop[1], crop[0]), cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    nearest = cv2.INTER_NEAREST | cv2.WARP_INVERSE_MAP
    turned = by_channel_groups(
        image, lambda part: cv2.warpAffine(part, inverse, size, flags=linear, borderMode=cv2.BORDER_REPLICATE)
    )
    turned_labels = cv2.warpAffine(labels, inverse, size, flags=nearest, borderValue=IGNORE)
    return turned, turned_labels.astype(np.uint8, copy=False)


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
    rows, down = _cut(height, factor, crop[0], rng, shown=row)
    columns, across = _cut(width, factor, crop[1], rng, shown=column)
    size = (across.stop - across.start, down.stop - down.start)
    shrinking = cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    small = resize(image[rows, columns], size, interpolation=shrinking)
    small_labels = cv2.resize(np.ascontiguousarray(labels[rows, columns]), size, interpolation=cv2.INTER_NEAREST)
    if small_labels.shape == crop:
        return small, small_labels.astype(np.uint8, copy=False)
    filled = np.empty((*crop, image.shape[2]), image.dtype)
    filled[:] = small.mean(axis=(0, 1), dtype=np.float64).astype(image.dtype)
    filled_labels = np.full(crop, IGNORE, np.uint8)
    filled[down, across] = small
    filled_labels[down, across] = small_labels
    return filled, filled_labels


def _cut(extent: int, factor: float, crop: int, rng: np.random.Generator, *, shown: int | None) -> tuple[slice, slice]:
    """Along one axis: the pixels of the source, and those of the crop that they become."""
    size = max(1, round(extent * factor))
    if size <= crop:
        offset = int(rng.integers(0, crop - size + 1))
        return slice(0, extent), slice(offset, offset + size)
    length = min(extent, max(1, round(crop / factor)))
    first, last = 0, extent - length
    if shown is not None:
        first, last = max(first, shown - length + 1), min(last, shown)
    start = int(rng.integers(first, last + 1))
    return slice(start, start + length), slice(0, crop)


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
        # saturates to the type's range
        return _with_channel_axis(cv2.transform(image, np.hstack([matrix, shift[:, None]])))
    values = image.astype(np.float32) * np.float32(scale) + shift.astype(np.float32)
    return _to_type(values, image.dtype)


def _to_type(values: NDArray[Any], dtype: np.dtype[Any]) -> NDArray[Any]:
    """Integers are rounded and clipped to their range."""
    if dtype.kind in "iu":
        values = np.clip(np.rint(values), np.iinfo(dtype).min, np.iinfo(dtype).max)
    return values.astype(dtype)


def degrade(image: Image, settings: AugmentationConfig, rng: np.random.Generator) -> Image:
    """Gamma, grey, blur, noise and JPEG compression of (H, W, C), as far as they apply to its type and channels."""
    if settings.gamma:
        exponent = np.exp(rng.uniform(-settings.gamma, settings.gamma))
        if image.dtype.kind == "u" and (top := int(image.max())):
            image = np.rint(top * np.power(image / np.float32(top), exponent, dtype=np.float32)).astype(image.dtype)
    if settings.grey and rng.random() < settings.grey and image.shape[2] == 3:
        image = jitter_color(image, 1.0, 1.0, 0.0)
    if settings.blur and rng.random() < settings.blur:
        sigma = rng.uniform(0.3, 1.5)
        image = by_channel_groups(image, lambda part: cv2.GaussianBlur(part, (0, 0), sigma))
    if settings.noise and rng.random() < settings.noise:
        noisy = image + rng.standard_normal(image.shape, np.float32) * np.float32(rng.uniform(0, 0.2) * image.std())
        image = _to_type(noisy, image.dtype)
    if settings.jpeg and rng.random() < settings.jpeg:
        quality = int(rng.integers(30, 96))
        if takes_jpeg(image.dtype, image.shape[2]):
            _, data = cv2.imencode(".jpg", image[:, :, ::-1], [cv2.IMWRITE_JPEG_QUALITY, quality])
            image = _with_channel_axis(np.asarray(cv2.imdecode(data, cv2.IMREAD_UNCHANGED)))[:, :, ::-1]
    return image


def takes_jpeg(dtype: np.dtype[Any], channels: int) -> bool:
    """Whether JPEG can hold images of a type."""
    return dtype == np.uint8 and channels in (1, 3)


def cut_out(image: Image, labels: Labels, rng: np.random.Generator) -> tuple[Image, Labels]:
    """Fill a rectangle with the mean colour and ignore its labels; its sides are a tenth to half of the image's."""
    height, width = labels.shape
    rows, columns = (max(1, round(side * rng.uniform(0.1, 0.5))) for side in (height, width))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    image, labels, area = image.copy(), labels.copy(), (slice(top, top + rows), slice(left, left + columns))
    image[area] = _to_type(image.mean(axis=(0, 1), dtype=np.float64), image.dtype)
    labels[area] = IGNORE
    return image, labels


def unused_steps(settings: AugmentationConfig, dtype: np.dtype[Any], channels: int) -> list[str]:
    """The settings that are not 0 and have no effect on images of a type, as `data.KEY`."""
    applies = {
        "gamma": dtype.kind == "u",
        "grey": dtype.kind == "u" and channels == 3,
        "jpeg": takes_jpeg(dtype, channels),
    }
    return [f"data.{key}" for key, does in applies.items() if getattr(settings, key) and not does]


def resize(image: Image, size: tuple[int, int], *, interpolation: int) -> Image:
    """(H, W, C) to (height, width, C) for `size` = (width, height) and any C: OpenCV's INTER_AREA takes at most 4."""
    return by_channel_groups(image, lambda part: cv2.resize(part, size, interpolation=interpolation))


def by_channel_groups(image: Image, operation: Callable[[Image], Image]) -> Image:
    """An operation of OpenCV that takes at most 4 channels, on (H, W, C) with any C."""
    groups = [image[:, :, start : start + 4] for start in range(0, image.shape[2], 4)]
    parts = [_with_channel_axis(operation(np.ascontiguousarray(part))) for part in groups]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=2)


def _with_channel_axis(image: Image) -> Image:
    """Restore the channel axis, which OpenCV drops for single-channel images."""
    return image if image.ndim == 3 else image[:, :, None]
