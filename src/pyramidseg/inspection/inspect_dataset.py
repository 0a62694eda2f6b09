"""`pyramidseg inspect`: read everything in a dataset once, find every defect, and compute exact statistics.

Defects, pixel and image counts, channel statistics and identical images are exact; similar images are found by hash.
At any time only a few images are in memory; some 300 bytes are kept of each, and its defects.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.channel_statistics import ChannelStatistics, ChannelSums
from pyramidseg.data.records import Dataset, DatasetSource, Record
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.images.scene_windows import window_at
from pyramidseg.inspection.class_statistics import SplitSummary
from pyramidseg.inspection.contact_sheet import Sample, SampleSelector, draw_sample
from pyramidseg.inspection.dataset_checks import (
    ADD_IMAGES,
    PairCollector,
    find_id_conflicts,
    find_outliers,
    missing_classes,
)
from pyramidseg.inspection.defect_summary import UnknownValue
from pyramidseg.inspection.duplicates import find_duplicates
from pyramidseg.inspection.inspect_pair import PairInspection
from pyramidseg.inspection.proposal import Proposal, propose

FEW_SCORED = 20
"""Smallest val split without a remark. A rule of thumb: if the difference between two models varies by five points from
image to image, the 95 % interval of its mean over 20 images extends two points (`studies.bootstrap.WIDE`)."""

_LOSES_LABELS = {
    DefectKind.BAD_ANNOTATION,
    DefectKind.RIVAL_ANNOTATION,
    DefectKind.MISSING_IMAGE,
    DefectKind.ABSENT,
    DefectKind.OUTSIDE,
}
"""Defects of files that belong to no record, whose labels might have shown a class."""

USUAL_ORDER = ("train", "val", "test")


@dataclass(frozen=True)
class ChannelGroup:
    """Channel statistics of all images with one number of channels and one dtype."""

    dtype: str
    images: int
    channels: tuple[ChannelStatistics, ...]


@dataclass(frozen=True)
class Inspection:
    """Result of `inspect_dataset`.

    Attributes:
        remarks: what users should know, but is not a defect.
        doubtful_turns: files that their EXIF orientation turns, although nothing shows whether it should.
        classes_unclear: whether the masks' values leave more than one reading; the classes are a proposal then.
        summaries: by split, of the pairs without a defect of their own.
        sizes: number of images by (height, width).
        augmented: crops as training sees them, if they were asked for.
    """

    dataset: Dataset
    defects: tuple[Defect, ...]
    remarks: tuple[str, ...]
    doubtful_turns: tuple[Path, ...]
    classes_unclear: bool
    summaries: Mapping[str, SplitSummary]
    sizes: Counter[tuple[int, int]]
    channel_groups: tuple[ChannelGroup, ...]
    unknown_values: tuple[UnknownValue, ...]
    samples: tuple[Sample, ...]
    proposal: Proposal
    augmented: tuple[Sample, ...] = ()


def inspect_dataset(source: DatasetSource, *, data: DataConfig | None = None) -> Inspection:
    """Inspect a dataset: a folder, a YAML file, or a `Dataset`.

    Args:
        data: how to read it, as for training.

    Raises:
        DataError: it is not recognised as a dataset.
        ConfigError: the settings or the YAML file are invalid.
    """
    dataset, found = open_with_defects(source, data or DataConfig())
    labels_lost = any(defect.kind in _LOSES_LABELS for defect in found)
    # Train first: an image in two splits is reported for the later one.
    order = (*USUAL_ORDER, *dataset.splits)
    dataset = replace(dataset, splits={it: dataset.splits[it] for it in order if it in dataset.splits})
    collected = _InspectionCollector(dataset.splits, len(dataset.classes))
    table, records = collected.table, collected.table.records
    collected.inspect(dataset, channels=dataset.bands, decode_images=True, task="inspecting images and masks")
    found += [
        *find_id_conflicts(dataset.splits),
        *dict.fromkeys(collected.defects),
        *collected.defects_across_pairs(dataset.source),
        *find_outliers(table),
        *find_duplicates(table, dataset.masks),
    ]
    remarks = [*collected.remarks()]
    empty_windows = [it.file for it in found if it.kind is DefectKind.ALL_IGNORED and window_at(it.file)]
    if empty_windows:  # as at the edges of an orthophoto: there is nothing to label
        found = [it for it in found if it.kind is not DefectKind.ALL_IGNORED or not window_at(it.file)]
        remarks.append(f"all pixels of {len(empty_windows)} windows are ignored, for example of {empty_windows[0]}")
    classes_unclear = any(defect.kind is DefectKind.UNCLEAR_CLASSES for defect in found)
    if not classes_unclear:
        empty, uncertain = _empty_classes(dataset, collected.statistics, labels_lost=labels_lost)
        found += empty
        remarks += uncertain
    train, val = (len(dataset.splits.get(split, ())) for split in ("train", "val"))
    if 0 < val < FEW_SCORED and train:
        few = f"split val has {val} images, which cannot tell two models apart unless they differ by several points"
        images = 0 if "window" in dataset.description else train + val
        advice = f": train with --folds 5, whose scores are of all {images} images" if images >= 5 else ""
        remarks.append(few + advice)
    unknown_values = collected.unknown.values()
    chosen = collected.samples.select()
    samples = (draw_sample(dataset, table.split_of[index], records[index]) for index in chosen)
    return Inspection(
        dataset=dataset,
        defects=tuple(found),
        remarks=tuple(remarks),
        doubtful_turns=tuple(collected.doubtful_turns()),
        classes_unclear=classes_unclear,
        summaries=collected.statistics,
        sizes=Counter((facts.height, facts.width) for facts in table.facts.values()),
        channel_groups=collected.channel_groups(),
        unknown_values=unknown_values,
        samples=tuple(samples),
        proposal=propose(dataset, table, collected.statistics, found, unknown_values),
    )


class _InspectionCollector(PairCollector):
    """Collects also what only the inspection reports."""

    def __init__(self, splits: Mapping[str, tuple[Record, ...]], num_classes: int) -> None:
        super().__init__(splits, num_classes)
        self.samples = SampleSelector(num_classes)
        self._images: Counter[tuple[str, int]] = Counter()
        self._sums: dict[tuple[str, int], tuple[ChannelSums, ...]] = {}

    def add(self, index: int, pair: PairInspection) -> None:
        """Add one pair."""
        super().add(index, pair)
        if pair.image is not None:
            key = pair.image.dtype, pair.image.channels
            self._images[key] += 1
            sums = self._sums.setdefault(key, tuple(ChannelSums(pair.image.dtype) for _ in pair.image.sums))
            for band, more in zip(sums, pair.image.sums, strict=True):
                band.add(more)
        if pair.label_counts is not None:
            self.samples.add(index, pair.label_counts)

    def channel_groups(self) -> tuple[ChannelGroup, ...]:
        """Channel statistics by kind of image, the most frequent kind first."""
        return tuple(
            ChannelGroup(key[0], images, tuple(band.statistics() for band in self._sums[key]))
            for key, images in self._images.most_common()
        )


def _empty_classes(
    dataset: Dataset, statistics: Mapping[str, SplitSummary], *, labels_lost: bool
) -> tuple[list[Defect], list[str]]:
    """Classes without a pixel: one defect for each split, or a remark if labels that were not counted may show them.

    Args:
        labels_lost: whether some labels belong to no record.
    """
    defects: list[Defect] = []
    remarks: list[str] = []
    for split, counted in statistics.items():
        total = len(dataset.splits[split])
        if not counted.images or not (found := missing_classes(dataset, split, counted.pixels)):
            continue
        if labels_lost or counted.images < total:
            remarks.append(
                f"{found}; but only {counted.images} of {total} masks were counted, because labels with defects are not"
            )
        else:
            defects.append(Defect(DefectKind.EMPTY_CLASS, Path(dataset.source), f"{found}; {ADD_IMAGES}"))
    return defects, remarks
