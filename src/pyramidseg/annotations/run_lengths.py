"""COCO's run-length encoding, read and written: lengths of alternating runs down the columns, starting with background.

Source: `rleFrString` of the COCO API (pycocotools), Lin et al. 2014, arXiv 1405.0312.
"""

import itertools
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Runs

_FIRST, _LAST = 48, 111
"""A character of a compressed run length encodes six bits, as an offset from the character 0."""

_MORE, _SIGN, _BITS = 0b100000, 0b10000, 5
_SHORT = 150  # characters, beyond which NumPy takes less time than a loop in Python
_LONGEST = 7  # characters of one length: 35 bits; lengths are below 2**31


def decode_run_lengths(counts: object, *, height: int, width: int, where: Location) -> Runs:
    """Decode a run-length encoding, `counts` being a list of lengths or COCO's compressed string.

    Raises:
        DataError: `counts` is malformed, or the lengths do not add up to the image's size.
    """
    lengths = _decompressed(counts, where=where) if isinstance(counts, str) else whole_numbers(counts)
    if lengths is None:
        raise where.error("run lengths (counts) must be a list of whole numbers, or COCO's compressed string")
    if lengths.min(initial=0) < 0 or lengths.max(initial=0) > height * width or lengths.sum() != height * width:
        raise where.error(
            f"run lengths must add up to the {height} x {width} = {height * width} pixels of the image; "
            f"got {len(lengths)} lengths of {lengths.sum()}"
        )
    borders = np.cumsum(lengths)
    ends = borders[1::2]
    return Runs(borders[::2][: len(ends)], ends)


def whole_numbers(values: object) -> NDArray[np.int64] | None:
    """A list of whole numbers as an array; None for anything else."""
    try:
        numbers = np.array(values)
    except (TypeError, ValueError, OverflowError):
        return None
    if numbers.ndim != 1 or (numbers.size and numbers.dtype.kind not in "iu"):
        return None
    return numbers.astype(np.int64)


def _decompressed(text: str, *, where: Location) -> NDArray[np.int64]:
    """Decode five bits per character, the lowest first, with a continuation flag, in two's complement.

    From the fourth on, each number is the difference to the length two positions before.
    """
    if len(text) <= _SHORT and (lengths := _decompressed_short(text)) is not None:
        return lengths
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


def _decompressed_short(text: str) -> NDArray[np.int64] | None:
    """`_decompressed` of few characters in less time; None if the text is damaged."""
    numbers: list[int] = []
    number = size = 0
    for code in text.encode("utf-8", "replace"):
        if not _FIRST <= code <= _LAST or size >= _BITS * _LONGEST:
            return None
        number |= (code - _FIRST & _MORE - 1) << size
        size += _BITS
        if not code - _FIRST & _MORE:
            number -= (code - _FIRST & _SIGN) << size - _BITS + 1
            numbers.append(number + (numbers[-2] if len(numbers) > 2 else 0))
            number = size = 0
    return None if size else np.array(numbers, np.int64)


class RegionRuns(NamedTuple):
    """A region as COCO describes it.

    Attributes:
        counts: lengths of alternating runs down the columns of the whole image, starting with background.
        first: row and column of its first pixel in this order.
        area: number of pixels.
        box: left, top, width and height in pixels.
    """

    counts: list[int]
    first: tuple[int, int]
    area: int
    box: tuple[int, int, int, int]


def encode_regions(numbers_HW: NDArray[np.integer]) -> dict[int, RegionRuns]:
    """Run lengths of every region of a map of numbers, 0 being no region; in the order of the numbers."""
    height = len(numbers_HW)
    flat = cv2.transpose(numbers_HW).ravel()  # in a third of the time of NumPy
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    ends = np.append(starts[1:], flat.size)
    owners = flat[starts]
    order = np.flatnonzero(owners)
    small = owners[order].astype(np.min_scalar_type(int(owners.max(initial=0))), copy=False)
    order = order[np.argsort(small, kind="stable")]  # of numbers up to 65535 in a third of the time
    starts, ends, owners = starts[order], ends[order], owners[order]
    several = starts // height != (ends - 1) // height  # runs that go on in the next column
    tops, bottoms = np.where(several, 0, starts % height), np.where(several, height - 1, (ends - 1) % height)
    places = np.flatnonzero(np.diff(owners, prepend=0))
    if not len(places):
        return {}
    areas = np.add.reduceat(ends - starts, places).tolist()
    highest, lowest = np.minimum.reduceat(tops, places).tolist(), np.maximum.reduceat(bottoms, places).tolist()
    begins, stops = places.tolist(), [*places[1:].tolist(), len(owners)]
    lengths = np.diff(np.stack([starts, ends], axis=1).ravel()).tolist()
    regions = {}
    for at, (begin, stop) in enumerate(zip(begins, stops, strict=True)):
        first, end = int(starts[begin]), int(ends[stop - 1])
        counts = [first, *lengths[2 * begin : 2 * stop - 1], flat.size - end]
        left, right, top = first // height, (end - 1) // height, highest[at]
        regions[int(owners[begin])] = RegionRuns(
            counts if counts[-1] else counts[:-1],
            (first % height, left),
            areas[at],
            (left, top, right + 1 - left, lowest[at] + 1 - top),
        )
    return regions


def compress_run_lengths(several: Iterable[Sequence[int]]) -> list[str]:
    """COCO's text form of run lengths, the inverse of `_decompressed`; equal to pycocotools' in every character."""
    lists = [*several]
    sizes = [len(counts) for counts in lists]
    lengths = np.fromiter(itertools.chain.from_iterable(lists), np.int64, sum(sizes))
    ends = np.cumsum(sizes)
    place = np.arange(len(lengths)) - np.repeat(ends - sizes, sizes)
    numbers = lengths - np.where(place > 2, np.roll(lengths, 2), 0)
    characters = np.zeros((len(lengths), _LONGEST), np.uint8)
    unfinished = np.arange(len(lengths))
    for digit in range(_LONGEST):
        bits = numbers & (1 << _BITS) - 1
        numbers >>= _BITS
        more = numbers != np.where(bits & _SIGN, -1, 0)
        characters[unfinished, digit] = _FIRST + np.where(more, bits | _MORE, bits)
        numbers, unfinished = numbers[more], unfinished[more]
    used = characters > 0
    text = characters[used].tobytes().decode()
    borders = [0, *np.cumsum(used.sum(1))[ends - 1].tolist()] if lists else [0]
    return [text[begin:end] for begin, end in itertools.pairwise(borders)]
