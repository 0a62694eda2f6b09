"""The check before the first epoch: all images and masks, all defects in one message, and the counts training needs."""

import hashlib
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import IGNORE
from pyramidseg.data.defects import Defects
from pyramidseg.data.images import check_channels, read_header
from pyramidseg.data.pairs import check_same_size
from pyramidseg.data.parallel import Track, in_threads, untracked
from pyramidseg.data.records import Dataset, MaskSource, Record
from pyramidseg.errors import DataError


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds; pixel counts are by class id.

    Attributes:
        pixels: labelled pixels of each class.
        presence: images in which each class occurs.
        presence_pixels: labelled pixels, of any class, of those images. `pixels / presence_pixels` is the class
            frequency of Eigen & Fergus (arXiv 1411.4734, section 6.3.2), which median-frequency weights go by.
        ignored: pixels that count nowhere.
        min_size, max_size: smallest and largest height and width, each by itself.
        dtypes: the kinds of pixel values that the images have.
    """

    images: int
    pixels: tuple[int, ...]
    presence: tuple[int, ...]
    presence_pixels: tuple[int, ...]
    ignored: int
    min_size: tuple[int, int]
    max_size: tuple[int, int]
    dtypes: tuple[str, ...]


@dataclass(frozen=True)
class DatasetSummary:
    """The splits that were checked, and a fingerprint of the ids and sizes of their files."""

    splits: dict[str, SplitSummary]
    fingerprint: str


class Finding(NamedTuple):
    """What the check of one record gives: the facts, or the error that stands in their way."""

    record: Record
    size: tuple[int, int] = (0, 0)
    dtype: str = ""
    counts: NDArray[np.int64] | None = None
    error: DataError | None = None


def check_dataset(
    dataset: Dataset,
    *,
    splits: Iterable[str] = ("train", "val"),
    channels: int | None = None,
    track: Track = untracked,
    workers: int | None = None,
) -> DatasetSummary:
    """Decode every mask and read every image's header; never stop at the first defect.

    Args:
        splits: the splits to check; each must hold something.
        channels: the number of image channels that the model takes, if it is known.
        track: shows the progress.
        workers: threads; default: one for each processor, up to 8.

    Raises:
        DataError: there are defects. The first few are named, and how many there are in all.
    """
    listed = {split: dataset.split(split) for split in splits}
    total = sum(len(records) for records in listed.values())
    _refuse_repeated_ids(dataset, listed)

    def check(record: Record) -> Finding:
        return check_record(record, dataset.masks, channels=channels)

    everything = ((split, record) for split, records in listed.items() for record in records)
    findings = in_threads(lambda item: (item[0], check(item[1])), everything, workers=workers)
    tallies = {split: _Tally(len(dataset.classes)) for split in listed}
    defects = Defects(dataset.source)
    for split, finding in track(findings, total=total, what="checking images and masks"):
        tallies[split].add(finding)
        if finding.error is not None:
            defects.add(finding.error)
    defects.refuse(total)
    summaries = {split: tally.summary() for split, tally in tallies.items()}
    dtypes = {dtype for summary in summaries.values() for dtype in summary.dtypes}
    if len(dtypes) > 1:
        raise DataError(f"{dataset.source}: images of {' and '.join(sorted(dtypes))} cannot be mixed; convert one kind")
    return DatasetSummary(summaries, fingerprint(listed))


def check_record(record: Record, masks: MaskSource, *, channels: int | None = None) -> Finding:
    """Check one image and its mask without decoding the image."""
    try:
        header = read_header(record.image)
        if channels is not None:
            check_channels(record.image, header, channels)
        labels = masks.read(record)
        check_same_size(record, (header.height, header.width), labels.shape)
    except DataError as error:
        return Finding(record, error=error)
    counts = np.bincount(labels.ravel(), minlength=256)
    return Finding(record, (header.height, header.width), header.dtype, counts)


def fingerprint(splits: dict[str, tuple[Record, ...]]) -> str:
    """sha256 (hexadecimal) over split names, ids and file sizes: cheap, and independent of where the files lie."""
    digest = hashlib.sha256()
    for split, records in sorted(splits.items()):
        for record in records:
            sizes = [_size(record.image), _size(record.mask) if record.mask else -1]
            digest.update(repr((split, record.id, *sizes)).encode())
    return digest.hexdigest()


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None


def _refuse_repeated_ids(dataset: Dataset, listed: dict[str, tuple[Record, ...]]) -> None:
    for split, records in listed.items():
        ids = Counter(record.id for record in records)
        name, count = ids.most_common(1)[0]
        if count > 1:
            raise DataError(
                f"{dataset.source}: {count} records of split {split!r} have the id {name!r}; ids must differ"
            )


class _Tally:
    """Running sums over the records of one split."""

    def __init__(self, num_classes: int) -> None:
        self.images = self.ignored = 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.presence = np.zeros(num_classes, np.int64)
        self.presence_pixels = np.zeros(num_classes, np.int64)
        self.sizes: set[tuple[int, int]] = set()
        self.dtypes: set[str] = set()

    def add(self, finding: Finding) -> None:
        if finding.counts is None:
            return
        counts = finding.counts[: len(self.pixels)]
        self.images += 1
        self.ignored += int(finding.counts[IGNORE])
        self.pixels += counts
        self.presence += counts > 0
        self.presence_pixels += np.where(counts > 0, counts.sum(), 0)
        self.sizes.add(finding.size)
        self.dtypes.add(finding.dtype)

    def summary(self) -> SplitSummary:
        heights, widths = zip(*self.sizes, strict=True)
        return SplitSummary(
            images=self.images,
            pixels=tuple(self.pixels.tolist()),
            presence=tuple(self.presence.tolist()),
            presence_pixels=tuple(self.presence_pixels.tolist()),
            ignored=self.ignored,
            min_size=(min(heights), min(widths)),
            max_size=(max(heights), max(widths)),
            dtypes=tuple(sorted(self.dtypes)),
        )
