"""Defects: what can be wrong with a file or a dataset, in a closed set of kinds that other programs can rely on."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import DataError

_SHOWN = 3
"""Defects that one message tells."""


class DefectKind(StrEnum):
    """Every kind of defect; the value stands in inspection.json, `DESCRIPTIONS` says what it means."""

    MISSING_MASK = "missing-mask"
    MISSING_IMAGE = "missing-image"
    SAME_STEM = "same-stem"
    CASE_COLLISION = "case-collision"
    REPEATED_ID = "repeated-id"
    ABSENT = "absent"
    EMPTY = "empty"
    FOREIGN = "foreign"
    DAMAGED = "damaged"
    TOO_LARGE = "too-large"
    SEVERAL_PAGES = "several-pages"
    UNREADABLE_IMAGE = "unreadable-image"
    UNREADABLE_MASK = "unreadable-mask"
    LOSSY_MASK = "lossy-mask"
    TRANSPARENT_MASK = "transparent-mask"
    UNEXPECTED_COLORS = "unexpected-colors"
    MASK_IS_IMAGE = "mask-is-image"
    BAD_ANNOTATION = "bad-annotation"
    RIVAL_ANNOTATION = "rival-annotation"
    OUTSIDE = "outside"
    UNKNOWN_VALUE = "unknown-value"
    ALL_IGNORED = "all-ignored"
    SIZE_DIFFERS = "size-differs"
    OFF_GRID = "off-grid"
    EXIF_TURNED = "exif-turned"
    BLANK_IMAGE = "blank-image"
    MIXED_CHANNELS = "mixed-channels"
    MIXED_DEPTHS = "mixed-depths"
    EXTREME_SIZE = "extreme-size"
    EXTREME_ASPECT = "extreme-aspect"
    DUPLICATE = "duplicate"
    CONTRADICTION = "contradiction"
    LEAK = "leak"
    EMPTY_CLASS = "empty-class"
    UNCLEAR_CLASSES = "unclear-classes"


DESCRIPTIONS: dict[DefectKind, str] = {
    DefectKind.MISSING_MASK: "image without a mask",
    DefectKind.MISSING_IMAGE: "mask without an image",
    DefectKind.SAME_STEM: "file that shares its name, beside the extension, with another",
    DefectKind.CASE_COLLISION: "name that differs from another in upper and lower case only",
    DefectKind.REPEATED_ID: "image that is listed more than once",
    DefectKind.ABSENT: "file or folder that is named or needed, and not there",
    DefectKind.EMPTY: "file without content",
    DefectKind.FOREIGN: "file that is no image, whatever its name says",
    DefectKind.DAMAGED: "image file that is truncated or damaged",
    DefectKind.TOO_LARGE: "image of more pixels than can be read",
    DefectKind.SEVERAL_PAGES: "image file of several pages or frames",
    DefectKind.UNREADABLE_IMAGE: "image of a kind that is not read",
    DefectKind.UNREADABLE_MASK: "mask of a kind that is not read",
    DefectKind.LOSSY_MASK: "mask that has been through the losses of JPEG or WebP",
    DefectKind.TRANSPARENT_MASK: "mask with transparent pixels",
    DefectKind.UNEXPECTED_COLORS: "mask of colours among masks of numbers",
    DefectKind.MASK_IS_IMAGE: "mask that is a copy of its image",
    DefectKind.BAD_ANNOTATION: "annotation or list that cannot be read or drawn",
    DefectKind.RIVAL_ANNOTATION: "annotation file beside another one of the same split",
    DefectKind.OUTSIDE: "annotation that names a file outside the dataset",
    DefectKind.UNKNOWN_VALUE: "mask with values that are no class",
    DefectKind.ALL_IGNORED: "mask in which no pixel has a class",
    DefectKind.SIZE_DIFFERS: "mask of another size than its image",
    DefectKind.OFF_GRID: "mask that lies elsewhere on the map than its image",
    DefectKind.EXIF_TURNED: "pair of which an EXIF tag turns one, and the other was not turned",
    DefectKind.BLANK_IMAGE: "image of a single colour",
    DefectKind.MIXED_CHANNELS: "image of another number of channels than most",
    DefectKind.MIXED_DEPTHS: "image of another bit depth than most",
    DefectKind.EXTREME_SIZE: "image far smaller or far larger than the rest",
    DefectKind.EXTREME_ASPECT: "image far more elongated than the rest",
    DefectKind.DUPLICATE: "image that is in its split twice",
    DefectKind.CONTRADICTION: "image that is there twice, with different masks",
    DefectKind.LEAK: "image that is in another split too, exactly or nearly",
    DefectKind.EMPTY_CLASS: "classes without a pixel in a split",
    DefectKind.UNCLEAR_CLASSES: "masks that leave more than one reading",
}


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        file: the file at fault, the mask where image and mask disagree; the dataset where no single file is.
        detail: what was found, what is allowed, and the next step.
    """

    kind: DefectKind
    file: Path
    detail: str


class DefectError(DataError):
    """A file that cannot be used, and which kind of defect it has."""

    def __init__(self, kind: DefectKind, file: Path, detail: str) -> None:
        self.defect = Defect(kind, file, detail)
        super().__init__(f"{file}: {detail}")

    @property
    def defects(self) -> tuple[Defect, ...]:
        """All that it stands for."""
        return (self.defect,)

    def __reduce__(self) -> tuple[Any, ...]:
        """Exceptions are pickled by their message alone unless told otherwise."""
        return DefectError, (self.defect.kind, self.defect.file, self.defect.detail)


class SeveralDefects(DefectError):
    """A file, or the files of a dataset, with more than one defect: the message tells the first few."""

    def __init__(self, defects: Sequence[Defect]) -> None:
        first, shown = defects[0], defects[:_SHOWN]
        told = (defect.detail if defect.file == first.file else f"{defect.file}: {defect.detail}" for defect in shown)
        more = f"; ... and {len(defects) - len(shown)} more" if len(defects) > len(shown) else ""
        super().__init__(first.kind, first.file, f"{'; '.join(told)}{more}")
        self._defects = tuple(defects)

    @property
    def defects(self) -> tuple[Defect, ...]:
        """All of them."""
        return self._defects

    def __reduce__(self) -> tuple[Any, ...]:
        """As `DefectError`."""
        return SeveralDefects, (self._defects,)


def as_defects(error: DataError, *, file: Path, otherwise: DefectKind) -> tuple[Defect, ...]:
    """The defects behind an error that was met while reading `file`; of the kind `otherwise` where it names none."""
    if isinstance(error, DefectError):
        return error.defects
    return (Defect(otherwise, file, str(error).removeprefix(f"{file}: ")),)


# Gathering what is wrong with the parts of one file, so that the first flaw does not hide the others.

MOST_KEPT = 100
"""DefectCollector of one file that are told one by one; of further ones the number."""


class DefectCollector:
    """The flaws of a file's parts, in bounded memory.

    flaws = DefectCollector()
    for line in lines:
        with flaws.caught():
            shapes.append(shape_of(line))
    flaws.refuse()
    """

    def __init__(self) -> None:
        self._kept: list[Defect] = []
        self._more = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take in what goes wrong in a `with` block, which ends there."""
        try:
            yield
        except DefectError as error:
            self.add(*error.defects)

    def add(self, *defects: Defect, more: int = 0) -> None:
        """Take in flaws, and a number of others like the last one."""
        room = MOST_KEPT - len(self._kept)
        self._kept += defects[:room]
        self._more += len(defects[room:]) + more

    @property
    def defects(self) -> tuple[Defect, ...]:
        """All of them; beyond `MOST_KEPT`, the last one says how many more there are."""
        if not self._more:
            return tuple(self._kept)
        last = self._kept[-1]
        return (*self._kept, Defect(last.kind, last.file, f"... and {self._more} more flaws"))

    def refuse(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            DataError: all of it in one.
        """
        if len(self.defects) == 1:
            (defect,) = self.defects
            raise DefectError(defect.kind, defect.file, defect.detail)
        if self.defects:
            raise SeveralDefects(self.defects)
