"""Makes a validation split of windows of scenes: blocks of space, with a gap between them and training windows.

Neighbouring windows show the same field, roof or cloud: a model that has trained on one is not tested by the other.
Places are compared on the map where scenes have one, so that scenes that overlap or adjoin do not leak, either.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.splitting import by_sequence, draw_key
from pyramidseg.images.decode import image_size
from pyramidseg.images.georeference import Georeference, read_georeference
from pyramidseg.images.scene_windows import scene_of, window_at

SIDES = (2, 3, 4, 6, 8, 12, 16, 1)
"""Sides of a block, in windows, in the order in which they are tried."""

MOST_IN_GAP, LEAST_OF_WANTED = 0.25, 0.75
"""A side is taken if no larger share of all windows is in the gap, and val has this share of what is wanted."""

_TOLERANCE_PX = 0.01

Places = tuple[NDArray[np.int64], NDArray[np.float64]]
"""Of N records: the number of a plane, and (N, 4) left, low, right and high on it in pixels."""

Division = tuple[NDArray[np.bool_], NDArray[np.bool_]]
"""Which of N records are in val, and which are not near it, for training."""


def with_val_blocks(dataset: Dataset, share: float, config: LabelConfig) -> Dataset:
    """Move blocks of neighbouring windows from train to a validation split, and leave out what is near both.

    A hash of their names chooses the blocks, as for images. With `config.group`, its sequences are the blocks.

    Raises:
        DataError: there are too few windows for a block, a gap and training windows.
    """
    records, window, group = dataset.splits["train"], config.window or 0, config.group
    gap_px = window if config.window_gap is None else config.window_gap
    places, wanted, tried = _places(records), share * len(records), dict[float, tuple[int, Division]]()
    for side in SIDES if group is None else (1,):
        blocks = by_sequence(records, group, source=dataset.source) if group else _blocks(records, side * window)
        val, train = division = _divide(records, places, blocks, share, gap_px)
        in_gap = len(records) - val.sum() - train.sum()
        is_good = in_gap <= MOST_IN_GAP * len(records) and val.sum() >= LEAST_OF_WANTED * wanted
        tried[np.inf if is_good else min(1.0, val.sum() / wanted) * train.sum()] = side, division
        if is_good:
            break
    side, (val, train) = tried[max(tried)]
    if not val.any():
        raise DataError(
            f"{dataset.source}: {len(records)} windows of {window} pixels are too few for val, training and a gap of "
            f"{gap_px} pixels between them; set a smaller data.window={max(32, window // 2)}, data.window_gap=0, or "
            "make folders train and val"
        )
    split = {name: tuple(records[at] for at in np.flatnonzero(part)) for name, part in (("train", train), ("val", val))}
    what = f"blocks of up to {side} x {side} windows" if group is None else f"sequences by data.group={group!r}"
    note = (
        f"there is no val split: {val.sum()} of {len(records)} windows become one, in {what} chosen by a hash of "
        f"their names (data.val_share); {len(records) - val.sum() - train.sum()} windows less than {gap_px} pixels "
        "away from them are in neither split (data.window_gap)"
    )
    return replace(dataset, splits={**dataset.splits, **split}, notes=(*dataset.notes, note))


def _blocks(records: Sequence[Record], side_px: int) -> dict[str, list[Record]]:
    """Records by the name of their block; an image that is not cut is a block of its own."""
    blocks: dict[str, list[Record]] = {}
    for record in records:
        name = record.id
        if window := window_at(record.image):
            name = f"{name.rpartition('#')[0]}#{window.top // side_px}x{window.left // side_px}"
        blocks.setdefault(name, []).append(record)
    return blocks


def _places(records: Sequence[Record]) -> Places:
    """Where records are, in pixels of the first scene on their plane; those on one map share a plane."""
    planes, boxes = np.zeros(len(records), np.int64), np.zeros((len(records), 4))
    numbers, first = dict[str, int](), dict[str, Georeference]()
    for index, record in enumerate(records):
        place, (height, width) = read_georeference(record.image), image_size(record.image)
        corners = np.array([(0, 0), (width, 0), (0, height), (width, height)], np.float64)
        if place is not None and place.crs:
            key = place.crs
            corners = first.setdefault(key, place).to_pixels(place.to_map(corners))
        else:
            key, window = str(scene_of(record.image)), window_at(record.image)
            corners += (0, 0) if window is None else (window.left, window.top)
        boxes[index] = *corners.min(axis=0), *corners.max(axis=0)
        planes[index] = numbers.setdefault(key, len(numbers))
    return planes, boxes


def _divide(
    records: Sequence[Record], places: Places, blocks: Mapping[str, list[Record]], share: float, gap_px: int
) -> Division:
    """Blocks in the order of their hash, as long as val has fewer windows than wanted and training keeps enough."""
    numbers, (planes, boxes) = {record: number for number, record in enumerate(records)}, places
    val, near = np.zeros(len(records), np.bool_), np.zeros(len(records), np.bool_)
    wanted = share * len(records)
    for name in sorted(blocks, key=draw_key):
        members = [numbers[record] for record in blocks[name]]
        if val.any() and abs(val.sum() + len(members) - wanted) >= abs(val.sum() - wanted):
            continue
        around = near.copy()
        for at in members:
            distance = np.maximum(boxes[at, :2] - boxes[:, 2:], boxes[:, :2] - boxes[at, 2:]).max(axis=1)
            around |= (distance < gap_px - _TOLERANCE_PX) & (planes == planes[at])
        around[members] = True
        if (~around).sum() >= max(1, (1 - share) * len(records) / 2):
            val[members], near = True, around
    return val, ~near
