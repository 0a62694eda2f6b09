"""Facts about every image of a dataset in columns: 40 bytes an image."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.records import Record
from pyramidseg.inspection.inspect_pair import ImageFacts


@dataclass(frozen=True)
class RecordIndex:
    """Numbers the records of all splits, in the order of the splits.

    Attributes:
        starts: the number of each split's first record, and the number of all records.
    """

    splits: Mapping[str, tuple[Record, ...]]
    starts: tuple[int, ...]

    @classmethod
    def of(cls, splits: Mapping[str, tuple[Record, ...]]) -> "RecordIndex":
        """Number the records of these splits."""
        return cls(splits, (0, *np.cumsum([len(records) for records in splits.values()]).tolist()))

    def __len__(self) -> int:
        return self.starts[-1]

    def split_number(self, index: int) -> int:
        """The number of a record's split, from 0."""
        return int(np.searchsorted(self.starts, index, side="right")) - 1

    def record(self, index: int) -> Record:
        """The record of a number."""
        number = self.split_number(index)
        return list(self.splits.values())[number][index - self.starts[number]]

    def split(self, index: int) -> str:
        """The name of a record's split."""
        return list(self.splits)[self.split_number(index)]


class ImageTable:
    """Columns by record number; `known` is False for images that could not be read."""

    def __init__(self, records: RecordIndex) -> None:
        count = len(records)
        self.records = records
        self.known = np.zeros(count, np.bool_)
        self.height = np.zeros(count, np.int32)
        self.width = np.zeros(count, np.int32)
        self.channels = np.zeros(count, np.int32)
        self.dtype = np.zeros(count, np.int8)
        self.has_hash = np.zeros(count, np.bool_)
        self.hash = np.zeros(count, np.uint64)
        self.checksum = np.zeros(count, np.uint32)
        self.dtypes: list[str] = []

    def add(self, index: int, facts: ImageFacts) -> None:
        """Store what is known of one image."""
        if facts.dtype not in self.dtypes:
            self.dtypes.append(facts.dtype)
        self.known[index] = True
        self.height[index], self.width[index] = facts.height, facts.width
        self.channels[index], self.dtype[index] = facts.channels, self.dtypes.index(facts.dtype)
        if facts.pixels is None:
            return
        self.checksum[index] = facts.pixels.checksum
        if facts.pixels.hash is not None:
            self.has_hash[index], self.hash[index] = True, facts.pixels.hash

    def same_checksum(self) -> list[NDArray[np.int64]]:
        """Groups of two and more images of the same size, dtype, hash and checksum; each in ascending order."""
        indices = np.flatnonzero(self.known)
        columns = (self.checksum, self.hash, self.height, self.width, self.channels, self.dtype)
        keys: tuple[NDArray[Any], ...] = tuple(column[indices] for column in columns)
        order = np.lexsort((indices, *keys))
        differs = np.zeros(max(0, len(order) - 1), np.bool_)
        for key in keys:
            differs |= key[order][1:] != key[order][:-1]
        groups = np.split(indices[order], np.flatnonzero(differs) + 1)
        return sorted((group for group in groups if len(group) > 1), key=lambda group: int(group[0]))
