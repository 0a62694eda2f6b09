"""Makes a validation split for datasets without one, and folds for cross-validation."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.list_files import read_rows


def with_val_split(dataset: Dataset, share: float, *, group: str | None = None) -> Dataset:
    """Move some training images to a validation split, for a dataset without one.

    A hash of the ids chooses them: the choice is the same on every machine and in every run, and hardly changes when
    images are added.

    Args:
        group: regular expression for the part of an id (its first group, or the whole match) that images of one
            sequence share, or a CSV file of images and their sequences; they stay in one split.

    Raises:
        DataError: there is a single image, or a single sequence; or an image without a sequence.
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
    """Records by sequence; without a pattern or file each record is a sequence of its own."""
    sequences: dict[str, list[Record]] = {}
    if group is not None and group.endswith(".csv"):
        return _by_file(Path(group), records)
    for record in records:
        name = record.id
        if group is not None:
            match = re.search(group, record.id)
            if match is None:
                raise DataError(f"{source}: data.group={group!r} does not match the image {record.id!r}")
            name = match[1] if match.re.groups else match[0]
        sequences.setdefault(name, []).append(record)
    return sequences


def _by_file(file: Path, records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by the sequence that a CSV file names for their id, file name or, of a window, scene; others are ignored.

    Raises:
        DataError: the file does not exist, or an image is not listed exactly once.
    """
    if not file.is_file():
        raise DataError(f"data.group={file}: no such file; it is relative to the current folder")
    groups, sequences = dict[str, list[str]](), dict[str, list[Record]]()
    for row in (rows := read_rows(file)):
        groups.setdefault(row[0], []).append(row[-1])
    wrong = [",".join(row) for row in rows if len(row) != 2 or not all(row)]
    for record in () if wrong else records:
        stems, ends = {record.id, record.id.partition("#")[0]}, {"", record.image.suffix}
        found = [group for stem in stems for end in ends for group in groups.get(f"{stem}{end}", ())]
        if len(found) != 1:
            wrong.append(f"{record.id} ({len(found)} lines)")
        sequences.setdefault("".join(found), []).append(record)
    if wrong:
        advice = "every image needs one line with its name and its sequence, such as 0001.png,street7"
        raise DataError(f"{file}: {first_few(wrong)}: {advice}")
    return sequences


def draw_key(name: str) -> bytes:
    """What names are sorted by where a hash of them decides."""
    return hashlib.sha256(name.encode()).digest()
