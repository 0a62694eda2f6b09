"""What a reader of a dataset format is, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.classes import Classes
from pyramidseg.data.records import Record

SplitFolders = Mapping[str, tuple[str, ...]]
"""For each split the names, in lower case, that its folder may have."""

USUAL_FOLDERS: SplitFolders = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}


@dataclass(frozen=True)
class Listing:
    """The records of a dataset, and what its format says of their labels.

    Attributes:
        layout: the layout in words, as it was found.
        classes: the classes that the format itself defines, if it does; index values are their ids.
        ignore: the mask values that go with these classes and count nowhere.
        notes: whatever the reader inferred or left out.
    """

    layout: str
    splits: Mapping[str, tuple[Record, ...]]
    classes: Classes | None = None
    ignore: tuple[int, ...] = ()
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
