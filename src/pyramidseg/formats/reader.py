"""What a reader of a dataset format is, and what it finds."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import Defect
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import Record, ValueSource

SplitFolders = Mapping[str, tuple[str, ...]]
"""For each split the names, in lower case, that its folder may have."""

USUAL_FOLDERS: SplitFolders = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation"),
    "test": ("test", "testing"),
}

RARE_VAL_NAMES = ("validate", "eval", "evaluation", "dev")
"""What the validation split is called seldom, and much else is too: it is where no other name is found."""

UNLABELLED = "test"
"""The split that usually has no labels, and is left out, aloud, where it has none."""


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
class ParsedDataset:
    """The records of a dataset, and what its format says of their labels.

    Attributes:
        layout: the layout in words, as it was found.
        labels: what the format itself says its values mean, if it does, in the order of the classes. Several values of
            one name are one class.
        values: reads the masks; image files unless the format keeps something else.
        notes: whatever the reader inferred or left out.
        defects: files that belong to no record; they are refused unless somebody collects them.
    """

    layout: str
    splits: Mapping[str, tuple[Record, ...]]
    labels: tuple[SourceLabel, ...] = ()
    values: ValueSource = IndexValues()  # noqa: RUF009 - frozen, and without state
    notes: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()


class PartialMatch(DataError):
    """Looks like a format, but something that it cannot be without is missing; told where no other format fits."""


@dataclass(frozen=True)
class Reader:
    """One dataset format.

    Attributes:
        shape: the layout in a few words, for those whose folder was not recognised.
        read: lists a folder, or returns None where it is not of this format, or raises `PartialMatch`. Once the
            format is recognised, whatever is wrong with the files is a `DataError`.
        covers: formats that this one is a special case of; it goes before them where both fit.
        by_name: whether it is never recognised, only chosen (`format`).
    """

    shape: str
    read: Callable[[Path, SplitFolders], ParsedDataset | None]
    covers: tuple[str, ...] = ()
    by_name: bool = False
