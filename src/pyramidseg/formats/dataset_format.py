"""The protocol of a dataset format, and the dataset that a format returns."""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Generic, TypeVar

from pyramidseg.base.classes import Color, hex_color
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import Defect
from pyramidseg.base.errors import DataError
from pyramidseg.base.sequences import Mapped
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import Record, ValueSource

T = TypeVar("T")

SplitNames = Mapping[str, tuple[str, ...]]
"""For each split, the names (in lower case) that its folder may have."""

SPLIT_NAMES: SplitNames = {
    "train": ("train", "training"),
    "val": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}

RARE_VAL_NAMES = ("validate", "eval", "evaluation")
"""Less common names of the validation split, which often mean something else."""

UNLABELLED_SPLIT = "test"
"""The split that is often published without labels; it is then left out, with a note."""


@dataclass(frozen=True)
class SourceLabel:
    """Name of one value in a format's masks.

    Attributes:
        value: as the dataset's `ValueSource` returns it.
        ignored: whether its pixels are ignored unless the user makes it a class.
    """

    name: str
    value: int
    color: Color | None = None
    ignored: bool = False


def color_labels(text: str, *, start: int = 0, ignored: Collection[str] = ()) -> tuple[SourceLabel, ...]:
    """Labels of a text such as `road #804080; sky #4682b4`, whose values begin at `start`."""
    entries = (entry.rpartition(" ") for entry in " ".join(text.split()).split("; "))
    return tuple(
        SourceLabel(name, value, hex_color(color), ignored=name in ignored)
        for value, (name, _, color) in enumerate(entries, start)
    )


@dataclass(frozen=True)
class ParsedDataset:
    """The records of a dataset, and the classes that its format defines.

    Attributes:
        layout: the folders and files that were found, as text.
        labels: classes that the format itself defines, in order; several values with one name are one class.
        values: reads the masks; image files, unless the format stores something else.
        notes: what was inferred or left out.
        defects: files that belong to no record; `open_dataset` refuses them unless its caller collects defects.
        root, format: folder of the dataset and name of its format, set where the format is detected; None if every
            split names its own folders.
    """

    layout: str
    splits: Mapping[str, tuple[Record, ...]]
    labels: tuple[SourceLabel, ...] = ()
    values: ValueSource = IndexValues()  # noqa: RUF009 - frozen, and without state
    notes: tuple[str, ...] = ()
    defects: tuple[Defect, ...] = ()
    root: Path = Path()
    format: str | None = None

    @property
    def records(self) -> list[Record]:
        """All records, split by split."""
        return [record for records in self.splits.values() for record in records]

    @property
    def mask_files(self) -> Sequence[Path]:
        """Made when they are read: a hundred thousand paths would take 40 MB."""
        return Mapped(_mask_of, [record for record in self.records if record.mask is not None])


def _mask_of(record: Record) -> Path:
    assert record.mask is not None
    return record.mask


class PartialMatch(DataError):
    """The folder resembles a format but lacks something essential; reported only if no other format fits."""


@dataclass(frozen=True)
class DatasetFormat(Generic[T]):
    """A dataset format. Each is one module with a constant `FORMAT`, listed in `open_dataset.FORMATS`.

    Attributes:
        name: value of the setting `data.format`.
        layout: its folders and files in one sentence, for the message that a folder was not recognised.
        detect: finds the format's folders and files by their names (and, where names do not decide, by the first bytes
            of a file). It returns what it found, so that `read` need not search again, or None if the folder is not of
            this format. It raises `PartialMatch` if something essential is missing.
        read: pairs images with masks, given what `detect` found and the settings. Files without a partner and files
            that cannot be read are `ParsedDataset.defects`; a `DataError` means that nothing can be read.
        settings: names of the settings that `read` takes; other formats refuse them.
        covers: names of more general formats that give way where this one fits too.
    """

    name: str
    layout: str
    detect: Callable[[Path, SplitNames], T | None]
    read: Callable[[T, LabelConfig], ParsedDataset]
    settings: tuple[str, ...] = ()
    covers: tuple[str, ...] = ()
