"""Validation images for those who have set none aside."""

import hashlib
from dataclasses import replace

from pyramidseg.data.records import Dataset, Record
from pyramidseg.errors import DataError


def with_val_split(dataset: Dataset, share: float) -> Dataset:
    """Take validation images from the training images where there are none.

    Which ones, a hash of their ids decides: the choice is the same on every machine and in every run, and hardly
    changes when images are added.

    Raises:
        DataError: there is a single image.
    """
    records = dataset.splits.get("train", ())
    if not records or dataset.splits.get("val"):
        return dataset
    if len(records) < 2:
        raise DataError(
            f"{dataset.source}: a single image cannot be split into train and val; add more, or a val split"
        )
    count = min(max(1, round(share * len(records))), len(records) - 1)
    chosen = {record.id for record in sorted(records, key=_draw)[:count]}
    note = (
        f"there is no val split: {count} of the {len(records)} training images become one, chosen by a hash of their "
        "names (data.val_share); where images belong to sequences, make a split that keeps them together"
    )
    splits = {
        **dataset.splits,
        "train": tuple(record for record in records if record.id not in chosen),
        "val": tuple(record for record in records if record.id in chosen),
    }
    return replace(dataset, splits=splits, notes=(*dataset.notes, note))


def _draw(record: Record) -> bytes:
    return hashlib.sha256(record.id.encode()).digest()
