"""Image-label pairs for evaluation: decoded ahead in threads, and batched by size, in bounded memory."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.log import track
from pyramidseg.base.machine import available_processors
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import pixel_count
from pyramidseg.predict.pipeline import BATCH_PIXELS, decode_ahead

READERS = 4
"""Threads that decode while the model computes; only a few, because decoded pairs may be large."""

LoadedPair = tuple[Record, NDArray[Any], NDArray[np.uint8]]
"""A record, its image (H, W, C) and its labels (H, W)."""


class PairBatch(NamedTuple):
    """Consecutive pairs of equal size.

    Attributes:
        images: (B, C, H, W) in their own dtype, in channels-last memory format.
        labels: (B, H, W) uint8.
    """

    records: tuple[Record, ...]
    images: Tensor
    labels: Tensor


def read_batches(
    records: Sequence[Record], masks: MaskSource, *, channels: Channels, batch_size: int, task: str
) -> Iterator[PairBatch]:
    """Decode pairs in threads, and stack consecutive ones of equal size and dtype.

    A batch has up to `batch_size` pairs and `BATCH_PIXELS`. A few pairs are decoded ahead, of large images only one.

    Args:
        task: its name in the report of progress.

    Raises:
        DataError: an image or a mask cannot be used; names the file.
    """

    def read(record: Record) -> LoadedPair:
        return record, *read_pair(record, masks, channels=channels)

    threads = min(READERS, available_processors())
    pairs = decode_ahead(
        read, records, pixels=lambda record: pixel_count(record.image), threads=threads, ahead=4 * threads
    )
    waiting: list[LoadedPair] = []
    for pair in track(pairs, total=len(records), task=task):
        full = len(waiting) >= min(batch_size, BATCH_PIXELS // pair[2].size)
        if waiting and (full or _stack_key(pair) != _stack_key(waiting[0])):
            yield _stack(waiting)
            waiting = []
        waiting.append(pair)
    if waiting:
        yield _stack(waiting)


def _stack_key(pair: LoadedPair) -> tuple[object, ...]:
    _, image, labels = pair
    return image.shape, image.dtype, labels.shape


def _stack(pairs: Sequence[LoadedPair]) -> PairBatch:
    records, images, labels = zip(*pairs, strict=True)
    return PairBatch(
        records, torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2), torch.from_numpy(np.stack(labels))
    )
