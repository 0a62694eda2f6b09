"""The regions of label maps, for the writers of formats that keep regions: as boxed pixels, and as outlines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import TracedRegion, find_numbered_regions, number_regions
from pyramidseg.annotations.polygons import Location, Shape, rasterise
from pyramidseg.annotations.run_lengths import encode_regions
from pyramidseg.base.classes import IGNORE, Classes
from pyramidseg.formats.label_writer import Box, LabelledImage, rows_and_columns
from pyramidseg.formats.polygon_labels import BACKGROUND


def outlined_classes(classes: Classes) -> list[int]:
    """Ids of the classes that are outlined: all but background, which is what no outline covers."""
    return [index for index, name in enumerate(classes.names) if name.lower() != BACKGROUND]


def not_outlined(classes: Classes) -> list[int]:
    """Values of labels that are not outlined: background, and ignored pixels."""
    return [*(index for index, name in enumerate(classes.names) if name.lower() == BACKGROUND), IGNORE]


def lost_ignored(labels_HW: NDArray[np.uint8]) -> dict[str, int]:
    """The loss of formats in which what has no label is background."""
    pixels = int(np.count_nonzero(labels_HW == IGNORE))
    return {"ignored pixels, which become background": pixels} if pixels else {}


def pixels_in(box: Box, numbers_HW: NDArray[np.integer], number: int) -> NDArray[np.bool_]:
    """(height, width): the pixels of the region of a number within its box."""
    return np.asarray(numbers_HW[rows_and_columns(box)] == number)


@lru_cache
def corner_words(width: int, height: int, whole: int, x: str, y: str) -> NDArray[np.object_]:
    """The places of all columns of corners, then of all rows, in their formats; `whole` is the length of each side."""
    sides = ((x, width), (y, height))
    return np.array([form.format(whole * place / size) for form, size in sides for place in range(size + 1)], object)


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
    found = (
        BoxedRegion(int(labels_HW[region.first]), region.box, pixels_in(region.box, numbers, number))
        for number, region in encode_regions(numbers).items()
    )
    yield from sorted(found, key=lambda region: region.value)


@dataclass(frozen=True)
class Outlines:
    """The regions of a label map as outlines, and the pixels that these enclose.

    Attributes:
        skip: values that are not outlined.
        simplify_px: see `find_regions`.
        exact: the number of the region of each pixel of the labels; 0 for none.
    """

    image: LabelledImage
    skip: Sequence[int]
    simplify_px: float | None
    regions: list[TracedRegion]
    exact: NDArray[np.integer]

    @classmethod
    def of(cls, image: LabelledImage, *, skip: Sequence[int], simplify_px: float | None = None) -> "Outlines":
        """Of an image, simplified as it says."""
        simplify_px = image.simplify_px or simplify_px
        traced = find_numbered_regions(image.labels, skip=skip, simplify_px=simplify_px)
        return cls(image, skip, simplify_px, *traced)

    @cached_property
    def numbers(self) -> NDArray[np.integer]:
        """The number of the region to which each pixel belongs when the outlines are drawn again; 0 for none."""
        if not self.simplify_px:
            return self.exact
        (height, width), regions = self.image.labels.shape, self.regions
        shapes = [Shape(region.number, [[ring.astype(np.float64) for ring in region.rings]]) for region in regions]
        return rasterise(shapes, height=height, width=width, where=Location(self.image.image))

    def pixels(self, region: TracedRegion) -> tuple[NDArray[np.bool_], Box]:
        """The pixels of a region within its box, and the box."""
        (left, top), (right, bottom) = region.rings[0].min(0).tolist(), region.rings[0].max(0).tolist()
        box = left, top, right - left, bottom - top
        return pixels_in(box, self.numbers, region.number), box

    def lost(self) -> dict[str, int]:
        """The loss of ignored pixels without outlines, and of those that have another label when drawn again."""
        lost = lost_ignored(self.image.labels) if IGNORE in self.skip else {}
        if not self.simplify_px:
            return lost
        values = np.zeros(1 + len(self.regions), np.uint16)
        values[self.exact] = self.image.labels + np.uint16(1)
        values[0] = 0
        moved = int(np.count_nonzero(values[self.numbers] != values[self.exact]))
        return lost | ({"pixels that the simplification of outlines moved": moved} if moved else {})
