"""Find PNG files whose compressed pixels end before the last row.

A writer that was stopped can leave a stream that is closed correctly and has too few rows. No decoder reports that: the
missing rows are 0, which in a mask is a class.
"""

import zlib
from collections.abc import Iterator
from typing import IO

from PIL.PngImagePlugin import PngImageFile

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}  # by colour type (PNG specification, 11.2.2)
_ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
"""Of each pass of an interlaced file: first column and row, and the distance of columns and rows (8.2)."""

_CHUNK_BYTES = 2**20


def check_all_rows(image: PngImageFile, file: IO[bytes]) -> None:
    """Count the bytes of a decoded image whose last row is 0, or which is interlaced; others are complete.

    Raises:
        ValueError: states how many bytes of pixels are missing.
    """
    file.seek(0)
    header = file.read(29)
    bits, color, interlaced = header[24], header[25], bool(header[28])
    width, height = image.size
    if not interlaced and image.crop((0, height - 1, width, height)).tobytes().strip(b"\0"):
        return
    needed = _needed_bytes(width, height, bits * _CHANNELS[color], interlaced=interlaced)
    stream, found = zlib.decompressobj(), 0
    for data in _pixel_chunks(file):
        while data and found < needed:
            found += len(stream.decompress(data, _CHUNK_BYTES))
            data = stream.unconsumed_tail
    if found < needed:
        raise ValueError(f"its pixels end early: {found} of {needed} bytes")


def _needed_bytes(width: int, height: int, bits: int, *, interlaced: bool) -> int:
    """Bytes of all rows, each with the byte of its filter."""
    total = 0
    for left, top, across, down in _ADAM7 if interlaced else ((0, 0, 1, 1),):
        columns, rows = -(-(width - left) // across), -(-(height - top) // down)
        total += rows * (1 + (columns * bits + 7) // 8) if columns > 0 else 0
    return total


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
