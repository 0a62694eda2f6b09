"""The one image loader: training, prediction and everything after read their images here."""

from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.config import Channels
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.images.nodata import MaskedImage, find_nodata
from pyramidseg.images.open_image import OpenImage, apply_orientation, open_image, pixels
from pyramidseg.images.tiff import TiffHeader, decode_tiff, read_tiff_header

_GREY = ("L", "1", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N", "F")
_TYPES = ("uint8", "uint16", "int16", "float16", "float32", "float64")
_COLOR = ("RGB", "RGBX", "P", "CMYK", "YCbCr", "RGBA", "RGBa", "PA")


class ImageHeader(NamedTuple):
    """What is known of an image before its pixels are decoded; the size is that of the turned image.

    Attributes:
        channels: as stored, alpha among them.
        alpha: whether the last channel is transparency.
        color: whether the others are red, green and blue.
        holes: whether pixels may hold nothing, which only decoding shows.
    """

    height: int
    width: int
    channels: int
    dtype: str
    alpha: bool = False
    color: bool = False
    holes: bool = False


def read_image(path: Path, *, channels: Channels) -> NDArray[Any]:
    """Read an image, turned as its EXIF tag asks for, with the channels that a model takes.

    A file that has this number of channels is taken as it is. Else, for 3 channels grey is repeated, for 1 channel
    colour becomes luma (ITU-R BT.601), and alpha is dropped, not blended: the colour below it counts, as there is no
    background to assume. Palettes, CMYK and YCbCr become RGB, 1-bit images 0 and 255. 16 bits stay 16 bits. Holes are
    filled (`MaskedImage.filled`).

    Returns:
        (H, W, channels): uint8, uint16, int16, or float32 for floating-point TIFF of any width.

    Raises:
        DataError: unreadable (`image_files.opened`, `tiff`), of a kind that has no meaning here, or without the
            channels asked for.
    """
    return read_masked_image(path, channels=channels).filled()


def read_masked_image(path: Path, *, channels: Channels | None = None) -> MaskedImage:
    """As `read_image`, with the holes of TIFF files (`find_nodata`) as they are stored.

    Transparent pixels are holes too where a georeferenced file has an alpha channel that is dropped.

    Args:
        channels: None for all that the file has, alpha aside.

    Raises:
        DataError: as `read_image`.
    """
    tiff = read_tiff_header(path)
    if tiff is not None and not tiff.plain:
        header = _describe_raster(path, tiff)
        channels = _checked(path, header, channels)
        values = apply_orientation(decode_tiff(path, tiff), tiff.orientation)
    else:
        with open_image(path) as file:
            header = _describe(path, file, tiff)
            channels = _checked(path, header, channels)
            values = apply_orientation(_decode(path, file, header), file.orientation)
    assert values.shape == header[:3], path
    chosen = _chosen(values, header, channels)
    holes = None if tiff is None else find_nodata(chosen, tiff.nodata)
    if tiff is not None and tiff.georeferenced and header.alpha and channels in (1, 3):
        transparent = np.broadcast_to(values[..., -1:] == 0, chosen.shape)
        holes = transparent if holes is None else holes | transparent
    if isinstance(channels, tuple) or chosen.shape[2] == channels:
        return MaskedImage(chosen, holes)
    if chosen.shape[2] == 1:
        return MaskedImage(
            np.repeat(chosen, channels, axis=2), None if holes is None else np.repeat(holes, channels, 2)
        )
    pixels = MaskedImage(chosen, holes)
    empty = pixels.empty()
    return MaskedImage(_luma(pixels.filled()), None if empty is None else empty[..., None])


def read_header(path: Path) -> ImageHeader:
    """Size, channels and type of an image, from its header alone.

    Raises:
        DataError: as `read_image`, as far as the header tells.
    """
    tiff = read_tiff_header(path)
    if tiff is not None and not tiff.plain:
        return _describe_raster(path, tiff)
    with open_image(path) as file:
        return _describe(path, file, tiff)


def image_size(path: Path) -> tuple[int, int]:
    """Height and width of an image after turning, from its header alone.

    Raises:
        DataError: as `read_header`.
    """
    return read_header(path)[:2]


def pixel_count(path: Path) -> int:
    """MaskedImage of an image, from its header alone; 0 where that cannot be read, which decoding will say."""
    try:
        height, width = image_size(path)
    except DataError:
        return 0
    return height * width


def check_channels(path: Path, header: ImageHeader, channels: Channels) -> None:
    """Refuse an image that cannot be had with these channels.

    Raises:
        DataError: names the file, the number it has and the numbers it can be read with.
    """
    if isinstance(channels, tuple):
        if max(channels) > header.channels:
            raise DataError(
                f"{path}: has {header.channels} bands, and band {max(channels)} is asked for; bands count from 1 "
                "(data.bands)"
            )
        return
    possible = {header.channels}
    if header.channels - header.alpha == 1 or header.color:
        possible |= {1, 3}
    if channels not in possible:
        numbers = ", ".join(map(str, sorted(possible)))
        choose = "" if header.channels <= channels else ", or with bands chosen (data.bands=[1,2,3])"
        raise DataError(
            f"{path}: has {header.channels} channels and {channels} are asked for; it can be read with {numbers}: give "
            f"images with {channels}, or train with model.in_channels={header.channels}{choose}"
        )


def _checked(path: Path, header: ImageHeader, channels: Channels | None) -> Channels:
    if channels is None:
        return header.channels - header.alpha
    check_channels(path, header, channels)
    return channels


def _describe_raster(path: Path, tiff: TiffHeader) -> ImageHeader:
    """A file that `decode_tiff` reads."""
    if tiff.dtype not in _TYPES:
        raise DefectError(
            DefectKind.UNREADABLE_IMAGE,
            path,
            f"{tiff.bands} bands of {tiff.dtype} values are not read; make them uint8, uint16, int16 or float32",
        )
    height, width = (tiff.width, tiff.height) if tiff.orientation >= 5 else (tiff.height, tiff.width)
    dtype = "float32" if tiff.dtype.startswith("float") else tiff.dtype
    color = tiff.color and tiff.bands == 3 + tiff.alpha and dtype in ("uint8", "uint16")
    return ImageHeader(height, width, tiff.bands, dtype, tiff.alpha, color, _may_have_holes(tiff))


def _describe(path: Path, file: OpenImage, tiff: TiffHeader | None) -> ImageHeader:
    """A file that Pillow and OpenCV read."""
    mode = file.image.mode
    signed = mode == "I" and tiff is not None and tiff.dtype == "int16"
    if not signed and (mode not in _GREY + _COLOR or (mode == "CMYK" and _is_deep(file))):
        raise DataError(
            f"{path}: pixels of kind {mode} with {file.bits} bits are not read; convert it to 8 or 16 bit grey or RGB"
        )
    alpha = mode.upper().endswith("A") or (mode == "P" and "transparency" in file.image.info)
    deep = "uint16" if mode.startswith("I;16") or _is_deep(file) else "uint8"
    dtype = "int16" if signed else "float32" if mode == "F" else deep
    channels = (1 if signed or mode in _GREY else 3) + alpha
    return ImageHeader(*file.size, channels, dtype, alpha, mode in _COLOR, tiff is not None and _may_have_holes(tiff))


def _may_have_holes(tiff: TiffHeader) -> bool:
    """See `read_masked_image`."""
    return tiff.nodata is not None or tiff.dtype.startswith("float") or (tiff.georeferenced and tiff.alpha)


def _is_deep(file: OpenImage) -> bool:
    """Whether Pillow would reduce the file's 16 bits to 8, which it does for all but plain grey."""
    return file.bits == 16 and file.image.mode in ("LA", *_COLOR)


def _decode(path: Path, file: OpenImage, header: ImageHeader) -> NDArray[Any]:
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
    if image.mode.startswith("I"):
        values = values.astype(header.dtype)  # to the machine's own byte order, or from the 32 bits of Pillow's int16
    return values.reshape(*values.shape[:2], -1)


def _decode_deep(path: Path, *, channels: int) -> NDArray[Any]:
    data = np.frombuffer(path.read_bytes(), np.uint8)
    values = cv2.imdecode(data, cv2.IMREAD_UNCHANGED)
    if values is None or values.dtype != np.uint16 or values.shape[2:] != (channels,):
        raise DataError(f"{path}: this kind of 16-bit file is not read; save it as RGB PNG or TIFF, uncompressed")
    return values[..., [2, 1, 0, 3][:channels]]  # OpenCV has BGR and BGRA


def _chosen(values: NDArray[Any], header: ImageHeader, channels: Channels) -> NDArray[Any]:
    """The bands asked for, or all but an alpha that is not."""
    if isinstance(channels, tuple):
        return np.ascontiguousarray(values[..., [band - 1 for band in channels]])
    return np.ascontiguousarray(values[..., :-1]) if header.alpha and channels != header.channels else values


def _luma(values: NDArray[Any]) -> NDArray[Any]:
    """Grey of uint8 or uint16 RGB by the integer weights of Pillow, which add up to 2**16."""
    weights = np.array([19595, 38470, 7471], np.uint32)
    weighted = values.astype(np.uint32) @ weights  # at most 65535 * 2**16: fits 32 bits, with the rounding
    return ((weighted + 0x8000) >> 16).astype(values.dtype)[..., None]
