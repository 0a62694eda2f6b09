"""The protocol of a writer: what an image adds to a dataset of a format, and the files that all images share.

Writers are pure: they return the content of files, and `convert_dataset` and `predict` write them, so that every file
is whole or absent and a killed conversion continues. What an image adds to files of many images (a COCO JSON, a list)
is its *part*, a value for JSON that is kept in the ledger; `assemble` puts the parts together, split by split, in
constant memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError

Box = tuple[int, int, int, int]
"""Left, top, width and height."""


@dataclass(frozen=True)
class LabelledImage:
    """An image to be written with its labels.

    Attributes:
        name: without extension; may have folders (`day/001`). Unique in its split, and among all images if the format
            has no folders of splits.
        image: its file; its suffix is kept where images are written.
        labels: (H, W) uint8, class ids and `IGNORE`, in the orientation in which the image is shown.
        model: version of the model that predicted the labels; empty for annotations.
        confidence: (H, W) uint8, the probability of each label times 255; None if it is not known.
        simplify_px: how far outlines may be moved to save corners.
    """

    name: str
    split: str
    image: Path
    labels: NDArray[np.uint8]
    model: str = ""
    confidence: NDArray[np.uint8] | None = None
    simplify_px: float = 0.0

    def score(self, pixels: NDArray[np.bool_], box: Box | None = None) -> dict[str, float]:
        """`score`: the mean probability of some pixels, 0 to 1; empty if it is not known.

        Args:
            box: that of `pixels` in the image.
        """
        if self.confidence is None or not pixels.any():
            return {}
        confidence = self.confidence if box is None else self.confidence[rows_and_columns(box)]
        return {"score": round(float(confidence[pixels].mean()) / 255, 4)}


@dataclass(frozen=True)
class WrittenLabels:
    """What an image adds.

    Attributes:
        files: content by path below the dataset's folder.
        part: for the files that all images share; any value for JSON.
        lost: number of pixels that the format cannot hold, by the reason.
    """

    files: Mapping[str, bytes] = field(default_factory=dict)
    part: Any = None
    lost: Mapping[str, int] = field(default_factory=dict)


Parts = Iterable[tuple[str, Any]]
"""Name and part of each image of a split, in the order of the names. Can be iterated over more than once."""

ARCHIVE = "masks.zip"
"""A file that a tool imports, with copies of labels, in the dataset's folder."""

SharedFiles = Iterator[tuple[str, Iterator[bytes]]]
"""Path below the dataset's folder, and content in pieces, of each file that all images share."""


@dataclass(frozen=True)
class LabelWriter:
    """How a format is written.

    Labels are written as images are shown, with their EXIF orientation applied. Only GeoJSON has its polygons where the
    stored rows and columns are on the map; its reader turns them as the image.

    Attributes:
        image_path: where the format has the image: a path below the dataset's folder, with `{split}` and `{name}`,
            without the suffix of the image's file.
        encode: what an image adds.
        assemble: the files that all images share, from the parts of each split.
        is_flat: whether names cannot have folders; these become part of the name (`day_001`).
        has_outlines: whether it writes outlines, which can be simplified.
        lacks: what it has no place for, besides `WrittenLabels.lost`.
        read_as: the name by which a class of a name is read back, up to case; empty if it is not read as a class.
        archived: paths of the files that `ARCHIVE` gets, below the dataset's folder; None in formats without it.
        for_project: the writer for a project of the tool with this labelling configuration; a ConfigError if the
            project has no label for a class.
    """

    image_path: str
    encode: Callable[[LabelledImage, Classes], WrittenLabels]
    assemble: Callable[[Mapping[str, Parts], Classes], SharedFiles]
    is_flat: bool = False
    has_outlines: bool = False
    lacks: str = ""
    read_as: Callable[[str], str] = str.strip
    archived: Callable[[Mapping[str, Parts]], Iterator[str]] | None = None
    for_project: "Callable[[str, Classes], LabelWriter] | None" = None

    def path_of_image(self, image: LabelledImage) -> str:
        """The path of an image below the dataset's folder."""
        return self.image_path.format(split=image.split, name=image.name) + image.image.suffix

    def check_names(self, classes: Classes, *, to: str) -> None:
        """Refuse classes that would be read back by another name, or as one class.

        Args:
            to: the name of the format.

        Raises:
            ConfigError: there is one.
        """
        taken: dict[str, str] = {}
        for name in classes.names:
            found = self.read_as(name)
            if found.lower() != name.lower() or taken.setdefault(found, name) != name:
                becomes = f"as {found!r}" if found else "as no class"
                raise ConfigError(
                    f"class {name!r}: {to} cannot hold this name, which would be read back {becomes}; rename the "
                    "class, or write another format, such as masks"
                )


NO_CLASS_LIST = "order and colours of classes, and classes that no image has"
"""What formats lack that only name the class of each region."""


def rows_and_columns(box: Box) -> tuple[slice, slice]:
    """A box as an index of an image."""
    left, top, width, height = box
    return slice(top, top + height), slice(left, left + width)


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Elements of a JSON array, a line each."""
    for number, piece in enumerate(pieces):
        yield (b",\n" if number else b"") + piece
