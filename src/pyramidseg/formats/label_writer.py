"""The protocol of a writer: what an image adds to a dataset of a format, and the files that all images share.

Writers are pure: they return the content of files, and `convert_dataset` and `predict` write them, so that every file
is whole or absent and a killed conversion continues. What an image adds to files of many images (a COCO JSON, a list)
is its *part*, a value for JSON that is kept in the ledger; `assemble` puts the parts together, split by split, in
constant memory.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import Region, Ring, find_regions, number_regions
from pyramidseg.annotations.polygons import Location, Shape, rasterise
from pyramidseg.annotations.run_lengths import encode_regions
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.formats.polygon_labels import BACKGROUND

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

    def score(self, pixels: NDArray[np.bool_], box: Box | None = None) -> dict[str, float]:
        """`score`: the mean probability of some pixels, 0 to 1; empty if it is not known.

        Args:
            box: that of `pixels` in the image.
        """
        if self.confidence is None:
            return {}
        confidence = self.confidence if box is None else self.confidence[rows_and_columns(box)]
        return {"score": round(float(confidence[pixels].mean()) / 255, 4)}

    simplify_px: float = 0.0


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

SharedFiles = Iterator[tuple[str, Iterator[bytes]]]
"""Path below the dataset's folder, and content in pieces, of each file that all images share."""


@dataclass(frozen=True)
class LabelWriter:
    """How a format is written. Labels are written in the orientation in which images are shown (EXIF applied).

    Attributes:
        image_path: where the format has the image: a path below the dataset's folder, with `{split}` and `{name}`,
            without the suffix of the image's file.
        encode: what an image adds.
        assemble: the files that all images share, from the parts of each split.
        is_flat: whether names cannot have folders; these become part of the name (`day_001`).
        has_outlines: whether it writes outlines, which can be simplified.
    """

    image_path: str
    encode: Callable[[LabelledImage, Classes], WrittenLabels]
    assemble: Callable[[Mapping[str, Parts], Classes], SharedFiles]
    is_flat: bool = False
    has_outlines: bool = False

    def path_of_image(self, image: LabelledImage) -> str:
        """The path of an image below the dataset's folder."""
        return self.image_path.format(split=image.split, name=image.name) + image.image.suffix


def outlined_classes(classes: Classes) -> list[int]:
    """Ids of the classes that are outlined: all but background, which is what no outline covers."""
    return [index for index, name in enumerate(classes.names) if name.lower() != BACKGROUND]


def not_outlined(classes: Classes) -> list[int]:
    """Values of labels that are not outlined: background, and ignored pixels."""
    return [*(index for index, name in enumerate(classes.names) if name.lower() == BACKGROUND), IGNORE]


def rows_and_columns(box: Box) -> tuple[slice, slice]:
    """A box as an index of an image."""
    left, top, width, height = box
    return slice(top, top + height), slice(left, left + width)


class BoxedRegion(NamedTuple):
    """A connected region of one class.

    Attributes:
        pixels: (height, width), those of the region within the box.
    """

    value: int
    box: Box
    pixels: NDArray[np.bool_]


def boxed_regions(labels_HW: NDArray[np.uint8], classes: Classes) -> Iterator[BoxedRegion]:
    """The connected regions of the classes that are outlined, by class."""
    numbers = number_regions(labels_HW, skip=not_outlined(classes))
    found = []
    for number, region in encode_regions(numbers).items():
        within = rows_and_columns(region.box)
        found.append(BoxedRegion(int(labels_HW[region.first]), region.box, numbers[within] == number))
    yield from sorted(found, key=lambda region: region.value)


def outer_rings(labels_HW: NDArray[np.uint8], classes: Classes) -> dict[tuple[int, int], Ring]:
    """The outlines of regions without holes, by the row and column of the first pixel down the columns."""
    found = (region.rings for region in find_regions(labels_HW, skip=not_outlined(classes)))
    return {(y, x): rings[0] for rings in found if len(rings) == 1 for x, y in [min(map(tuple, rings[0].tolist()))]}


def pixels_of(region: Region, image: LabelledImage) -> NDArray[np.bool_]:
    """(H, W): the pixels of a region of `find_regions`."""
    height, width = image.labels.shape
    shape = Shape(1, [[ring.astype(np.float64) for ring in region.rings]])
    return rasterise([shape], height=height, width=width, where=Location(image.image)) > 0


def outlined_regions(
    image: LabelledImage, *, skip: Sequence[int], simplify_px: float | None = None
) -> tuple[list[Region], dict[str, int]]:
    """The regions of an image with outlines that are simplified as it says, and how many pixels that moved."""
    if not image.simplify_px:
        return find_regions(image.labels, skip=skip, simplify_px=simplify_px), {}
    regions = find_regions(image.labels, skip=skip, simplify_px=image.simplify_px)
    pixels = count_changed(regions, image.labels, skip=skip, where=Location(image.image))
    return regions, {"pixels that the simplification of outlines moved": pixels} if pixels else {}


def count_changed(
    regions: Sequence[Region], labels_HW: NDArray[np.uint8], *, skip: Sequence[int], where: Location
) -> int:
    """Number of pixels that have another label than before if the regions are drawn again."""
    shapes = [Shape(region.value + 1, [[ring.astype(np.float64) for ring in region.rings]]) for region in regions]
    drawn = rasterise(shapes, height=labels_HW.shape[0], width=labels_HW.shape[1], where=where)
    return int(np.count_nonzero(drawn != np.where(np.isin(labels_HW, skip), 0, labels_HW.astype(np.uint16) + 1)))


def joined(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """Elements of a JSON array, a line each."""
    for number, piece in enumerate(pieces):
        yield (b",\n" if number else b"") + piece


def lost_ignored(labels_HW: NDArray[np.uint8]) -> dict[str, int]:
    """The loss of formats in which what has no label is background."""
    pixels = int(np.count_nonzero(labels_HW == IGNORE))
    return {"ignored pixels, which become background": pixels} if pixels else {}
