"""Image-mask pairs: decode an image with its labels, from files or from a cache."""

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
    """The decoded pairs of a split, by the index of their record."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> Pair:
        """The pair; its arrays may be read-only.

        Raises:
            DataError: image or mask is unreadable, or their sizes differ.
        """
        ...

    def preload(self) -> None:
        """Decode what is cached in memory; called once, before the first pair is requested."""
        ...


@dataclass(frozen=True)
class FilePairs:
    """A `PairSource` that decodes each pair when it is requested."""

    records: Sequence[Record]
    masks: MaskSource
    channels: Channels

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Pair:
        return read_pair(self.records[index], self.masks, channels=self.channels)

    def preload(self) -> None:
        """Nothing is cached."""


def read_pair(record: Record, masks: MaskSource, *, channels: Channels) -> Pair:
    """Read an image (H, W, C), see `read_image`, and its labels (H, W) uint8.

    Labels are `IGNORE` where the image has no data in any channel: nothing can be learned or scored there.

    Raises:
        DataError: image or mask is unreadable, or their sizes differ.
    """
    image = read_masked_image(record.image, channels=channels)
    labels = read_labels(record, masks)
    check_same_size(record, image.values.shape[:2], labels.shape)
    return image.filled(), ignore_nodata(labels, image)


def read_labels(record: Record, masks: MaskSource) -> NDArray[np.uint8]:
    """Read labels (H, W) uint8, and check that a user's own mask source returns such an array.

    Raises:
        DataError: it returns something else; or whatever `MaskSource.read` raises.
    """
    labels = masks.read(record)
    if isinstance(labels, np.ndarray) and labels.ndim == 2 and labels.dtype == np.uint8:
        return labels
    found = f"{labels.dtype} of shape {labels.shape}" if isinstance(labels, np.ndarray) else type(labels).__name__
    raise DefectError(
        DefectKind.UNREADABLE_MASK,
        record.mask or record.image,
        f"{type(masks).__name__}.read returns {found}; it must return labels as a NumPy array (H, W) of uint8",
    )


def check_labels(record: Record, masks: MaskSource, counts: NDArray[np.int64], *, num_classes: int) -> None:
    """Reject labels that are neither a class id nor `IGNORE`.

    Args:
        counts: (256,) pixels by label.

    Raises:
        DataError: names the file and the labels.
    """
    unknown = np.flatnonzero(counts[num_classes:IGNORE]) + num_classes
    if not len(unknown):
        return
    values = first_few([f"{label} ({counts[label]} pixels)" for label in unknown], limit=8)
    raise DefectError(
        DefectKind.UNKNOWN_VALUE,
        record.mask or record.image,
        f"{type(masks).__name__}.read returns unknown labels: {values}; it must return class ids "
        f"(0-{num_classes - 1}), or {IGNORE} for pixels to ignore",
    )


def ignore_nodata(labels: NDArray[np.uint8], image: MaskedImage) -> NDArray[np.uint8]:
    """(H, W) labels, `IGNORE` where the image has no data in any channel."""
    nodata = image.nodata_in_all_channels()
    return labels if nodata is None else np.where(nodata, np.uint8(IGNORE), labels)
