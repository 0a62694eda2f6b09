"""Run lengths of Label Studio's brush: a bit stream of an image's RGBA bytes; alpha above 0 is the region.

The header has 32 bits for the number of bytes, 5 for the word size less 1, and four times 4 for the size of a length
less 1. Each packet has a bit (1: a run, 0: literals), 2 bits for the size of its length, the length less 1, and one
word or all words. Source: thi.ng/rle-pack, and label_studio_sdk.converter.brush.
"""

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location

_WORD = 8
_HEADER = 32 + 5 + 4 * 4
_SIZES = (3, 4, 8, 16)
"""Bits of a length in what is written; Label Studio's own sizes."""

_LONGEST = 1 << 16


def decode_brush(rle: object, *, height: int, width: int, where: Location) -> NDArray[np.bool_]:
    """The pixels of a brush region.

    Args:
        rle: a list of byte values.

    Returns:
        (height, width); True where alpha is above 0, soft borders included, as Label Studio's own converter takes it.

    Raises:
        DataError: malformed, or of another number of pixels.
    """
    try:
        values = np.array(rle)
    except (TypeError, ValueError, OverflowError):
        values = np.array(None)
    if values.ndim != 1 or values.dtype.kind not in "iu" or values.min(initial=0) < 0 or values.max(initial=0) > 255:
        raise where.error("its run lengths (rle) have to be a list of whole numbers from 0 to 255")
    bits = np.unpackbits(values.astype(np.uint8))
    text, position = (bits + ord("0")).tobytes().decode(), 0

    def read(count: int) -> int:
        """A whole number, most significant bit first; 0 beyond the end."""
        nonlocal position
        position += count
        return int(text[position - count : position] or "0", 2)

    total, word = read(32), read(5) + 1
    sizes = [read(4) + 1 for _ in range(4)]
    if len(bits) < _HEADER or word != _WORD or total != 4 * height * width:
        raise where.error(
            f"its run lengths (rle) are of {total} words of {word} bits, but the image of {height} x {width} pixels "
            f"(height x width) needs {4 * height * width} of {_WORD}; export it again"
        )
    words: list[int] = []
    counts: list[int] = []
    place = 0
    while place < total:
        code = read(3)
        count = read(sizes[code & 3]) + 1
        if position + (_WORD if code & 4 else _WORD * count) > len(bits):
            raise where.error("its run lengths (rle) end too early; export it again")
        place += count
        if code & 4:
            words.append(read(_WORD))
            counts.append(count)
        else:
            words += np.packbits(bits[position : position + _WORD * count]).tolist()
            counts += [1] * count
            position += _WORD * count
    pixels = np.repeat(np.array(words, np.uint8), counts)[:total]
    return pixels.reshape(height, width, 4)[..., 3] > 0


def encode_brush(pixels_HW: NDArray[np.bool_]) -> list[int]:
    """Run lengths of a region, as runs of at most 65536 bytes, which are 255 inside and 0 outside.

    Returns:
        A list of byte values, which `decode_brush` and Label Studio read.
    """
    flat = pixels_HW.ravel()
    borders = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1, [flat.size]])
    runs, words = 4 * np.diff(borders), np.where(flat[borders[:-1]], 255, 0)
    pieces = -(-runs // _LONGEST)  # each of the longest length but the last
    lengths, words = np.full(pieces.sum(), _LONGEST), np.repeat(words, pieces)
    lengths[np.cumsum(pieces) - 1] = runs - (pieces - 1) * _LONGEST
    choice = np.searchsorted([1 << size for size in _SIZES], lengths)
    sizes = np.array(_SIZES)[choice]
    widths = 3 + sizes + _WORD
    packets = (4 + choice) << (sizes + _WORD) | (lengths - 1) << _WORD | words
    ends = _HEADER + np.cumsum(widths)
    bits = np.zeros(ends[-1], np.uint8)
    bits[:32] = np.unpackbits(np.array([4 * flat.size], ">u4").view(np.uint8))
    bits[32:_HEADER] = [int(bit) for bit in f"{_WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)]
    for size in range(1, int(widths.max()) + 1):  # the last bit of each packet, then the one before
        some = widths >= size
        bits[ends[some] - size] = packets[some] >> (size - 1) & 1
    return np.packbits(bits).tolist()
