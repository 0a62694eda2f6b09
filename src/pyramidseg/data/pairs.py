"""Images together with their labels: read from files, or held in memory."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import Channels
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.text import first_few
from pyramidseg.data.image_mask_checks import check_same_size
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import read_masked_image
from pyramidseg.images.nodata import MaskedImage

Pair = tuple[NDArray[Any], NDArray[np.uint8]]
"""Image (H, W, C) and labels (H, W)."""


class PairSource(Protocol):
    """The pairs of a split, by the index of their record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair:
        """The pair, not to be written to.

        Raises:
            DataError: one of them is unreadable, or their sizes differ.
        """
        ...

    def load(self) -> None:
        """Decode what is to be held in memory; called once, before the first pair is asked for."""
        ...


@dataclass(frozen=True)
class FilePairs:
    """PairSource that are decoded whenever they are asked for."""

    records: Sequence[Record]
    masks: MaskSource
    channels: Channels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Pair:
        return read_pair(self.records[index], self.masks, channels=self.channels)

    def load(self) -> None:
        """Nothing: these are read when they are asked for."""


def read_pair(record: Record, masks: MaskSource, *, channels: Channels) -> Pair:
    """The image, (H, W, C) as `read_image` gives it, and its labels, (H, W) uint8.

    Where the image is empty in all channels nothing can be learned or scored: the labels there are `IGNORE`.

    Raises:
        DataError: one of them is unreadable, or their sizes differ.
    """
    pixels = read_masked_image(record.image, channels=channels)
    labels = read_labels(record, masks)
    check_same_size(record, pixels.values.shape[:2], labels.shape)
    return pixels.filled(), ignore_nodata(labels, pixels)


def read_labels(record: Record, masks: MaskSource) -> NDArray[np.uint8]:
    """Labels (H, W) uint8, which sources of one's own may fail to give.

    Raises:
        DataError: they are anything else; or what `MaskSource.read` raises.
    """
    labels = masks.read(record)
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype == np.uint8:
        return labels
    found = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
    raise DefectError(
        DefectKind.UNREADABLE_MASK,
        record.mask or record.image,
        f"{type(masks).__name__}.read gives {found}; labels are a NumPy array (H, W) of uint8, so return one",
    )


def check_labels(record: Record, masks: MaskSource, counts: NDArray[np.int64], *, num_classes: int) -> None:
    """Refuse labels that are no class.

    Args:
        counts: (256,) pixels by label.

    Raises:
        DataError: names the file and the values.
    """
    strangers = np.flatnonzero(counts[num_classes:IGNORE]) + num_classes
    if not len(strangers):
        return
    values = first_few([f"{label} ({counts[label]} pixels)" for label in strangers], limit=8)
    raise DefectError(
        DefectKind.UNKNOWN_VALUE,
        record.mask or record.image,
        f"{type(masks).__name__}.read gives labels that are no class: {values}; there are {num_classes} classes, "
        f"so let it give 0-{num_classes - 1}, and {IGNORE} for what counts nowhere",
    )


def ignore_nodata(labels: NDArray[np.uint8], pixels: MaskedImage) -> NDArray[np.uint8]:
    """(H, W) labels, `IGNORE` where the image is empty in all channels."""
    empty = pixels.empty()
    return labels if empty is None else np.where(empty, np.uint8(IGNORE), labels)
