"""Makes a validation split for datasets without one, and folds for cross-validation.

Of windows of scenes, val are blocks of space, with a gap between them and training windows. Neighbouring windows show
the same field, roof or cloud: a model that has trained on one is not tested by the other. Places are compared on the
map where scenes have one, so that scenes that overlap or adjoin do not leak, either.
"""

import hashlib
import re
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import cache
from math import isqrt
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.list_files import read_rows
from pyramidseg.images.decode import image_size
from pyramidseg.images.georeference import Georeference, read_georeference, reproject
from pyramidseg.images.scene_windows import scene_of, window_at

LARGEST_SIDE = 4
"""Of a block, in windows; blocks are smaller where val has few windows."""

_TOLERANCE_PX = 0.01


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


# Windows of scenes.


def with_val_blocks(dataset: Dataset, share: float, config: LabelConfig) -> Dataset:
    """Move blocks of neighbouring windows from train to a validation split, and leave out what is near both.

    A hash of their names chooses the blocks, as for images; training keeps at least half of the windows that it would
    have. With `config.group`, its sequences are the blocks.

    Raises:
        DataError: there are too few windows for a block, a gap and training windows.
    """
    records, window, group = dataset.splits["train"], config.window or 0, config.group
    gap_px = window if config.window_gap is None else config.window_gap
    wanted, side = share * len(records), min(LARGEST_SIDE, max(1, isqrt(round(share * len(records)))))
    blocks = by_sequence(records, group, source=dataset.source) if group else _blocks(records, side * window)
    numbers, boxes = {record: number for number, record in enumerate(records)}, _boxes(records)
    val, near = np.zeros((2, len(records)), np.bool_)
    for name in sorted(blocks, key=draw_key):
        members, lacking = [numbers[record] for record in blocks[name]], wanted - val.sum()
        around = near.copy()
        if val.any() and abs(lacking - len(members)) >= abs(lacking):
            continue
        for at in members:
            low, high = boxes(at)
            around |= np.maximum(low[at] - high, low - high[at]).max(axis=1) < gap_px - _TOLERANCE_PX
        around[members] = True
        if (~around).sum() >= max(1, (1 - share) * len(records) / 2):
            val[members], near = True, around
    if not val.any():
        raise DataError(
            f"{dataset.source}: {len(records)} windows are too few for val, training and a gap of {gap_px} pixels: set "
            f"data.window={max(32, window // 2)} or data.window_gap=0, or make folders train and val"
        )
    split = {name: tuple(records[at] for at in np.flatnonzero(it)) for name, it in (("train", ~near), ("val", val))}
    note = (
        f"the dataset has no val split: {val.sum()} of {len(records)} windows become one, in "
        f"{f'sequences by {group}' if group else f'blocks of up to {side} x {side}'} chosen by a hash of their names "
        f"(data.val_share); {near.sum() - val.sum()} windows less than {gap_px} pixels away from them are in neither "
        "split (data.window_gap)"
    )
    return replace(dataset, splits={**dataset.splits, **split}, notes=(*dataset.notes, note))


def overlapping_windows(train: Sequence[Record], val: Sequence[Record]) -> int:
    """Number of training windows of scenes that show a part of what a validation window shows, by their places."""
    records = [*val, *train]
    if not all(any(window_at(record.image) for record in some) for some in (train, val)):
        return 0
    boxes, own = _boxes(records), len(val)
    is_shown = np.zeros(len(train), np.bool_)
    for at in range(own):
        low, high = boxes(at)
        is_shown |= np.maximum(low[at] - high[own:], low[own:] - high[at]).max(axis=1) < -_TOLERANCE_PX
    return int(is_shown.sum())


def _blocks(records: Sequence[Record], side_px: int) -> dict[str, list[Record]]:
    """Records by the name of their block; an image that is not cut is a block of its own."""
    blocks: dict[str, list[Record]] = {}
    for record in records:
        name = record.id
        if window := window_at(record.image):
            name = f"{name.rpartition('#')[0]}#{window.top // side_px}x{window.left // side_px}"
        blocks.setdefault(name, []).append(record)
    return blocks


def _boxes(records: Sequence[Record]) -> Callable[[int], NDArray[np.float64]]:
    """Gives the least and the largest column and row, (2, N, 2), of all records on the plane of one, by its number.

    In pixels of the first scene with its coordinate system; NaN elsewhere. A scene without one has a plane of its own.
    """
    corners, systems = np.zeros((len(records), 4, 2)), list[str]()
    scenes, origins = dict[tuple[str, str], list[int]](), dict[str, Georeference]()
    for index, record in enumerate(records):
        (height, width), scene, window = image_size(record.image), str(scene_of(record.image)), window_at(record.image)
        left, top = (window.left, window.top) if window else (0, 0)
        place = read_georeference(record.image) or Georeference("", (1, 0, left, 0, 1, top))
        corners[index] = place.to_map(np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64))
        systems.append(system := place.crs or scene)
        origins.setdefault(system, place)
        scenes.setdefault((system, scene), []).append(index)

    @cache
    def on_plane(system: str) -> NDArray[np.float64]:
        boxes, origin = np.full((2, len(records), 2), np.nan), origins[system]
        for (own, _), members in scenes.items():
            if own == system or (origins[own].crs and origin.crs):
                with suppress(DataError):  # on another side of the Earth
                    moved = reproject(corners[members].reshape(-1, 2), source=own, target=system)
                    pixels = origin.to_pixels(moved).reshape(-1, 4, 2)
                    boxes[:, members] = pixels.min(axis=1), pixels.max(axis=1)
        return boxes

    return lambda index: on_plane(systems[index])
