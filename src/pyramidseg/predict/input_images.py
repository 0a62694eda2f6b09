"""Images given for prediction: files, their bytes, arrays, tensors and images of PIL, all treated as files are.

Grey is repeated for a model of colour images, colour becomes grey for one of grey images, and alpha is dropped.
"""

import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
import torch
from PIL import Image as PillowImage
from PIL import ImageOps
from torch import Tensor

from pyramidseg.base.errors import DataError
from pyramidseg.base.setting_types import Channels
from pyramidseg.images.decode import convert_channels, decoded_mode, pixel_count, read_image
from pyramidseg.images.open_image import contiguous
from pyramidseg.predict.segmentation import Image

ImageLike: TypeAlias = str | Path | bytes | Image | Tensor | PillowImage.Image
"""Path or content of an image file, an array (H, W) or (H, W, C), a tensor (H, W) or (C, H, W), or an image of PIL."""


def load_image(source: ImageLike, *, channels: Channels) -> Image:
    """An image with the channels of a model, (H, W, C) of a type whose range `Segmenter` knows.

    Args:
        channels: a number of channels, or the bands of files, counted from 1; an array with as many channels as there
            are bands is taken as it is.

    Raises:
        DataError: unreadable, of another kind, shape or type, or with values that are not finite.
    """
    name = image_name(source)
    if isinstance(source, (str, os.PathLike)):
        return check_image(read_image(Path(source), channels=channels), name)
    if isinstance(source, (bytes, bytearray)):
        return check_image(read_image(Path(name), channels=channels, content=bytes(source)), name)
    array = image_array(source, name)
    number = len(channels) if isinstance(channels, tuple) else channels
    if array.shape[2] != number:
        array = convert_channels(Path(name), array, channels)
    return check_image(array, name)


def image_array(source: object, name: str) -> Image:
    """An array, a tensor or an image of PIL as (H, W, C), of any type.

    Raises:
        DataError: of another kind or shape.
    """
    if isinstance(source, PillowImage.Image):
        if source.mode in ("HSV", "LAB"):
            raise DataError(f"{name}: of Pillow mode {source.mode}; convert it to RGB first")
        turned = ImageOps.exif_transpose(source)
        array: Image = np.array(turned.convert(decoded_mode(turned)))
    elif isinstance(source, Tensor):
        tensor = source.detach().cpu()
        tensor = tensor.float() if tensor.dtype == torch.bfloat16 else tensor
        tensor = tensor[0] if tensor.ndim == 4 and len(tensor) == 1 else tensor
        array = (tensor.permute(1, 2, 0) if tensor.ndim == 3 else tensor).numpy()
    elif isinstance(source, np.ndarray):
        array = source.astype(source.dtype.newbyteorder("="), copy=False)  # torch accepts only native byte order
    else:
        raise DataError(
            f"{name}: of type {type(source).__name__}, but a path, the bytes of a file, an array (H, W, C), a tensor "
            "(C, H, W) or an image of PIL is needed"
        )
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.size == 0:
        raise DataError(
            f"{name}: shape {array.shape}, but (H, W) or (H, W, C) with at least one pixel is needed; give the images "
            "of a batch one by one"
        )
    return array


def check_image(image: Image, name: str) -> Image:
    """Convert an image (H, W, C) to a type that models accept.

    Raises:
        DataError: of another type, or with values that are not finite.
    """
    if image.dtype in (np.uint8, np.uint16, np.int16, np.float32):
        converted = contiguous(image)
    elif image.dtype == np.bool_:
        converted = image.astype(np.uint8) * np.uint8(255)  # as files of 1 bit are read
    elif image.dtype in (np.float16, np.float64):
        with np.errstate(over="ignore"):
            converted = image.astype(np.float32)
    else:
        advice = ""
        if image.dtype.kind in "iu" and image.min() >= 0 and image.max() <= 65535:
            advice = f": convert it, image.astype(np.{'uint8' if image.max() <= 255 else 'uint16'})"
        raise DataError(f"{name}: values of type {image.dtype}; supported are uint8, uint16, int16 and floats{advice}")
    if converted.dtype == np.float32 and not np.isfinite(converted).all():
        raise DataError(
            f"{name}: contains values that are not finite in float32; replace them first, for instance by the mean"
        )
    return converted


def pixels_of_source(source: ImageLike) -> int:
    """Number of pixels of a file, which limits how many are decoded at a time; 0 in memory, or if it is unreadable."""
    return pixel_count(Path(source)) if isinstance(source, (str, os.PathLike)) else 0


def image_name(source: object) -> str:
    """The path of a file; `image` for what is in memory."""
    return str(source) if isinstance(source, (str, os.PathLike)) else "image"
