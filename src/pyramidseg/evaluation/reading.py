"""Pairs of image and labels in batches of equal size."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.data.records import Record

Item = tuple[Record, NDArray[Any], NDArray[np.uint8]]
"""A record, its image (H, W, C) and its labels (H, W)."""


@dataclass(frozen=True)
class Batch:
    """Neighbouring records whose images and labels have equal sizes.

    Attributes:
        images: (B, C, H, W) in the images' own dtype, channels last in memory.
        labels: (B, H, W) uint8.
    """

    records: tuple[Record, ...]
    images: Tensor
    labels: Tensor


def in_batches(items: Iterable[Item], *, batch_size: int) -> Iterator[Batch]:
    """Batches of consecutive items of equal size and dtype, at most `batch_size` each."""
    waiting: list[Item] = []
    for item in items:
        if waiting and (len(waiting) == batch_size or _form(item) != _form(waiting[0])):
            yield _stack(waiting)
            waiting = []
        waiting.append(item)
    if waiting:
        yield _stack(waiting)


def _form(item: Item) -> tuple[object, ...]:
    _, image, labels = item
    return image.shape, image.dtype, labels.shape


def _stack(items: Sequence[Item]) -> Batch:
    records, images, labels = zip(*items, strict=True)
    return Batch(
        records=records,
        images=torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2),
        labels=torch.from_numpy(np.stack(labels)),
    )
