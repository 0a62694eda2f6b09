"""Thumbnails of images and labels for HTML pages, as data URIs."""

import io
from collections.abc import Sequence
from typing import Any, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.base.text import base64_text

Picture = TypeVar("Picture", NDArray[np.uint8], NDArray[np.float32])


def to_rgb(image: NDArray[Any]) -> NDArray[np.uint8]:
    """(H, W, C) of any channel count and dtype to (H, W, 3) uint8: the first three channels, or the first as grey.

    Other dtypes than uint8 are stretched between their 1st and 99th percentile.
    """
    chosen = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if chosen.dtype != np.uint8:
        values = np.nan_to_num(chosen.astype(np.float32))
        low, high = np.percentile(values, (1, 99))
        chosen = np.clip((values - low) / max(high - low, 1e-12), 0, 1) * 255
    return np.ascontiguousarray(chosen, np.uint8)


def thumbnail_size(size: Sequence[int], *, max_width_px: int) -> tuple[int, int]:
    """Height and width of a thumbnail at most `max_width_px` wide and twice as high; never enlarged."""
    height, width = size
    factor = min(1.0, max_width_px / width, 2 * max_width_px / height)
    return max(1, round(height * factor)), max(1, round(width * factor))


def resize_to_thumbnail(picture: Picture, *, max_width_px: int) -> Picture:
    """Resize to `thumbnail_size`; each pixel is the mean of the area it covers."""
    height, width = thumbnail_size(picture.shape[:2], max_width_px=max_width_px)
    return np.asarray(cv2.resize(picture, (width, height), interpolation=cv2.INTER_AREA), picture.dtype)


def jpeg_uri(picture: NDArray[np.uint8]) -> str:
    """(H, W, 3) uint8 as JPEG."""
    data = io.BytesIO()
    # No chroma subsampling: it would wash out errors that are one pixel wide.
    Image.fromarray(picture).save(data, "JPEG", quality=82, subsampling=0)
    return _uri(data, "image/jpeg")


def labels_png_uri(labels: NDArray[np.uint8], classes: Classes, *, max_width_px: int) -> str:
    """(H, W) labels in the colours of their classes, ignored ones transparent, as a PNG of `thumbnail_size`."""
    height, width = thumbnail_size(labels.shape, max_width_px=max_width_px)
    small = Image.fromarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), "P")
    small.putpalette(classes.palette().tobytes())
    data = io.BytesIO()
    small.save(data, "PNG", optimize=True, transparency=IGNORE)
    return _uri(data, "image/png")


def _uri(data: io.BytesIO, kind: str) -> str:
    return f"data:{kind};base64,{base64_text(data.getvalue())}"
