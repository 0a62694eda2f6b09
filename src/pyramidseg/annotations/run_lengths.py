"""COCO's run-length encoding: lengths of alternating runs down the columns, starting with background.

Source: `rleFrString` of the COCO API (pycocotools), Lin et al. 2014, arXiv 1405.0312.
"""

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Runs

_FIRST, _LAST = 48, 111
"""A character of a compressed run length encodes six bits, as an offset from the character 0."""

_MORE, _SIGN, _BITS = 0b100000, 0b10000, 5
_LONGEST = 7  # characters of one length: 35 bits; lengths are below 2**31


def decode_run_lengths(value: int, counts: object, *, height: int, width: int, where: Location, layer: int = 0) -> Runs:
    """Decode a run-length encoding, `counts` being a list of lengths or COCO's compressed string.

    Raises:
        DataError: `counts` is malformed, or the lengths do not add up to the image's size.
    """
    lengths = _decompressed(counts, where=where) if isinstance(counts, str) else _listed(counts, where=where)
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > height * width or lengths.sum() != height * width:
        raise where.error(
            f"run lengths must add up to the {height} x {width} = {height * width} pixels of the image; "
            f"got {len(lengths)} lengths of {lengths.sum()}"
        )
    borders = np.cumsum(lengths)
    ends = borders[1::2]
    return Runs(value, borders[::2][: len(ends)], ends, layer)


def _listed(counts: object, *, where: Location) -> NDArray[np.int64]:
    try:
        lengths = np.array(counts)
    except (TypeError, ValueError, OverflowError):
        lengths = np.array(None)
    if lengths.ndim != 1 or (lengths.size and lengths.dtype.kind not in "iu"):
        raise where.error("run lengths (counts) must be a list of whole numbers, or COCO's compressed string")
    return lengths.astype(np.int64)


def _decompressed(text: str, *, where: Location) -> NDArray[np.int64]:
    """Decode five bits per character, the lowest first, with a continuation flag, in two's complement.

    From the fourth on, each number is the difference to the length two positions before.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64)
    last = codes - _FIRST & _MORE == 0
    if codes.size and (codes.min() < _FIRST or codes.max() > _LAST or not last[-1]):
        raise where.error(
            f"compressed run lengths are damaged: {text[:20]!r}... is not a COCO encoding; export the annotation again"
        )
    codes -= _FIRST
    ends = np.flatnonzero(last)
    starts = np.concatenate([[0], ends[:-1] + 1])[: len(ends)]
    if (ends - starts >= _LONGEST).any():
        raise where.error("compressed run lengths contain a number larger than any image")
    place = np.arange(len(codes)) - np.repeat(starts, ends - starts + 1)
    bits = (codes & _MORE - 1) << _BITS * place
    numbers = np.add.reduceat(bits, starts) if len(starts) else bits
    numbers[codes[ends] & _SIGN != 0] -= 1 << _BITS * (ends - starts + 1)[codes[ends] & _SIGN != 0]
    numbers[1::2] = np.cumsum(numbers[1::2])
    numbers[2::2] = np.cumsum(numbers[2::2])
    return numbers
