"""Read images and their headers: one loader for training, prediction, evaluation and inspection."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image

from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.base.setting_types import Channels
from pyramidseg.images.nodata import MaskedImage, find_nodata
from pyramidseg.images.open_image import OpenImage, apply_orientation, open_image
from pyramidseg.images.tiff import unsupported_dtype

_GREY = ("L", "1", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "F")
_COLOR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "RGBA", "RGBa", "PA")
PIXEL_TYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")


class ImageHeader(NamedTuple):
    """Properties of an image that are known without decoding it.

    Attributes:
        height, width: in the orientation that EXIF prescribes.
        channels: as stored, including alpha.
        dtype: of the decoded array.
        alpha: whether the last channel is transparency.
        color: whether the other channels are red, green and blue.
        may_have_nodata: whether decoding can find pixels without data.
        orientation: prescribed by the file, 1 to 8 as in EXIF.
        georeferenced: whether the file is a GeoTIFF.
    """

    height: int
    width: int
    channels: int
    dtype: str
    alpha: bool = False
    color: bool = False
    may_have_nodata: bool = False
    orientation: int = 1
    georeferenced: bool = False


PILLOW_MODES = {"1": "L", "La": "LA", "PA": "RGBA", "RGBa": "RGBA", "CMYK": "RGB", "YCbCr": "RGB", "RGBX": "RGB"}
"""Mode that images of some modes of Pillow are converted to; palettes, which may be transparent, are not in it."""


def read_image(path: Path, *, channels: Channels, content: bytes | None = None) -> NDArray[Any]:
    """Read an image in the orientation that EXIF prescribes, with the channels that a model takes.

    A file with this number of channels is read as it is. Otherwise, for 3 channels grey is repeated; for 1 channel
    colour is converted to luma (ITU-R BT.601); and alpha is dropped without blending, because the background is
    unknown. Palettes, CMYK and YCbCr are converted to RGB, 1-bit images to 0 and 255. 16 bits stay 16 bits. Pixels
    without data are filled (`MaskedImage.filled`).

    Args:
        channels: a number of channels, or band numbers, counted from 1.
        content: of the file, if it is in memory; `path` is then only a name.

    Returns:
        (H, W, channels): uint8, uint16, int16, or float32 for floating-point TIFF of any width.

    Raises:
        DataError: the file is unreadable (see `open_image`), has an unsupported pixel type, or lacks the channels.
    """
    return read_masked_image(path, channels=channels, content=content).filled()


def convert_channels(name: Path, values: NDArray[Any], channels: Channels) -> NDArray[Any]:
    """An array (H, W, C) with the channels that a model takes, as `read_image` would read it from a file.

    Unsigned integers of 2 and 4 channels are grey and colour with alpha, as in files.

    Raises:
        DataError: it cannot be read with these channels.
    """
    count, unsigned = values.shape[2], values.dtype in (np.uint8, np.uint16)
    alpha, color = unsigned and count in (2, 4), unsigned and count in (3, 4)
    height, width = values.shape[:2]
    header = ImageHeader(height, width, count, str(values.dtype), alpha=alpha, color=color)
    check_channels(name, header, channels)
    return with_channels(MaskedImage(_select_channels(values, header, channels), None), channels).filled()


def read_masked_image(path: Path, *, channels: Channels | None = None, content: bytes | None = None) -> MaskedImage:
    """Like `read_image`, but with stored values where TIFF files have no data (see `find_nodata`).

    In georeferenced files whose alpha channel is dropped, transparent pixels have no data either.

    Args:
        channels: None for all channels except alpha.

    Raises:
        DataError: see `read_image`.
    """
    with open_image(path, content) as file:
        return masked_pixels(file, header_of(file), channels)


def masked_pixels(file: OpenImage, header: ImageHeader, channels: Channels | None = None) -> MaskedImage:
    """`read_masked_image` of an open file."""
    if channels is None:
        channels = header.channels - header.alpha
    else:
        check_channels(file.path, header, channels)
    values = _decode(file, header)
    assert values.shape == header[:3], file.path
    nodata_value = None if file.tiff is None else file.tiff.nodata_value
    return with_channels(select_masked(values, header, channels, nodata_value), channels)


def select_masked(
    values: NDArray[Any], header: ImageHeader, channels: Channels, nodata_value: float | None
) -> MaskedImage:
    """The requested channels of an array (H, W, C) with all of them, and where they have no data."""
    chosen = _select_channels(values, header, channels)
    nodata = find_nodata(chosen, nodata_value)
    if header.georeferenced and header.alpha and channels in (1, 3):
        transparent = np.broadcast_to(values[..., -1:] == 0, chosen.shape)
        nodata = transparent if nodata is None else nodata | transparent
    return MaskedImage(chosen, nodata)


def with_channels(image: MaskedImage, channels: Channels) -> MaskedImage:
    """Grey repeated for colour, and colour as grey."""
    if isinstance(channels, tuple) or image.values.shape[2] == channels:
        return image
    if image.values.shape[2] == 1:
        nodata = None if image.nodata is None else np.repeat(image.nodata, channels, axis=2)
        return MaskedImage(np.repeat(image.values, channels, axis=2), nodata)
    empty = image.nodata_in_all_channels()
    return MaskedImage(_luma(image.filled()), None if empty is None else empty[..., None])


def read_header(path: Path) -> ImageHeader:
    """The properties of an image without decoding it.

    Raises:
        DataError: see `read_image`, as far as the header shows.
    """
    with open_image(path, header_only=True) as file:
        return header_of(file)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image in the orientation that EXIF prescribes, without decoding it.

    Raises:
        DataError: see `read_header`.
    """
    return read_header(path)[:2]


def pixel_count(path: Path) -> int:
    """Number of pixels of an image, without decoding it; 0 if the header is unreadable, which decoding will report."""
    try:
        height, width = image_size(path)
    except (DataError, MissingExtra):
        return 0
    return height * width


def check_channels(path: Path, header: ImageHeader, channels: Channels) -> None:
    """Reject an image that cannot be read with these channels.

    Raises:
        DataError: names the file, its number of channels and the possible numbers.
    """
    if isinstance(channels, tuple):
        if max(channels) > header.channels:
            raise DataError(
                f"{path}: has {header.channels} bands, but band {max(channels)} is requested; bands count from 1 "
                "(data.bands)"
            )
        return
    possible = {header.channels}
    if header.channels - header.alpha == 1 or header.color:
        possible |= {1, 3}
    if channels not in possible:
        numbers = ", ".join(map(str, sorted(possible)))
        choose = "" if header.channels <= channels else ", or choose bands (data.bands=[1,2,3])"
        raise DataError(
            f"{path}: has {header.channels} channels, but {channels} are requested and it can be read with {numbers}; "
            f"use images with {channels} channels, or train with model.in_channels={header.channels}{choose}"
        )


def header_of(file: OpenImage) -> ImageHeader:
    """`read_header` of an open file."""
    (channels, dtype, alpha, color), tiff = _pixel_kind(file), file.tiff
    on_map = tiff is not None and tiff.georeferenced
    nodata = tiff is not None and (
        tiff.nodata_value is not None or tiff.dtype.startswith("float") or (on_map and tiff.alpha)
    )
    return ImageHeader(*file.size, channels, dtype, alpha, color, nodata, file.orientation, on_map)


def _pixel_kind(file: OpenImage) -> tuple[int, str, bool, bool]:
    """`channels`, `dtype`, `alpha` and `color` of the header."""
    tiff = file.tiff
    if tiff is not None and not tiff.plain:
        if tiff.dtype not in PIXEL_TYPES:
            raise unsupported_dtype(file.path, tiff)
        dtype = "float32" if tiff.dtype.startswith("float") else tiff.dtype
        color = tiff.color and tiff.bands == 3 + tiff.alpha and dtype in ("uint8", "uint16")
        return tiff.bands, dtype, tiff.alpha, color
    mode = file.image.mode if file.image.format != "PPM" or file.image.mode != "I" else "I;16"
    signed = mode == "I" and tiff is not None and tiff.dtype == "int16"
    reduced = mode in _COLOR and 8 < file.bits < 16  # by Pillow, to 8 bits
    if not signed and (mode not in _GREY + _COLOR or reduced or (mode == "CMYK" and _is_deep(file))):
        raise DataError(
            f"{file.path}: pixels of Pillow mode {mode} with {file.bits} bits are not supported; convert the file to 8 "
            "or 16 bit grey or RGB"
        )
    alpha = mode.upper().endswith("A") or (mode == "P" and "transparency" in file.image.info)
    deep = "uint16" if mode.startswith("I;16") or _is_deep(file) else "uint8"
    dtype = "int16" if signed else "float32" if mode == "F" else deep
    return (1 if signed or mode in _GREY else 3) + alpha, dtype, alpha, mode in _COLOR


def _is_deep(file: OpenImage) -> bool:
    """Whether Pillow would reduce the file's 16 bits to 8, as it does for everything but grey."""
    return file.bits == 16 and file.image.mode in ("LA", *_COLOR)


def _decode(file: OpenImage, header: ImageHeader) -> NDArray[Any]:
    """(H, W, C) with all channels."""
    if file.is_raster:
        return file.pixels()
    image = file.image
    if image.format == "PPM":
        return file.pixels().reshape(image.height, image.width, -1)
    file.load()  # also before OpenCV decodes, which does not report what is wrong with a damaged file
    if _is_deep(file):
        return _decode_deep(file, channels=len(image.getbands()))
    values = file.pixels(decoded_mode(image))
    if image.mode.startswith("I"):
        values = values.astype(header.dtype)  # to native byte order, or from the 32 bits of Pillow's int16
    return values.reshape(*values.shape[:2], -1)


def decoded_mode(image: Image) -> str:
    """The mode of Pillow in which an image's pixels are its channels."""
    if image.mode == "P":
        return "RGBA" if "transparency" in image.info else "RGB"
    return PILLOW_MODES.get(image.mode, image.mode)


def _decode_deep(file: OpenImage, *, channels: int) -> NDArray[Any]:
    file.file.seek(0)
    values = cv2.imdecode(np.frombuffer(file.file.read(), np.uint8), cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[2:] != (channels,):
        raise DataError(
            f"{file.path}: this kind of 16-bit file is not supported; save it as RGB PNG or uncompressed TIFF"
        )
    values = values[..., [2, 1, 0, 3][:channels]]  # OpenCV returns BGR and BGRA
    return values if file.tiff is not None else apply_orientation(values, file.orientation)


def _select_channels(values: NDArray[Any], header: ImageHeader, channels: Channels) -> NDArray[Any]:
    """The requested bands, or all channels without an alpha that is not requested."""
    if isinstance(channels, tuple):
        return np.ascontiguousarray(values[..., [band - 1 for band in channels]])
    return np.ascontiguousarray(values[..., :-1]) if header.alpha and channels != header.channels else values


def _luma(values: NDArray[Any]) -> NDArray[Any]:
    """Grey from uint8 or uint16 RGB with the integer weights of Pillow, which sum to 2**16."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    weighted = values.astype(np.uint32) @ weights  # at most 65535 * 2**16: fits 32 bits, with the rounding
    return ((weighted + 0x8000) >> 16).astype(values.dtype)[..., None]
