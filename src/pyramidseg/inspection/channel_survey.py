"""What is kept of a dataset while its images go by."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

from pyramidseg.base.defects import Defect
from pyramidseg.data.channel_statistics import ChannelStatistics, ChannelSums
from pyramidseg.inspection.class_statistics import Tally
from pyramidseg.inspection.contact_sheet import Showcase
from pyramidseg.inspection.duplicates import find_neighbours
from pyramidseg.inspection.image_table import ImageTable, PixelIndex
from pyramidseg.inspection.pair_inspection import Examination, ImageFacts, Palettes, Turns
from pyramidseg.inspection.suggested_config import StrayValue

MOST_STRAYS = 1000
"""Further values that are no class are counted together."""


@dataclass(frozen=True)
class ChannelGroup:
    """The images of one number of channels and one type, and what the values of each channel are."""

    dtype: str
    images: int
    channels: tuple[ChannelStatistics, ...]


class Survey:
    """What is kept while the images go by, in ascending order of their places."""

    def __init__(self, places: PixelIndex, num_classes: int) -> None:
        self.places = places
        self.table = ImageTable(places)
        self.tallies = {split: Tally(num_classes) for split in places.splits}
        self.showcase = Showcase(num_classes, len(places))
        self.defects: list[Defect] = []
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.turns = Turns()
        self.palettes = Palettes()
        self._sums: dict[tuple[str, int], tuple[int, list[ChannelSums]]] = {}
        self._stray_pixels: Counter[str] = Counter()
        self._stray_masks: Counter[str] = Counter()

    def add(self, place: int, examination: Examination) -> None:
        """Take in one record."""
        self.defects += examination.defects
        for name, pixels in examination.unknown.items():
            kept = name if name in self._stray_pixels or len(self._stray_pixels) < MOST_STRAYS else "others"
            self._stray_pixels[kept] += pixels
            self._stray_masks[kept] += 1
        self.turns.add(examination.record, examination.turn)
        self.palettes.add(examination.record, examination.palette)
        facts = examination.image
        if facts is None:
            return
        self.table.put(place, facts)
        self.sizes[facts.height, facts.width] += 1
        self._add_sums(facts)
        if examination.counts is not None:
            size = facts.height, facts.width
            self.tallies[self.places.split(place)].add(size, facts.dtype, examination.counts)
            self.showcase.offer(place, examination.counts)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Channel statistics by kind of image, the most frequent kind first."""
        groups = [
            ChannelGroup(dtype, images, tuple(band.statistics() for band in sums))
            for (dtype, _), (images, sums) in self._sums.items()
        ]
        return tuple(sorted(groups, key=lambda group: -group.images))

    def strays(self) -> tuple[StrayValue, ...]:
        """Values that are no class over all masks, the most frequent first."""
        return tuple(
            StrayValue(name, pixels, self._stray_masks[name]) for name, pixels in self._stray_pixels.most_common()
        )

    def remarks(self) -> Iterator[str]:
        """What is worth knowing and no defect."""
        for neighbours in find_neighbours(self.table):
            one, other = neighbours.example
            yield (
                f"{neighbours.images} images of split {neighbours.split} look like another one of it, as frames of a "
                f"video do, such as {one} and {other}"
            )
        yield from self.turns.remarks()

    def _add_sums(self, facts: ImageFacts) -> None:
        key = facts.dtype, facts.channels
        if key not in self._sums:
            self._sums[key] = 1, facts.sums
            return
        images, sums = self._sums[key]
        for band, more in zip(sums, facts.sums, strict=True):
            band.add(more)
        self._sums[key] = images + 1, sums
