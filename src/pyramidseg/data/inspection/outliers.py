"""Images that are unlike the rest: in channels, bit depth, size or proportions."""

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.inspection.image_table import ImageTable

FAR = 4.0
"""How many times larger or smaller a side, or how many times more elongated an image, has to be to be told."""


def find_outliers(table: ImageTable) -> Iterator[Defect]:
    """Images that differ from most in kind, and from the median one in size or proportions."""
    known = np.flatnonzero(table.known)
    if not len(known):
        return
    yield from _mixed(table, known)
    height, width = table.height[known].astype(np.float64), table.width[known].astype(np.float64)
    sides, aspects = np.sqrt(height * width), np.maximum(height, width) / np.minimum(height, width)
    side, aspect = float(np.median(sides)), float(np.median(aspects))
    for index in np.flatnonzero((sides > FAR * side) | (sides < side / FAR)).tolist():
        how = "larger" if sides[index] > side else "smaller"
        factor = max(sides[index] / side, side / sides[index])
        detail = (
            f"is {_size(table, known[index])} pixels, {factor:.1f} times {how} in each direction than the median image "
            f"({FAR:g} is far); resize it or cut it into pieces, or take it out"
        )
        yield Defect(Kind.EXTREME_SIZE, table.places.record(int(known[index])).image, detail)
    for index in np.flatnonzero(aspects > FAR * aspect).tolist():
        detail = (
            f"is {_size(table, known[index])} pixels: its long side is {aspects[index]:.1f} times the short one, and "
            f"{aspect:.1f} times in the median image; cut it into pieces, or take it out"
        )
        yield Defect(Kind.EXTREME_ASPECT, table.places.record(int(known[index])).image, detail)


def _mixed(table: ImageTable, known: NDArray[np.int64]) -> Iterator[Defect]:
    """Images whose channels or bit depth the majority does not share; of equally frequent ones, the larger number."""
    usual = _most_frequent(table.channels[known])
    for place in known[table.channels[known] != usual].tolist():
        mine = table.channels[place]
        detail = (
            f"has {mine} channel{'s' if mine > 1 else ''} beside alpha, and most images have {usual}; convert one kind"
        )
        yield Defect(Kind.MIXED_CHANNELS, table.places.record(place).image, detail)
    kind = _most_frequent(table.dtype[known])
    for place in known[table.dtype[known] != kind].tolist():
        mine, most = table.dtypes[table.dtype[place]], table.dtypes[kind]
        detail = f"holds {mine} values, and most images hold {most}; they cannot be mixed: convert one kind"
        yield Defect(Kind.MIXED_DEPTHS, table.places.record(place).image, detail)


def _most_frequent(numbers: NDArray[np.signedinteger]) -> int:
    values, counts = np.unique(numbers, return_counts=True)
    return int(values[len(counts) - 1 - np.argmax(counts[::-1])])


def _size(table: ImageTable, place: int) -> str:
    return f"{table.height[place]} x {table.width[place]}"
