"""`pyramidseg inspect`: read everything in a dataset once, find every defect, and compute exact statistics.

Defects, pixel and image counts, channel statistics and identical images are exact; similar images are found by hash.
At any time only a few images are in memory; some 300 bytes are kept of each, and its defects.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import PyramidSegError
from pyramidseg.data.pairs import FilePairs, read_pair
from pyramidseg.data.records import Dataset, DatasetSource
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.images.scene_windows import window_at
from pyramidseg.inspection.contact_sheet import MIN_SAMPLES, Sample, make_sample
from pyramidseg.inspection.dataset_checks import ADD_IMAGES, find_id_conflicts, find_outliers, missing_classes
from pyramidseg.inspection.defect_summary import UnknownValue
from pyramidseg.inspection.duplicates import find_duplicates
from pyramidseg.inspection.pair_collector import ChannelGroup, PairCollector, SplitSummary
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
    collected = PairCollector(dataset, dataset.splits)
    collected.inspect(channels=dataset.bands, decode_images=True, task="inspecting images and masks")
    images, statistics = collected.images, collected.statistics
    found += [
        *find_id_conflicts(dataset.splits),
        *dict.fromkeys(collected.defects),
        *collected.defects_across_pairs(),
        *find_outliers(images),
        *find_duplicates(images, dataset.masks),
    ]
    remarks = [*collected.remarks()]
    empty_windows = [it.file for it in found if it.kind is DefectKind.ALL_IGNORED and window_at(it.file)]
    if empty_windows:  # as at the edges of an orthophoto: there is nothing to label
        found = [it for it in found if it.kind is not DefectKind.ALL_IGNORED or not window_at(it.file)]
        remarks.append(f"all pixels of {len(empty_windows)} windows are ignored, for example of {empty_windows[0]}")
    classes_unclear = any(defect.kind is DefectKind.UNCLEAR_CLASSES for defect in found)
    if not classes_unclear:
        empty, uncertain = _empty_classes(dataset, statistics, labels_lost=labels_lost)
        found += empty
        remarks += uncertain
    train, val = (len(dataset.splits.get(split, ())) for split in ("train", "val"))
    if 0 < val < FEW_SCORED and train:
        few = f"split val has {val} images, which cannot tell two models apart unless they differ by several points"
        total = 0 if "window" in dataset.description else train + val
        advice = f": cross-validation (pyramidseg train --folds 5) scores all {total} images" if total >= 5 else ""
        remarks.append(few + advice)
    unknown_values = collected.unknown.values()
    samples = [
        make_sample(dataset.classes, split, record.id, *read_pair(record, dataset.masks, channels=dataset.bands))
        for split, record in (collected.pairs[index] for index in collected.samples.select())
    ]
    return Inspection(
        dataset=dataset,
        defects=tuple(found),
        remarks=tuple(remarks),
        doubtful_turns=tuple(collected.doubtful_turns()),
        classes_unclear=classes_unclear,
        summaries=statistics,
        sizes=Counter(image.facts[:2] for image in images),
        channel_groups=collected.channel_groups(),
        unknown_values=unknown_values,
        samples=tuple(samples),
        proposal=propose(dataset, [image.facts for image in images], statistics, found, unknown_values),
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


def draw_augmented(inspection: Inspection, data: DataConfig) -> tuple[Sample, ...]:
    """The crops of a few training images, at even distances, that the first epoch of a run with seed 0 draws.

    Images that cannot be read are left out: the inspection lists them as defects.
    """
    from pyramidseg.data.loading import TrainingSamples  # imports torch
    from pyramidseg.data.transforms import Augmentation

    dataset = inspection.dataset
    records = dataset.splits.get("train", ())
    if not records or not inspection.channel_groups:
        return ()
    pairs = FilePairs(records, dataset.masks, dataset.bands or len(inspection.channel_groups[0].channels))
    pixels = inspection.summaries["train"].pixels
    samples = TrainingSamples(pairs, augmentation=Augmentation(data, tuple(pixels)), seed=0)
    drawn = []
    for index in np.linspace(0, len(records) - 1, min(MIN_SAMPLES, len(records))).round().astype(int).tolist():
        sample = samples[0, index]
        if not isinstance(sample, PyramidSegError):
            image, labels, _ = sample
            drawn.append(make_sample(dataset.classes, "train", records[index].id, image, labels))
    return tuple(drawn)
