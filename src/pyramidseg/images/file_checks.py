"""Limits that hold for every image file, and the translation of decoder exceptions into `DataError`."""

import ctypes
import logging
import os
import sys
import warnings
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from typing import IO, Any

import cv2
import PIL
from PIL.PngImagePlugin import PngImageFile

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import PyramidSegError, import_extra

MAX_PIXELS = 250_000_000
"""Larger images are rejected by their header: a file of a few kilobytes can claim gigabytes of pixels."""

PADDED_PX, MAX_PADDED_PIXELS = 32, 2**28
"""The limit also holds for sides rounded up to the coarsest stride, as models pad them: 1 x 250 million pixels would
become 8 billion."""

_PNG_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, 11.2.2)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced file: first column and row, and the distance of columns and rows (8.2)."""

_CHUNK_BYTES = 2**20


@contextmanager
def decoding_errors(path: Path) -> Iterator[None]:
    """Turn every exception of a decoder into one `DataError` line: damaged files cause almost any exception type."""
    try:
        yield
    except PyramidSegError:
        raise
    except FileNotFoundError:
        raise DefectError(DefectKind.ABSENT, path, "no such file") from None
    except IsADirectoryError:
        raise DefectError(DefectKind.FOREIGN, path, "a folder, not an image; name the images in it") from None
    except MemoryError as error:
        detail = "cannot be decoded in the free memory; free some, or cut the image into smaller files"
        raise DefectError(DefectKind.TOO_LARGE, path, detail) from error
    except Exception as error:
        told = error.__cause__ if type(error).__name__ == "RasterioIOError" and error.__cause__ else error
        reason = " ".join(str(told).split()).rstrip(".").replace(str(path), "file") or type(error).__name__
        detail = f"cannot be read as an image: {reason}; replace or remove the file"
        raise DefectError(DefectKind.DAMAGED, path, detail) from error


@cache
def silence_decoders() -> None:
    """Keep decoders from printing to stderr what our errors report: OpenCV, and Pillow with its own copy of libtiff."""
    (getattr(cv2, "setLogLevel", None) or cv2.utils.logging.setLogLevel)(0)  # silent; in OpenCV 4, and in 5
    warnings.filterwarnings("ignore", module=r"PIL\..*")
    for library in Path(PIL.__file__).parents[1].glob("pillow.libs/libtiff*"):
        with suppress(OSError, AttributeError):
            handlers = ctypes.CDLL(str(library))
            for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
                set_handler = getattr(handlers, name)
                set_handler.argtypes, set_handler.restype = (ctypes.c_void_p,), ctypes.c_void_p
                set_handler(None)


def check_pixel_count(path: Path, height: int, width: int) -> None:
    """Reject an image of more than `MAX_PIXELS`, or one so narrow that its padding would exceed the limit.

    Raises:
        DataError: names the file and its size.
    """
    padded_height, padded_width = (-(-side // PADDED_PX) * PADDED_PX for side in (height, width))
    if height * width > MAX_PIXELS:
        padding, limit = "", f"{MAX_PIXELS // 10**6} million per image"
    elif padded_height * padded_width > MAX_PADDED_PIXELS:
        padding = f", which models pad to {padded_height} x {padded_width},"
        limit = f"{MAX_PADDED_PIXELS // 10**6} million padded pixels"
    else:
        return
    step = "cut it into smaller files (pyramidseg predict reads TIFF and VRT files of any size in windows)"
    detail = f"{height} x {width} pixels{padding} exceed the limit of {limit}; {step}"
    raise DefectError(DefectKind.TOO_LARGE, path, detail)


def several_pages(path: Path) -> DefectError:
    """The error for a file of more than one page or frame."""
    return DefectError(DefectKind.SEVERAL_PAGES, path, "has several pages or frames; save each as a separate file")


def size_bytes(file: IO[bytes]) -> int:
    """Size of an open file; its position is kept."""
    position = file.tell()
    size = file.seek(0, os.SEEK_END)
    file.seek(position)
    return size


def check_all_rows(image: PngImageFile, file: IO[bytes]) -> None:
    """Refuse a decoded PNG file whose compressed pixels end before the last row.

    A writer that was stopped can leave a stream that is closed correctly and has too few rows. No decoder reports that:
    the missing rows are 0, which in a mask is a class. Bytes are counted only if the last row is 0, or the file is
    interlaced.

    Raises:
        ValueError: states how many bytes of pixels are missing.
    """
    file.seek(0)
    header = file.read(29)
    bits, color, interlaced = header[24], header[25], bool(header[28])
    width, height = image.size
    if not interlaced and image.crop((0, height - 1, width, height)).tobytes().strip(b"\0"):
        return
    needed = 0  # bytes of all rows, each with the byte of its filter
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        needed += rows * (1 + (columns * bits * _PNG_CHANNELS[color] + 7) // 8) if columns > 0 else 0
    stream, found = zlib.decompressobj(), 0
    for data in _pixel_chunks(file):
        while data and found < needed:
            found += len(stream.decompress(data, _CHUNK_BYTES))
            data = stream.unconsumed_tail
    if found < needed:
        raise ValueError(f"its pixels end early: {found} of {needed} bytes")


def _pixel_chunks(file: IO[bytes]) -> Iterator[bytes]:
    """The contents of the chunks of pixels (IDAT)."""
    file.seek(8)
    while len(start := file.read(8)) == 8:
        length, name = int.from_bytes(start[:4], "big"), start[4:]
        if name == b"IDAT":
            yield file.read(length)
            file.seek(4, 1)  # the checksum
        else:
            file.seek(length + 4, 1)


def import_rasterio(purpose: str) -> Any:
    """rasterio, without its messages about what our errors report, and about images that have no place on a map.

    Raises:
        MissingExtra: it is not installed.
    """
    import_extra("rasterio.warp", extra="geo", purpose=purpose)  # also imports rasterio.crs
    rasterio = sys.modules["rasterio"]
    if not (logger := logging.getLogger("rasterio")).handlers:
        logger.addHandler(logging.NullHandler())
    warnings.filterwarnings("ignore", category=rasterio.errors.NotGeoreferencedWarning)
    return rasterio
