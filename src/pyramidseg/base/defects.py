"""Defects: everything that can be wrong with a file or a dataset, in a closed set of kinds for other programs."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

from pyramidseg.base.errors import DataError

_SHOWN = 3
"""Defects that the message of one error describes."""

MAX_KEPT = 100
"""Defects of one file that a `DefectCollector` keeps; further ones are only counted."""


class DefectKind(StrEnum):
    """Every kind of defect, with the value in inspection.json and its meaning.

    Attributes:
        description: the meaning, as a noun.
    """

    description: str

    def __new__(cls, value: str, description: str) -> "DefectKind":
        kind = str.__new__(cls, value)
        kind._value_, kind.description = value, description
        return kind

    MISSING_MASK = "missing-mask", "image without a mask"
    MISSING_IMAGE = "missing-image", "mask without an image"
    SAME_STEM = "same-stem", "file whose name differs from another one only in the extension"
    CASE_COLLISION = "case-collision", "name that differs from another one only in upper and lower case"
    REPEATED_ID = "repeated-id", "image that is listed more than once"
    ABSENT = "absent", "missing file or folder"
    EMPTY = "empty", "empty file"
    FOREIGN = "foreign", "file that is not an image, whatever its extension"
    DAMAGED = "damaged", "truncated or damaged image file"
    TOO_LARGE = "too-large", "image with more pixels than can be read"
    SEVERAL_PAGES = "several-pages", "image file with several pages or frames"
    UNREADABLE_IMAGE = "unreadable-image", "image of an unsupported kind"
    UNREADABLE_MASK = "unreadable-mask", "mask of an unsupported kind"
    LOSSY_MASK = "lossy-mask", "mask with lossy compression"
    TRANSPARENT_MASK = "transparent-mask", "mask with transparent pixels"
    UNEXPECTED_COLORS = "unexpected-colors", "colour mask among index masks"
    MASK_IS_IMAGE = "mask-is-image", "mask that is a copy of its image"
    BAD_ANNOTATION = "bad-annotation", "annotation or list that cannot be read or drawn"
    RIVAL_ANNOTATION = "rival-annotation", "second annotation file for the same split"
    OUTSIDE = "outside", "annotation that names a file outside the dataset"
    UNKNOWN_VALUE = "unknown-value", "mask with values that are not a known class"
    ALL_IGNORED = "all-ignored", "mask without a labelled pixel"
    SIZE_DIFFERS = "size-differs", "mask whose size differs from its image's"
    OFF_GRID = "off-grid", "mask that covers another area of the map than its image"
    EXIF_TURNED = "exif-turned", "pair in which only one file was rotated by its EXIF tag"
    BLANK_IMAGE = "blank-image", "image of a single colour"
    MIXED_CHANNELS = "mixed-channels", "image with another number of channels than most"
    MIXED_DEPTHS = "mixed-depths", "image with another bit depth than most"
    EXTREME_SIZE = "extreme-size", "image far smaller or larger than the rest"
    EXTREME_ASPECT = "extreme-aspect", "image far more elongated than the rest"
    DUPLICATE = "duplicate", "image that occurs twice in its split"
    CONTRADICTION = "contradiction", "image that occurs twice, with different masks"
    LEAK = "leak", "image that is also in another split, exactly or nearly"
    EMPTY_CLASS = "empty-class", "classes without a pixel in a split"
    UNCLEAR_CLASSES = "unclear-classes", "masks with more than one interpretation"


@dataclass(frozen=True)
class Defect:
    """One thing that is wrong.

    Attributes:
        file: the file at fault: the mask if image and mask disagree, the dataset's folder if no single file is.
        detail: what was found, what is allowed, and the next step.
    """

    kind: DefectKind
    file: Path
    detail: str


class DefectError(DataError):
    """Files that cannot be used because of one or several defects; the message describes the first few.

    Attributes:
        defects: all of them.
    """

    def __init__(self, kind: DefectKind, file: Path, detail: str) -> None:
        self.defects: tuple[Defect, ...] = (Defect(kind, file, detail),)
        super().__init__(f"{file}: {detail}")

    @classmethod
    def of(cls, defects: Sequence[Defect]) -> "DefectError":
        """An error with at least one defect."""
        first, shown = defects[0], defects[:_SHOWN]
        parts = (defect.detail if defect.file == first.file else f"{defect.file}: {defect.detail}" for defect in shown)
        more = f"; ... and {len(defects) - len(shown)} more" if len(defects) > len(shown) else ""
        error = DefectError(first.kind, first.file, f"{'; '.join(parts)}{more}")
        error.defects = tuple(defects)
        return error

    @property
    def defect(self) -> Defect:
        """The first of the defects."""
        return self.defects[0]

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the defects: by default an exception is pickled by its message alone."""
        return DefectError.of, (self.defects,)


def as_defects(error: DataError, *, file: Path, otherwise: DefectKind) -> tuple[Defect, ...]:
    """The defects of an error raised while reading `file`; an error without defects becomes one of kind `otherwise`."""
    if isinstance(error, DefectError):
        return error.defects
    return (Defect(otherwise, file, str(error).removeprefix(f"{file}: ")),)


class DefectCollector:
    """Collects the defects of a file's parts, in bounded memory, so that the first does not hide the others.

    defects = DefectCollector()
    for line in lines:
        with defects.collect():
            shapes.append(parse_shape(line))
    defects.raise_if_any()
    """

    def __init__(self) -> None:
        self._kept: list[Defect] = []
        self._more = 0

    @contextmanager
    def collect(self) -> Iterator[None]:
        """Catch a `DefectError` of the `with` block and add its defects."""
        try:
            yield
        except DefectError as error:
            self.add(*error.defects)

    def add(self, *defects: Defect, more: int = 0) -> None:
        """Add defects, and the number of further ones like the last."""
        room = MAX_KEPT - len(self._kept)
        self._kept += defects[:room]
        self._more += len(defects[room:]) + more

    @property
    def defects(self) -> tuple[Defect, ...]:
        """The first `MAX_KEPT` defects; if there are more, a last one with their number."""
        if not self._more:
            return tuple(self._kept)
        last = self._kept[-1]
        return (*self._kept, Defect(last.kind, last.file, f"... and {self._more} more defects"))

    def raise_if_any(self) -> None:
        """Raise one error with all collected defects.

        Raises:
            DefectError: there is at least one defect.
        """
        if self.defects:
            raise DefectError.of(self.defects)
