"""Records, which pair an image with its mask, and datasets. They hold paths, not pixels, so 100,000 stay small."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError, nearest

P = TypeVar("P", bound=Path | None)


class _StoredPath(Generic[P]):
    """A field of a `Record` with a path, of which the record's id is left out: the rest, 8 bytes, is common to many.

    A `Path` takes 300 bytes. It is made whenever the field is read.
    """

    def __init__(self, *default: P) -> None:
        self._default: tuple[P, ...] = default

    def __set_name__(self, owner: type, name: str) -> None:
        self._slot = f"_{name}"

    def __get__(self, record: "Record | None", owner: type) -> P:
        if record is None:  # `dataclass` asks for the default
            if not self._default:
                raise AttributeError
            return self._default[0]
        rest: str | None = getattr(record, self._slot)
        return cast(P, None if rest is None else Path(rest.replace(_ID, record.id.rpartition("/")[2])))

    def __set__(self, record: "Record", path: P | str) -> None:
        rest = None
        if path is not None:
            last = record.id.rpartition("/")[2]
            folder, slash, name = str(path).rpartition("/")
            rest = sys.intern(f"{folder}{slash}{name.replace(last, _ID, 1) if last else name}")
        object.__setattr__(record, self._slot, rest)


_ID = "\0"
"""Stands for the last part of the id; no path has it."""


@dataclass(frozen=True)
class Record:
    """An image, and its mask if it has one.

    Attributes:
        id: unique within the split, such as the path relative to the split's folder without its extension.
    """

    __slots__ = ("_image", "_mask", "id")
    id: str
    image: _StoredPath[Path] = _StoredPath()
    mask: _StoredPath[Path | None] = _StoredPath(None)

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        for name, value in state[1].items():
            object.__setattr__(self, name, value)


class MaskSource(Protocol):
    """Decodes the masks of a dataset to class ids. Implementations are frozen, small and picklable."""

    def read(self, record: Record) -> NDArray[np.uint8]:
        """Labels (H, W) uint8: class ids and `IGNORE`.

        Raises:
            DataError: unreadable, or with a value that is neither a class nor ignored; names file and value.
        """


class ValueSource(Protocol):
    """Reads the stored values of a dataset's masks. Implementations are frozen, small and picklable."""

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """Values that are ignored unless they are a class."""

    def read(self, record: Record) -> NDArray[np.unsignedinteger[Any]]:
        """The stored values (H, W), before they are mapped to classes.

        Raises:
            DataError: unreadable; names the file.
        """

    def describe(self, values: Iterable[int]) -> str:
        """Values as text in the user's terms: numbers, colours or names."""


@runtime_checkable
class OutlineSource(ValueSource, Protocol):
    """Draws outlines whose coordinates are pixels or shares of the image; their file may state the image's size."""

    def has_own_size(self, record: Record) -> bool:
        """Whether the annotation file states the image's size."""


@runtime_checkable
class DrawnSource(ValueSource, Protocol):
    """Draws regions, of which several can cover a pixel."""

    def count_contested(self, record: Record) -> int:
        """Pixels that regions with several labels cover; raises as `read`."""


@dataclass(frozen=True)
class Dataset:
    """Records by split, the classes, and the decoder of the masks.

    Attributes:
        source: the folder or file that the user gave, or `records`.
        layout: description of the recognised layout.
        notes: everything that was inferred rather than given; printed and saved with the run.
        bands: image channels that the model gets, counted from 1; None for all.
        description: content of a dataset file that opens it again unchanged; empty for records made in Python.
        sets: of joined datasets the names, which begin their records' ids, with their shares of an epoch's crops; None
            for the share of its images.
    """

    source: str
    layout: str
    classes: Classes
    masks: MaskSource
    splits: Mapping[str, tuple[Record, ...]]
    notes: tuple[str, ...] = field(default=())
    bands: tuple[int, ...] | None = None
    description: Mapping[str, Any] = field(default_factory=dict)
    sets: Mapping[str, float | None] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Record, ...]:
        """Records of one split.

        Raises:
            DataError: the dataset has no such split, or the split is empty.
        """
        records = self.splits.get(name, ())
        if not records:
            present = [split for split, content in self.splits.items() if content]
            raise DataError(f"{self.source}: no images in split {name!r}; {nearest(str(name), present)}")
        return records


DatasetSource = str | Path | Dataset | Sequence[str | Path]
"""What is opened as a dataset: a folder, a YAML file, several of both, which are joined, or records made in Python."""
