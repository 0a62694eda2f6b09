"""Facts about every image of a dataset in columns: 40 bytes an image."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.channel_statistics import ChannelSums
from pyramidseg.data.records import Record


class PixelFacts(NamedTuple):
    """What is kept of decoded pixels.

    Attributes:
        hash: see `perceptual_hash`.
        checksum: CRC-32 of the pixels as stored.
        sums: of each channel.
    """

    hash: int | None
    checksum: int
    sums: list[ChannelSums]


class ImageFacts(NamedTuple):
    """What is kept of an image.

    Attributes:
        channels: without alpha.
        pixels: None if only the header was read.
    """

    height: int
    width: int
    channels: int
    dtype: str
    pixels: PixelFacts | None = None


class ImageTable:
    """Columns by record number; `known` is False for images that could not be read.

    Attributes:
        records: of all splits, one after the other.
        starts: number of each split's first record, and the number of all records.
    """

    def __init__(self, splits: Mapping[str, tuple[Record, ...]]) -> None:
        self.records = [record for records in splits.values() for record in records]
        self.splits = tuple(splits)
        self.starts: list[int] = np.cumsum([0, *map(len, splits.values())]).tolist()
        count = len(self.records)
        self.known = np.zeros(count, np.bool_)
        self.height = np.zeros(count, np.int32)
        self.width = np.zeros(count, np.int32)
        self.channels = np.zeros(count, np.int32)
        self.dtype = np.zeros(count, np.int8)
        self.has_hash = np.zeros(count, np.bool_)
        self.hash = np.zeros(count, np.uint64)
        self.checksum = np.zeros(count, np.uint32)
        self.dtypes: list[str] = []

    def split(self, index: int) -> str:
        """The name of a record's split."""
        return self.splits[int(np.searchsorted(self.starts, index, side="right")) - 1]

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

    def hashed(self, split_number: int) -> NDArray[np.int64]:
        """Numbers of the records of a split whose images have a hash."""
        start, end = self.starts[split_number : split_number + 2]
        return start + np.flatnonzero(self.has_hash[start:end])

    def same_checksum(self) -> list[list[int]]:
        """Groups of two and more images of the same size, dtype, hash and checksum; each in ascending order."""
        known = np.flatnonzero(self.known)
        _, inverse, counts = np.unique(self.checksum[known], return_inverse=True, return_counts=True)
        columns = (self.checksum, self.hash, self.height, self.width, self.channels, self.dtype)
        groups: dict[tuple[int, ...], list[int]] = {}
        for index in known[counts[inverse] > 1].tolist():
            groups.setdefault(tuple(int(column[index]) for column in columns), []).append(index)
        return [group for group in groups.values() if len(group) > 1]
