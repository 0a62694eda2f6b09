"""What a reader of a dataset format is, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.classes import Color
from pyramidseg.data.masks.index import IndexValues
from pyramidseg.data.records import Record, ValueSource

SplitFolders = Mapping[str, tuple[str, ...]]
"""For each split the names, in lower case, that its folder may have."""

USUAL_FOLDERS: SplitFolders = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class SourceLabel:
    """What one value in a format's masks means.

    Attributes:
        value: as the listing's `ValueSource` reads it.
        ignored: it counts nowhere, unless the user makes it a class.
    """

    name: str
    value: int
    color: Color | None = None
    ignored: bool = False


@dataclass(frozen=True)
class Listing:
    """The records of a dataset, and what its format says of their labels.

    Attributes:
        layout: the layout in words, as it was found.
        labels: what the format itself says its values mean, if it does, in the order of the classes.
        values: reads the masks; index files unless the format keeps something else.
        notes: whatever the reader inferred or left out.
    """

    layout: str
    splits: Mapping[str, tuple[Record, ...]]
    labels: tuple[SourceLabel, ...] = ()
    values: ValueSource = IndexValues()  # noqa: RUF009 - frozen, and without state
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Reader:
    """One dataset format.

    Attributes:
        shape: the layout in a few words, for those whose folder was not recognised.
        read: lists a folder, or returns None where it is not of this format. Once the format is recognised, whatever is
            wrong with the files is a `DataError`.
    """

    shape: str
    read: Callable[[Path, SplitFolders], Listing | None]
