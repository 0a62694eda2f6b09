"""COCO's run-length encoding, read and written: lengths of alternating runs down the columns, starting with background.

Source: `rleFrString` of the COCO API (pycocotools), Lin et al. 2014, arXiv 1405.0312.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Runs

_FIRST, _LAST = 48, 111
"""A character of a compressed run length encodes six bits, as an offset from the character 0."""

_MORE, _SIGN, _BITS = 0b100000, 0b10000, 5
_LONGEST = 7  # characters of one length: 35 bits; lengths are below 2**31


def decode_run_lengths(counts: object, *, height: int, width: int, where: Location) -> Runs:
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
    return Runs(borders[::2][: len(ends)], ends)


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


class RegionRuns(NamedTuple):
    """A region as COCO describes it.

    Attributes:
        counts: lengths of alternating runs down the columns of the whole image, starting with background.
        area: number of pixels.
        box: left, top, width and height in pixels.
    """

    counts: list[int]
    area: int
    box: tuple[int, int, int, int]


def encode_regions(numbers_HW: NDArray[np.integer]) -> dict[int, RegionRuns]:
    """Run lengths of every region of a map of numbers, 0 being no region; in the order of the numbers."""
    height = len(numbers_HW)
    flat = numbers_HW.ravel(order="F")
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    owners = flat[starts]
    order = np.argsort(owners, kind="stable")
    order = order[owners[order] > 0]
    starts, ends, owners = starts[order], ends[order], owners[order]
    several = starts // height != (ends - 1) // height  # runs that go on in the next column
    tops, bottoms = np.where(several, 0, starts % height), np.where(several, height - 1, (ends - 1) % height)
    places = np.flatnonzero(np.diff(owners, prepend=0))
    regions = {}
    for begin, stop in zip(places.tolist(), [*places[1:].tolist(), len(owners)], strict=True):
        some = slice(begin, stop)
        borders = np.stack([starts[some], ends[some]], axis=1).ravel()
        counts = np.diff(borders, prepend=0, append=flat.size)
        left, right = int(starts[begin]) // height, (int(ends[stop - 1]) - 1) // height
        top, bottom = int(tops[some].min()), int(bottoms[some].max())
        regions[int(owners[begin])] = RegionRuns(
            counts.tolist() if counts[-1] else counts[:-1].tolist(),
            int((ends[some] - starts[some]).sum()),
            (left, top, right + 1 - left, bottom + 1 - top),
        )
    return regions


def compress_run_lengths(counts: Sequence[int]) -> str:
    """COCO's text form of run lengths, the inverse of `_decompressed`; equal to pycocotools' in every character."""
    text = bytearray()
    for place, count in enumerate(counts):
        number = count - counts[place - 2] if place > 2 else count
        more = True
        while more:
            bits = number & (1 << _BITS) - 1
            number >>= _BITS
            more = number != (-1 if bits & _SIGN else 0)
            text.append(_FIRST + (bits | _MORE if more else bits))
    return text.decode()
