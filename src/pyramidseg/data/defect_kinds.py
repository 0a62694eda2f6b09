"""Defects: what can be wrong with a file or a dataset, in a closed set of kinds that other programs can rely on."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyramidseg.errors import DataError

_SHOWN = 3
"""Defects that one message tells."""


class Kind(StrEnum):
    """Every kind of defect; the value stands in inspection.json, `IN_WORDS` says what it means."""

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


IN_WORDS: dict[Kind, str] = {
    Kind.MISSING_MASK: "image without a mask",
    Kind.MISSING_IMAGE: "mask without an image",
    Kind.SAME_STEM: "file that shares its name, beside the extension, with another",
    Kind.CASE_COLLISION: "name that differs from another in upper and lower case only",
    Kind.REPEATED_ID: "image that is listed more than once",
    Kind.ABSENT: "file or folder that is named or needed, and not there",
    Kind.EMPTY: "file without content",
    Kind.FOREIGN: "file that is no image, whatever its name says",
    Kind.DAMAGED: "image file that is truncated or damaged",
    Kind.TOO_LARGE: "image of more pixels than can be read",
    Kind.SEVERAL_PAGES: "image file of several pages or frames",
    Kind.UNREADABLE_IMAGE: "image of a kind that is not read",
    Kind.UNREADABLE_MASK: "mask of a kind that is not read",
    Kind.LOSSY_MASK: "mask that has been through the losses of JPEG or WebP",
    Kind.TRANSPARENT_MASK: "mask with transparent pixels",
    Kind.UNEXPECTED_COLORS: "mask of colours among masks of numbers",
    Kind.MASK_IS_IMAGE: "mask that is a copy of its image",
    Kind.BAD_ANNOTATION: "annotation or list that cannot be read or drawn",
    Kind.RIVAL_ANNOTATION: "annotation file beside another one of the same split",
    Kind.OUTSIDE: "annotation that names a file outside the dataset",
    Kind.UNKNOWN_VALUE: "mask with values that are no class",
    Kind.ALL_IGNORED: "mask in which no pixel has a class",
    Kind.SIZE_DIFFERS: "mask of another size than its image",
    Kind.OFF_GRID: "mask that lies elsewhere on the map than its image",
    Kind.EXIF_TURNED: "pair of which an EXIF tag turns one, and the other was not turned",
    Kind.BLANK_IMAGE: "image of a single colour",
    Kind.MIXED_CHANNELS: "image of another number of channels than most",
    Kind.MIXED_DEPTHS: "image of another bit depth than most",
    Kind.EXTREME_SIZE: "image far smaller or far larger than the rest",
    Kind.EXTREME_ASPECT: "image far more elongated than the rest",
    Kind.DUPLICATE: "image that is in its split twice",
    Kind.CONTRADICTION: "image that is there twice, with different masks",
    Kind.LEAK: "image that is in another split too, exactly or nearly",
    Kind.EMPTY_CLASS: "classes without a pixel in a split",
    Kind.UNCLEAR_CLASSES: "masks that leave more than one reading",
}


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        file: the file at fault, the mask where image and mask disagree; the dataset where no single file is.
        detail: what was found, what is allowed, and the next step.
    """

    kind: Kind
    file: Path
    detail: str


class DefectError(DataError):
    """A file that cannot be used, and which kind of defect it has."""

    def __init__(self, kind: Kind, file: Path, detail: str) -> None:
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


def as_defects(error: DataError, *, file: Path, otherwise: Kind) -> tuple[Defect, ...]:
    """The defects behind an error that was met while reading `file`; of the kind `otherwise` where it names none."""
    if isinstance(error, DefectError):
        return error.defects
    return (Defect(otherwise, file, str(error).removeprefix(f"{file}: ")),)
