"""The one image loader: training, prediction and everything after read their images here."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.image_files import OpenImage, opened, pixels, turn
from pyramidseg.errors import DataError

_GREY = ("L", "1", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "F")
_COLOR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "RGBA", "RGBa", "PA")


class ImageHeader(NamedTuple):
    """What is known of an image before its pixels are decoded; the size is that of the turned image."""

    height: int
    width: int
    channels: int
    dtype: str


def read_image(path: Path, *, channels: int) -> NDArray[Any]:
    """Read an image, turned as its EXIF tag asks for, with the number of channels that a model takes.

    A file that has this number of channels is taken as it is. Else, for 3 channels grey is repeated, for 1 channel
    colour becomes luma (ITU-R BT.601), and alpha is dropped, not blended: the colour below it counts, as there is no
    background to assume. Palettes, CMYK and YCbCr become RGB, 1-bit images 0 and 255. 16 bits stay 16 bits.

    Returns:
        (H, W, channels): uint8, uint16 for files of 16 bits, float32 for floating-point TIFF.

    Raises:
        DataError: unreadable (`image_files.opened`), of a kind that has no meaning here, or without the channels asked
            for.
    """
    with opened(path) as file:
        header = _describe(path, file)
        check_channels(path, header, channels)
        values = turn(_decode(path, file), file.orientation)
    assert values.shape[:2] == (header.height, header.width), path
    return _with_channels(values, channels)


def read_header(path: Path) -> ImageHeader:
    """Size, channels and type of an image, from its header alone.

    Raises:
        DataError: as `read_image`, as far as the header tells.
    """
    with opened(path) as file:
        return _describe(path, file)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image after turning, from its header alone.

    Raises:
        DataError: as `read_header`.
    """
    return read_header(path)[:2]


def check_channels(path: Path, header: ImageHeader, channels: int) -> None:
    """Refuse an image that cannot be had with this number of channels.

    Raises:
        DataError: names the file, the number it has and the numbers it can be read with.
    """
    if channels not in (1, 3, header.channels):
        possible = ", ".join(str(number) for number in sorted({1, 3, header.channels}))
        raise DataError(
            f"{path}: has {header.channels} channels and {channels} are asked for; "
            f"it can be read with {possible} (model.in_channels)"
        )


def _describe(path: Path, file: OpenImage) -> ImageHeader:
    mode = file.image.mode
    if mode not in _GREY + _COLOR or (mode == "CMYK" and _is_deep(file)):
        raise DataError(
            f"{path}: pixels of kind {mode} with {file.bits} bits are not read; convert it to 8 or 16 bit grey or RGB"
        )
    has_alpha = mode.upper().endswith("A") or (mode == "P" and "transparency" in file.image.info)
    dtype = "float32" if mode == "F" else "uint16" if mode.startswith("I;16") or _is_deep(file) else "uint8"
    return ImageHeader(*file.size, channels=(1 if mode in _GREY else 3) + has_alpha, dtype=dtype)


def _is_deep(file: OpenImage) -> bool:
    """Whether Pillow would reduce the file's 16 bits to 8, which it does for all but plain grey."""
    return file.bits == 16 and file.image.mode in ("LA", *_COLOR)


def _decode(path: Path, file: OpenImage) -> NDArray[Any]:
    """(H, W, C), unturned unless the file is a TIFF."""
    image = file.image
    image.load()  # also where OpenCV follows, which does not say what is wrong with a damaged file
    if _is_deep(file):
        return _decode_deep(path, channels=len(image.getbands()))
    if image.mode == "1":
        values = pixels(image.convert("L"))
    elif image.mode in ("P", "PA", "RGBa", "La"):
        has_alpha = image.mode != "P" or "transparency" in image.info
        values = pixels(image.convert("LA" if image.mode == "La" else "RGBA" if has_alpha else "RGB"))
    elif image.mode in ("CMYK", "YCbCr", "RGBX"):
        values = pixels(image.convert("RGB"))
    else:
        values = pixels(image)
    if image.mode.startswith("I;16"):
        values = values.astype(np.uint16)  # to the machine's own byte order
    return values.reshape(*values.shape[:2], -1)


def _decode_deep(path: Path, *, channels: int) -> NDArray[Any]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[2:] != (channels,):
        raise DataError(f"{path}: this kind of 16-bit file is not read; save it as RGB PNG or TIFF, uncompressed")
    return values[..., [2, 1, 0, 3][:channels]]  # OpenCV has BGR and BGRA


def _with_channels(values: NDArray[Any], channels: int) -> NDArray[Any]:
    found = values.shape[2]
    if found == channels:
        return values
    if found == 2 or found == 4:
        return _with_channels(np.ascontiguousarray(values[..., :-1]), channels)
    if found == 1:
        return np.repeat(values, channels, axis=2)
    return _luma(values)


def _luma(values: NDArray[Any]) -> NDArray[Any]:
    """Grey of uint8 or uint16 RGB by the integer weights of Pillow, which add up to 2**16."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    weighted = values.astype(np.uint32) @ weights  # at most 65535 * 2**16: fits 32 bits, with the rounding
    return ((weighted + 0x8000) >> 16).astype(values.dtype)[..., None]
