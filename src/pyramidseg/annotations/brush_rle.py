"""Run lengths of Label Studio's brush: a bit stream of an image's RGBA bytes; alpha above 0 is the region.

The header has 32 bits for the number of bytes, 5 for the word size less 1, and four times 4 for the size of a length
less 1. Each packet has a bit (1: a run, 0: literals), 2 bits for the size of its length, the length less 1, and one
word or all words. Source: thi.ng/rle-pack, and label_studio_sdk.converter.brush.
"""

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location
from pyramidseg.annotations.run_lengths import whole_numbers

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
    values = whole_numbers(rle)
    if values is None or not len(values) or values.min() < 0 or values.max() > 255:
        raise where.error("its run lengths (rle) have to be a list of whole numbers from 0 to 255")
    data = values.astype(np.uint8)
    fields = f"{int.from_bytes(data[:7].tobytes().ljust(7)):056b}"
    total, word = int(fields[:32], 2), int(fields[32:37], 2) + 1
    sizes = [int(fields[begin : begin + 4], 2) + 1 for begin in range(37, _HEADER, 4)]
    if len(data) < 7 or word != _WORD or total != 4 * height * width:
        raise where.error(
            f"its run lengths (rle) are of {total} words of {word} bits, but the image of {height} x {width} pixels "
            f"(height x width) needs {4 * height * width} of {_WORD}; export it again"
        )
    shifted = [np.append(data, [0] * 5)[byte : len(data) + 1 + byte].astype(np.int64) for byte in range(5)]
    windows = (np.stack(shifted, 1) << np.arange(32, -1, -8)).sum(1).tolist()  # 40 bits from each byte on
    bits, words = np.unpackbits(data), list[int]()
    counts: list[int] = []
    place, position = 0, _HEADER
    while place < total:
        window = windows[position >> 3] >> 8 - (position & 7) & 0xFFFFFFFF
        code, size = window >> 29, sizes[window >> 29 & 3]
        count = (window >> 29 - size & (1 << size) - 1) + 1
        position += 3 + size
        end = position + (_WORD if code & 4 else _WORD * count)
        if end > len(bits):
            raise where.error("its run lengths (rle) end too early; export it again")
        place += count
        if code & 4 or count == 1:
            words.append(window >> 21 - size & 0xFF)
            counts.append(count)
        else:
            words += np.packbits(bits[position:end]).tolist()
            counts += [1] * count
        position = end
    alphas = np.diff(np.cumsum(counts) // 4, prepend=0)  # every fourth word is one
    return np.repeat(np.array(words) > 0, alphas)[: height * width].reshape(height, width)


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
    header = f"{4 * flat.size:032b}{_WORD - 1:05b}" + "".join(f"{size - 1:04b}" for size in _SIZES)
    bits = np.unpackbits((packets << 32 - widths).astype(">u4").view(np.uint8)).reshape(-1, 32)
    used = bits[np.arange(32) < widths[:, None]]
    return np.packbits(np.concatenate([np.array([*map(int, header)], np.uint8), used])).tolist()
