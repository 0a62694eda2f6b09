"""Facts about every image of a dataset: some 300 bytes an image."""

from collections.abc import Mapping
from typing import NamedTuple

from pyramidseg.data.channel_statistics import ChannelSums
from pyramidseg.data.records import Record


class ImageFacts(NamedTuple):
    """What is kept of an image; the fields with a default are known only if its pixels were decoded.

    Attributes:
        channels: without alpha.
        hash: see `perceptual_hash`.
        checksum: CRC-32 of the pixels as stored.
        sums: of each channel.
    """

    height: int
    width: int
    channels: int
    dtype: str
    hash: int | None = None
    checksum: int = 0
    sums: tuple[ChannelSums, ...] = ()


class ImageTable:
    """Facts by record number, for images that could be read.

    Attributes:
        records: of all splits, one after the other.
        split_of: the split of each record.
        facts: without the sums.
    """

    def __init__(self, splits: Mapping[str, tuple[Record, ...]]) -> None:
        self.records = [record for records in splits.values() for record in records]
        self.splits = tuple(splits)
        self.split_of = [split for split, records in splits.items() for _ in records]
        self.facts: dict[int, ImageFacts] = {}

    def add(self, index: int, facts: ImageFacts) -> None:
        """Store what is known of one image."""
        self.facts[index] = facts._replace(sums=())

    def hashes(self, split: str) -> dict[int, int]:
        """The hash by the number of the record, of the images of a split that have one."""
        hashes = ((index, facts.hash) for index, facts in self.facts.items() if self.split_of[index] == split)
        return {index: hash for index, hash in hashes if hash is not None}

    def same_checksum(self) -> list[list[int]]:
        """Groups of two and more images of the same facts, checksum included; each in ascending order."""
        groups: dict[ImageFacts, list[int]] = {}
        for index, facts in self.facts.items():
            groups.setdefault(facts, []).append(index)
        return [group for group in groups.values() if len(group) > 1]
