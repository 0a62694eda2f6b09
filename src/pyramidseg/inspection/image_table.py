"""What is kept of every image of a dataset until all have been seen: 40 bytes each."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.records import Record
from pyramidseg.inspection.pair_inspection import ImageFacts


@dataclass(frozen=True)
class PixelIndex:
    """Records by number: those of the first split come first.

    Attributes:
        starts: the number of each split's first record, and the number of all.
    """

    splits: Mapping[str, tuple[Record, ...]]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, splits: Mapping[str, tuple[Record, ...]]) -> "PixelIndex":
        """Numbered in the order of the splits."""
        return cls(splits, (0, *np.cumsum([len(records) for records in splits.values()]).tolist()))

    def __len__(self) -> int:
        return self.starts[-1]

    def split_number(self, place: int) -> int:
        """Which split a record is of, from 0."""
        return int(np.searchsorted(self.starts, place, side="right")) - 1

    def record(self, place: int) -> Record:
        """The record of a number."""
        number = self.split_number(place)
        return list(self.splits.values())[number][place - self.starts[number]]

    def split(self, place: int) -> str:
        """The name of the split that a record is of."""
        return list(self.splits)[self.split_number(place)]


class ImageTable:
    """Facts by record number; images that could not be decoded are not `known`."""

    def __init__(self, places: PixelIndex) -> None:
        count = len(places)
        self.places = places
        self.known = np.zeros(count, np.bool_)
        self.height = np.zeros(count, np.int32)
        self.width = np.zeros(count, np.int32)
        self.channels = np.zeros(count, np.int32)
        self.dtype = np.zeros(count, np.int8)
        self.looks_like = np.zeros(count, np.bool_)
        self.look = np.zeros(count, np.uint64)
        self.content = np.zeros(count, np.uint32)
        self.dtypes: list[str] = []

    def put(self, place: int, facts: ImageFacts) -> None:
        """Keep what is known of one image."""
        if facts.dtype not in self.dtypes:
            self.dtypes.append(facts.dtype)
        self.known[place] = True
        self.height[place], self.width[place] = facts.height, facts.width
        self.channels[place], self.dtype[place] = facts.channels, self.dtypes.index(facts.dtype)
        self.content[place] = facts.content
        if facts.look is not None:
            self.looks_like[place], self.look[place] = True, facts.look

    def same(self) -> list[NDArray[np.int64]]:
        """Groups of two and more images that are alike in size, type, look and content; each in ascending order."""
        places = np.flatnonzero(self.known)
        columns = (self.content, self.look, self.height, self.width, self.channels, self.dtype)
        keys: tuple[NDArray[Any], ...] = tuple(column[places] for column in columns)
        order = np.lexsort((places, *keys))
        differs = np.zeros(max(0, len(order) - 1), np.bool_)
        for key in keys:
            differs |= key[order][1:] != key[order][:-1]
        groups = np.split(places[order], np.flatnonzero(differs) + 1)
        return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))
