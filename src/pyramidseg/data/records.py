"""Records: which image belongs to which mask. Paths and ids, never pixels, so that a hundred thousand stay small."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError, nearest


@dataclass(frozen=True)
class Record:
    """One image, and its mask where there is one.

    Attributes:
        id: unique within the dataset's split, such as the path below the split's folder without its extension.
    """

    id: str
    image: Path
    mask: Path | None = None

    def __post_init__(self) -> None:
        for name in ("image", "mask"):
            path = getattr(self, name)
            if isinstance(path, str):
                object.__setattr__(self, name, Path(path))


class MaskSource(Protocol):
    """Decodes what a dataset keeps as its masks. Implementations are frozen, small and picklable."""

    def read(self, record: Record) -> NDArray[np.uint8]:
        """Labels (H, W) uint8: class ids and `IGNORE`.

        Raises:
            DataError: unreadable, or with a value that is no class; names file and value.
        """
        ...


class ValueSource(Protocol):
    """Reads the values that a dataset keeps as masks. Implementations are frozen, small and picklable."""

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """Values that count nowhere unless they are named as a class."""
        ...

    def read(self, record: Record) -> NDArray[np.unsignedinteger[Any]]:
        """Source values (H, W): what the mask holds, before anything is said of classes.

        Raises:
            DataError: unreadable; names the file.
        """
        ...

    def describe(self, values: Iterable[int]) -> str:
        """Values as a user knows them: numbers, colours or names."""
        ...


@runtime_checkable
class OutlineSource(ValueSource, Protocol):
    """Draws outlines in pixels, or shares, of the image, whose size their file may say."""

    def has_own_size(self, record: Record) -> bool:
        """Whether the file says the image's size."""
        ...


@dataclass(frozen=True)
class Dataset:
    """Records by split, with the classes and the decoder of their masks.

    Attributes:
        source: what the user named: a folder, a file, or `records`.
        layout: the recognised layout in words.
        notes: everything that was inferred rather than given; printed and saved with the run.
        bands: the channels of the image files that a model gets; all of them where none are named.
        description: content of a dataset file that opens it again as it is; empty where records were made in Python.
    """

    source: str
    layout: str
    classes: Classes
    masks: MaskSource
    splits: Mapping[str, tuple[Record, ...]]
    notes: tuple[str, ...] = field(default=())
    bands: tuple[int, ...] | None = None
    description: Mapping[str, Any] = field(default_factory=dict)

    def split(self, name: str) -> tuple[Record, ...]:
        """Records of one split.

        Raises:
            DataError: the dataset has no such split, or nothing in it.
        """
        records = self.splits.get(name, ())
        if not records:
            present = [split for split, content in self.splits.items() if content]
            raise DataError(f"{self.source}: no images in split {name!r}; {nearest(str(name), present)}")
        return records
