"""Makes a validation split for datasets without one, and folds for cross-validation."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace

from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset, Record


def with_val_split(dataset: Dataset, share: float, *, group: str | None = None) -> Dataset:
    """Move some training images to a validation split, for a dataset without one.

    A hash of the ids chooses them: the choice is the same on every machine and in every run, and hardly changes when
    images are added.

    Args:
        group: regular expression for the part of an id (its first group, or the whole match) that images of one
            sequence share; they stay in one split.

    Raises:
        DataError: there is a single image, or a single sequence; or an id that the pattern does not match.
    """
    records = dataset.splits["train"]
    sequences = by_sequence(records, group, source=dataset.source)
    if len(sequences) < 2:
        what = "image" if group is None else "sequence"
        raise DataError(
            f"{dataset.source}: a single {what} cannot be split into train and val; add more, or a val split"
        )
    wanted = min(max(1, round(share * len(records))), len(records) - 1)
    chosen: set[str] = set()
    names = sorted(sequences, key=draw_key)
    for name in names[:-1]:  # one stays in train, whatever its size
        if len(chosen) >= wanted:
            break
        chosen.update(record.id for record in sequences[name])
    how = (
        "a hash of their names (data.val_share); where images belong to sequences, keep them together with data.group "
        "or a split of your own"
        if group is None
        else f"whole sequences ({len(sequences)} by data.group={group!r}) and a hash of their names (data.val_share)"
    )
    note = (
        f"the dataset has no val split: {len(chosen)} of the {len(records)} training images become one, chosen by {how}"
    )
    splits = {
        **dataset.splits,
        "train": tuple(record for record in records if record.id not in chosen),
        "val": tuple(record for record in records if record.id in chosen),
    }
    return replace(dataset, splits=splits, notes=(*dataset.notes, note))


def in_folds(
    records: Iterable[Record], number: int, *, group: str | None, source: str
) -> tuple[tuple[Record, ...], ...]:
    """Divide records into parts of nearly equal size; a hash of the ids, or of the sequences, chooses them.

    Args:
        group: as in `with_val_split`: images of one sequence stay in one part.

    Raises:
        DataError: there are fewer images, or sequences, than parts.
    """
    sequences = by_sequence(records, group, source=source)
    if len(sequences) < number:
        what = "images" if group is None else f"sequences (data.group={group!r})"
        raise DataError(f"{source}: {len(sequences)} {what} cannot be divided into {number} folds; choose fewer")
    parts: list[list[Record]] = [[] for _ in range(number)]
    for name in sorted(sequences, key=lambda name: (-len(sequences[name]), draw_key(name))):
        min(parts, key=len).extend(sequences[name])
    return tuple(tuple(part) for part in parts)


def by_sequence(records: Iterable[Record], group: str | None, *, source: str) -> dict[str, list[Record]]:
    """Records by sequence; without a pattern each record is a sequence of its own."""
    sequences: dict[str, list[Record]] = {}
    for record in records:
        name = record.id
        if group is not None:
            match = re.search(group, record.id)
            if match is None:
                raise DataError(f"{source}: data.group={group!r} does not match the image {record.id!r}")
            name = match[1] if match.re.groups else match[0]
        sequences.setdefault(name, []).append(record)
    return sequences


def draw_key(name: str) -> bytes:
    """What names are sorted by where a hash of them decides."""
    return hashlib.sha256(name.encode()).digest()
