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
    stream = _BitStream(values.astype(np.uint8))
    total, word = stream.read(32), stream.read(5) + 1
    sizes = [stream.read(4) + 1 for _ in range(4)]
    if len(values) * 8 < _HEADER or word != _WORD or total != 4 * height * width:
        raise where.error(
            f"its run lengths (rle) are of {total} words of {word} bits, but the image of {height} x {width} pixels "
            f"(height x width) needs {4 * height * width} of {_WORD}; export it again"
        )
    pixels = np.zeros(total, np.uint8)
    place = 0
    while place < total:
        is_run, size = stream.read(1), sizes[stream.read(2)]
        count = stream.read(size) + 1
        if stream.position + (_WORD if is_run else _WORD * count) > stream.length:
            raise where.error("its run lengths (rle) end too early; export it again")
        pixels[place : place + count] = stream.read(_WORD) if is_run else stream.words(count)[: total - place]
        place += count
    return pixels.reshape(height, width, 4)[..., 3] > 0


class _BitStream:
    """Reads whole numbers, most significant bit first; zeros beyond the end."""

    def __init__(self, data: NDArray[np.uint8]) -> None:
        self._array, self._bytes = data, data.tobytes()
        self.position, self.length = 0, 8 * len(data)

    def read(self, bits: int) -> int:
        first, offset = divmod(self.position, 8)
        self.position += bits
        window = int.from_bytes(self._bytes[first : first + 5].ljust(5, b"\0"), "big")
        return window >> (40 - offset - bits) & ((1 << bits) - 1)

    def words(self, count: int) -> NDArray[np.uint8]:
        """The next words of 8 bits."""
        first, offset = divmod(self.position, 8)
        self.position += 8 * count
        data = self._array[first : first + count + 1].astype(np.uint16)
        following = np.append(data[1:], np.zeros(count + 1 - len(data) + 1, np.uint16))[:count]
        return ((data[:count] << 8 | following) >> (8 - offset)).astype(np.uint8)
