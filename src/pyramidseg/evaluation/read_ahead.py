"""Pairs of image and labels: read ahead, and in batches of equal size, both within the bounds of prediction."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.config import Channels
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import pixel_count
from pyramidseg.predict.pipeline import BATCH_PIXELS, map_in_order

Item = tuple[Record, NDArray[Any], NDArray[np.uint8]]
"""A record, its image (H, W, C) and its labels (H, W)."""


@dataclass(frozen=True)
class EvaluationBatch:
    """Neighbouring records whose images and labels have equal sizes.

    Attributes:
        images: (B, C, H, W) in the images' own dtype, channels last in memory.
        labels: (B, H, W) uint8.
    """

    records: tuple[Record, ...]
    images: Tensor
    labels: Tensor


def read_ahead(records: Iterable[Record], masks: MaskSource, *, channels: Channels, threads: int) -> Iterator[Item]:
    """The items of records, in their order, decoded by threads: a few ahead, of large images only one (`map_in_order`).

    Raises:
        DataError: an image or a mask that cannot be used; names the file.
    """

    def measured(record: Record) -> tuple[Record, int]:
        return record, pixel_count(record.image)

    def read(sized: tuple[Record, int]) -> Item:
        return sized[0], *read_pair(sized[0], masks, channels=channels)

    ahead = 4 * threads
    with (
        closing(map_in_order(measured, records, threads=1, ahead=ahead, name="measure")) as sizes,
        closing(
            map_in_order(read, sizes, threads=threads, ahead=ahead, pixels=lambda sized: sized[1], name="read")
        ) as items,
    ):
        yield from items


def in_batches(items: Iterable[Item], *, batch_size: int) -> Iterator[EvaluationBatch]:
    """Batches of consecutive items of equal size and dtype: at most `batch_size` and, of several, `BATCH_PIXELS`."""
    waiting: list[Item] = []
    for item in items:
        if waiting and (len(waiting) >= _most(item, batch_size) or _form(item) != _form(waiting[0])):
            yield _stack(waiting)
            waiting = []
        waiting.append(item)
    if waiting:
        yield _stack(waiting)


def _most(item: Item, batch_size: int) -> int:
    """Items of this size in a batch."""
    return min(batch_size, BATCH_PIXELS // item[2].size)


def _form(item: Item) -> tuple[object, ...]:
    _, image, labels = item
    return image.shape, image.dtype, labels.shape


def _stack(items: Sequence[Item]) -> EvaluationBatch:
    records, images, labels = zip(*items, strict=True)
    return EvaluationBatch(
        records=records,
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(np.stack(labels)),
    )
