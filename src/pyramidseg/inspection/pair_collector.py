"""Inspect the image-mask pairs of splits, and collect defects, facts on every image, and statistics."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.setting_types import Channels
from pyramidseg.base.text import first_few
from pyramidseg.data.channel_statistics import ChannelStatistics, ChannelSums
from pyramidseg.data.image_mask_checks import ExifStatus, exif_orientation
from pyramidseg.data.records import Dataset, Record
from pyramidseg.inspection.contact_sheet import SampleSelector
from pyramidseg.inspection.dataset_checks import ListedImage, PaletteColors, find_mixed_dtypes
from pyramidseg.inspection.defect_summary import UnknownValues
from pyramidseg.inspection.inspect_pair import PairInspection, inspect_pair

FILES_SHOWN = 10
"""Files that a remark names."""


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of one split; pixel counts are by class id.

    Attributes:
        pixels: labelled pixels of each class.
        presence: images in which each class occurs.
        presence_pixels: labelled pixels, of any class, of those images. `pixels / presence_pixels` is the class
            frequency of Eigen & Fergus (arXiv 1411.4734, section 6.3.2), from which median-frequency weights follow.
        ignored: ignored pixels.
        dtypes: of the images.
    """

    images: int
    pixels: tuple[int, ...]
    presence: tuple[int, ...]
    presence_pixels: tuple[int, ...]
    ignored: int = 0
    dtypes: tuple[str, ...] = ()

    def plus(self, dtype: str, label_counts: NDArray[np.int64]) -> "SplitSummary":
        """With one more image, with (256,) pixels by label, each a class or `IGNORE`."""
        counts = label_counts[: len(self.pixels)]
        assert counts.sum() + label_counts[IGNORE] == label_counts.sum()
        added = (counts, counts > 0, np.where(counts > 0, counts.sum(), 0))
        sums = np.array([self.pixels, self.presence, self.presence_pixels]) + added
        pixels, presence, presence_pixels = map(tuple, sums.tolist())
        ignored, dtypes = self.ignored + int(label_counts[IGNORE]), tuple(sorted({*self.dtypes, dtype}))
        return SplitSummary(self.images + 1, pixels, presence, presence_pixels, ignored, dtypes)


@dataclass(frozen=True)
class ChannelGroup:
    """Channel statistics of all images with one number of channels and one dtype."""

    dtype: str
    images: int
    channels: tuple[ChannelStatistics, ...]


class PairCollector:
    """Inspects pairs, in the order of the splits and their records.

    Attributes:
        pairs: all of them, each a split and a record.
        images: those that could be read.
        defects: of the pairs by themselves.
        by_exif: the pairs of each status.
        statistics: by split, of the pairs without a defect of their own.
    """

    def __init__(self, dataset: Dataset, splits: Mapping[str, tuple[Record, ...]]) -> None:
        self.dataset = dataset
        self.pairs = [(split, record) for split, records in splits.items() for record in records]
        self.images: list[ListedImage] = []
        self.defects: list[Defect] = []
        self.unknown = UnknownValues()
        self.by_exif: dict[ExifStatus, list[Record]] = {status: [] for status in ExifStatus}
        none = (0,) * len(dataset.classes)
        self.statistics = {split: SplitSummary(0, none, none, none) for split in splits}
        self.samples = SampleSelector(len(dataset.classes))
        self._palettes = PaletteColors(dataset.sets)
        self._contested: list[tuple[int, Record]] = []
        self._sums: dict[tuple[str, int], tuple[ChannelSums, ...]] = {}

    def inspect(self, *, channels: Channels | None, decode_images: bool, task: str) -> None:
        """Inspect all pairs; see `inspect_pair` for the arguments, and `track` for `task`."""
        masks, num_classes = self.dataset.masks, len(self.dataset.classes)
        inspect = partial(
            inspect_pair, masks=masks, num_classes=num_classes, channels=channels, decode_image=decode_images
        )
        found = map_in_threads(inspect, [record for _, record in self.pairs])
        for index, pair in enumerate(track(found, total=len(self.pairs), task=task)):
            self._add(index, pair)

    def _add(self, index: int, pair: PairInspection) -> None:
        split, record = self.pairs[index]
        self.defects += pair.defects
        if pair.unknown_values is not None:
            self.unknown.add(pair.unknown_values)
        self.by_exif[pair.exif].append(record)
        self._palettes.add(record, pair.palette)
        if pair.contested:
            self._contested.append((pair.contested, record))
        if (image := pair.image) is not None:
            self.images.append(ListedImage(split, record, image._replace(sums=())))
            totals = self._sums.setdefault(
                (image.dtype, image.channels), tuple(ChannelSums(image.dtype) for _ in image.sums)
            )
            for total, sums in zip(totals, image.sums, strict=True):
                total.add(sums)
            if pair.label_counts is not None:
                self.statistics[split] = self.statistics[split].plus(image.dtype, pair.label_counts)
                self.samples.add(index, pair.label_counts)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Channel statistics by kind of image, the most frequent kind first."""
        kinds = Counter((image.facts.dtype, image.facts.channels) for image in self.images)
        return tuple(
            ChannelGroup(kind[0], images, tuple(sums.statistics() for sums in self._sums[kind]))
            for kind, images in kinds.most_common()
        )

    def defects_across_pairs(self) -> Iterator[Defect]:
        """Defects that only the comparison of all pairs shows, and that prevent training."""
        turned = self.by_exif[ExifStatus.NOT_APPLIED]
        for record in self.by_exif[ExifStatus.UNVERIFIED] if self._masks_are_never_turned else ():
            detail = (
                f"its image {record.image} is turned by its EXIF orientation ({exif_orientation(record.image)}), and "
                f"the sizes of {len(turned)} other pairs show that the masks of this dataset were not; turn the mask "
                "too, or remove the tag"
            )
            yield Defect(DefectKind.EXIF_TURNED, record.mask or record.image, detail)
        yield from find_mixed_dtypes(self.images)
        if contradiction := self._palettes.contradiction():
            yield Defect(DefectKind.UNCLEAR_CLASSES, Path(self.dataset.source), contradiction)

    @property
    def _masks_are_never_turned(self) -> bool:
        return bool(self.by_exif[ExifStatus.NOT_APPLIED]) and not self.by_exif[ExifStatus.CONFIRMED]

    def doubtful_turns(self) -> list[Path]:
        """Files that their EXIF orientation turns, although neither sizes nor other pairs show whether it should."""
        images = [] if self._masks_are_never_turned else self.by_exif[ExifStatus.UNVERIFIED]
        masks = self.by_exif[ExifStatus.MASK_ONLY]
        return [*(record.image for record in images), *(record.mask or record.image for record in masks)]

    def remarks(self) -> Iterator[str]:
        """Files that users should look at, because they may be right."""
        if files := self.doubtful_turns():
            yield (
                f"{len(files)} files are turned by their EXIF orientation, and sizes do not show whether the other "
                f"file of the pair was turned too; check them: {first_few(files, limit=FILES_SHOWN)}"
            )
        if self._contested:
            most, record = max(self._contested, key=lambda one: one[0])
            total = sum(pixels for pixels, _ in self._contested)
            yield (
                f"regions with different labels overlap in {len(self._contested)} images, in {total} pixels, of which "
                f"{most} are in {record.image}; the notes say which region is on top"
            )
