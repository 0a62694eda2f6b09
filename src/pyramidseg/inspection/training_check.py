"""The check before training: the header of every image and every mask; all defects in one message, and class counts."""

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.setting_types import Channels
from pyramidseg.base.text import first_few
from pyramidseg.data.pairs import JoinedMasks
from pyramidseg.data.records import Dataset, Record
from pyramidseg.images.scene_windows import scene_of, window_at
from pyramidseg.inspection.dataset_checks import ADD_IMAGES, find_id_conflicts, missing_classes
from pyramidseg.inspection.defect_summary import refuse_files
from pyramidseg.inspection.duplicates import shared_files
from pyramidseg.inspection.pair_collector import PairCollector, SplitSummary


@dataclass(frozen=True)
class DatasetSummary:
    """Statistics of a dataset that can be trained on.

    Attributes:
        fingerprint: of the ids and sizes of the files.
        notes: what users have to know before training, but is not a defect.
        leak: files that are in `train` and `val`, as a sentence; empty if there are none.
    """

    splits: dict[str, SplitSummary]
    fingerprint: str
    notes: tuple[str, ...] = ()
    leak: str = ""


def check_dataset(
    dataset: Dataset, *, splits: Iterable[str] = ("train", "val"), channels: Channels | None = None
) -> DatasetSummary:
    """Decode every mask and read the header of every image, whatever defects there are.

    Args:
        splits: the splits to check; none may be empty.
        channels: the image channels that the model takes, if they are known.

    Raises:
        DataError: there are defects. Says how many, and names the first few.
    """
    listed = {split: dataset.split(split) for split in splits}
    collected = PairCollector(dataset, listed)
    collected.inspect(channels=channels, decode_images=False, task="checking images and masks")
    # Some masks without a class are harmless.
    all_ignored = [defect.file for defect in collected.defects if defect.kind is DefectKind.ALL_IGNORED]
    refused = [defect for defect in collected.defects if defect.kind is not DefectKind.ALL_IGNORED]
    refused += [defect for defect in find_id_conflicts(listed) if defect.kind is DefectKind.REPEATED_ID]
    refused += collected.defects_across_pairs()
    refuse_files(dataset.source, list(dict.fromkeys(refused)), collected.unknown, total=len(collected.pairs))
    notes = [*_absent_classes(dataset, collected.statistics), *collected.remarks()]
    if all_ignored:
        notes.append(f"all pixels of {len(all_ignored)} masks are ignored, for example of {all_ignored[0]}")
    return DatasetSummary(collected.statistics, fingerprint(listed, dataset), tuple(notes), _leak(listed))


def _leak(listed: Mapping[str, tuple[Record, ...]]) -> str:
    """The images of val that are also in train, as a sentence; empty if there are none."""
    train, val = ([*dict.fromkeys(scene_of(it.image) for it in listed.get(name, ()))] for name in ("train", "val"))
    cut = {scene_of(it.image) for it in listed.get("train", ()) if window_at(it.image)}  # its windows are in one each
    shared = shared_files(train, [file for file in val if file not in cut])
    if not shared:
        return ""
    shown = first_few([f"{file} (in train: {other})" for file, other in shared[:3]], limit=3, total=len(shared))
    return f"{len(shared)} of the {len(val)} val images are also in split train: {shown}"


def _absent_classes(dataset: Dataset, summaries: Mapping[str, SplitSummary]) -> Iterator[str]:
    """A note on the classes that a split does not show.

    Raises:
        DataError: a split has no labelled pixels, or the training images show only one class.
    """
    for split, summary in summaries.items():
        if not any(summary.pixels):
            raise DataError(
                f"{dataset.source}: no pixel of split {split!r} has a class: all {summary.ignored} pixels of its "
                f"{summary.images} masks are ignored; label some, or remove a class from `ignore`"
            )
        found = missing_classes(dataset, split, summary.pixels)
        if split == "train" and np.count_nonzero(summary.pixels) == 1:
            raise DataError(
                f"{dataset.source}: {found} (ignored: {summary.ignored} pixels): see the report of pyramidseg inspect"
            )
        if found:
            yield f"{found}; {ADD_IMAGES}"


def fingerprint(splits: Mapping[str, tuple[Record, ...]], dataset: Dataset) -> str:
    """SHA-256 (hexadecimal) of split names, ids, file sizes and joined classes: cheap, whatever the folder."""
    total = hashlib.sha256()
    if isinstance(dataset.masks, JoinedMasks):
        joined = [(name, share, dataset.masks.sets[name].table) for name, share in dataset.sets.items()]
        total.update(repr(joined).encode())
    for split, records in sorted(splits.items()):
        for record in records:
            sizes = [_file_size(file) if file else -1 for file in (record.image, record.mask)]
            total.update(repr((split, record.id, *sizes)).encode())
    return total.hexdigest()


def _file_size(path: Path) -> int:
    try:
        return scene_of(path).stat().st_size
    except OSError as error:
        raise DataError(f"{path}: {error.strerror or error}") from None
