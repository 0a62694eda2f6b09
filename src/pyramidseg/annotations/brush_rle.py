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
    pixels = np.zeros(total, np.uint8)
    place = 0
    while place < total:
        is_run, size = read(1), sizes[read(2)]
        count = read(size) + 1
        words = _WORD if is_run else _WORD * count
        if position + words > len(bits):
            raise where.error("its run lengths (rle) end too early; export it again")
        pixels[place : place + count] = np.packbits(bits[position : position + words])[: total - place]
        position += words
        place += count
    return pixels.reshape(height, width, 4)[..., 3] > 0
