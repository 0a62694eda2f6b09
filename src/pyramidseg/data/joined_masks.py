"""Masks of several datasets that are one, and of a dataset whose classes have another order elsewhere."""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.pairs import read_labels
from pyramidseg.data.records import MaskSource, Record


@dataclass(frozen=True)
class ReorderedMasks:
    """A `MaskSource` whose labels are mapped by a table (256,)."""

    masks: MaskSource
    table: bytes

    def read(self, record: Record) -> NDArray[np.uint8]:
        """(H, W) uint8, mapped."""
        return np.frombuffer(self.table, np.uint8)[read_labels(record, self.masks)]


@dataclass(frozen=True)
class JoinedMasks:
    """The `MaskSource` of joined datasets: the first part of a record's id is the name of its set."""

    sets: Mapping[str, ReorderedMasks]

    def read(self, record: Record) -> NDArray[np.uint8]:
        """(H, W) uint8."""
        masks, own = self.of(record)
        return masks.read(own)

    def of(self, record: Record) -> tuple[ReorderedMasks, Record]:
        """The masks of a record's set, and the record as the set has it."""
        return self.sets[set_name(record)], replace(record, id=record.id.partition("/")[2])


def set_name(record: Record) -> str:
    """The set of a record of joined datasets."""
    return record.id.partition("/")[0]
