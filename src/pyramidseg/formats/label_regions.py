"""The regions of label maps, for the writers of formats that keep regions: as boxed pixels, and as outlines."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.contours import Region, find_regions, number_regions
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
        where: origin of the labels, for messages.
    """

    labels: NDArray[np.uint8]
    skip: Sequence[int]
    simplify_px: float | None
    where: Location

    @classmethod
    def of(cls, image: LabelledImage, *, skip: Sequence[int], simplify_px: float | None = None) -> "Outlines":
        """Of an image, simplified as it says."""
        return cls(image.labels, skip, image.simplify_px or simplify_px, Location(image.image))

    @cached_property
    def regions(self) -> list[Region]:
        """See `find_regions`."""
        return find_regions(self.labels, skip=self.skip, simplify_px=self.simplify_px)

    @cached_property
    def drawn(self) -> NDArray[np.integer]:
        """The number of the region to which each pixel belongs when the outlines are drawn again; 0 for none."""
        (height, width), regions = self.labels.shape, self.regions
        shapes = [Shape(region.number, [[ring.astype(np.float64) for ring in region.rings]]) for region in regions]
        return rasterise(shapes, height=height, width=width, where=self.where)

    @cached_property
    def numbers(self) -> NDArray[np.integer]:
        """The same, without drawing where outlines are exact."""
        return self.drawn if self.simplify_px else number_regions(self.labels, skip=self.skip)

    def pixels(self, region: Region) -> tuple[NDArray[np.bool_], Box]:
        """The pixels of a region within its box, and the box."""
        (left, top), (right, bottom) = region.rings[0].min(0).tolist(), region.rings[0].max(0).tolist()
        box = left, top, right - left, bottom - top
        return pixels_in(box, self.numbers, region.number), box

    def count_moved(self) -> int:
        """Number of pixels that have another label when the outlines are drawn again."""
        values = np.zeros(1 + max((region.number for region in self.regions), default=0), np.uint16)
        values[[region.number for region in self.regions]] = [region.value + 1 for region in self.regions]
        before = np.where(np.isin(self.labels, self.skip), 0, self.labels.astype(np.uint16) + 1)
        return int(np.count_nonzero(values[self.drawn] != before))

    def lost(self) -> dict[str, int]:
        """The loss by simplification."""
        moved = self.count_moved() if self.simplify_px else 0
        return {"pixels that the simplification of outlines moved": moved} if moved else {}
