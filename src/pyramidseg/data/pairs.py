"""Image-mask pairs: decode an image with its labels, from files or from a cache."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.setting_types import Channels
from pyramidseg.base.text import first_few
from pyramidseg.data.image_mask_checks import size_mismatch
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.images.decode import image_size, read_masked_image
from pyramidseg.images.nodata import MaskedImage

Pair = tuple[NDArray[Any], NDArray[np.uint8]]
"""Image (H, W, C) and labels (H, W)."""

Cache = Literal["auto", "memory", "none"]

AUTO_SHARE = 0.25
"""Share of the free memory that `auto` may use: the model and other programs need the rest."""


@dataclass(frozen=True)
class AllPixels:
    """A `MaskSource` for images without masks: 0 for every pixel."""

    def read(self, record: Record) -> NDArray[np.uint8]:
        """Zeros (H, W)."""
        return np.zeros(image_size(record.image), np.uint8)


class FilePairs:
    """The pairs of a split by the index of their record, decoded when they are requested.

    Args:
        cached: keep decoded pairs in memory. They are read-only, so that forked processes share them, and are not
            pickled.
    """

    def __init__(
        self, records: Sequence[Record], masks: MaskSource, channels: Channels, *, cached: bool = False
    ) -> None:
        self.records, self.masks, self.channels, self.cached = records, masks, channels, cached
        self._decoded: dict[int, Pair] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_decoded": {}}

    def __len__(self) -> int:
        return len(self.records)

    def __getitem__(self, index: int) -> Pair:
        """The pair.

        Raises:
            DataError: image or mask is unreadable, or their sizes differ.
        """
        if index in self._decoded:
            return self._decoded[index]
        pair = read_pair(self.records[index], self.masks, channels=self.channels)
        if self.cached:
            for array in pair:
                array.flags.writeable = False
            self._decoded[index] = pair
        return pair

    def preload(self) -> None:
        """Decode all pairs if they are cached.

        Raises:
            DataError: an image or mask is unreadable.
        """
        if self.cached:
            for _ in track(
                map_in_threads(self.__getitem__, range(len(self))), total=len(self), task="decoding into memory"
            ):
                pass


def cache_note(images: int, cache: Cache, *, size_bytes: int, free_bytes: int, copies: int, epochs: int) -> str:
    """Whether to cache the training pairs, as a message; empty if they are not cached.

    Args:
        size_bytes: of all pairs when decoded.
        free_bytes: memory available to this process.
        copies: number of processes that have a cache of their own.

    Raises:
        ConfigError: `memory` is requested and there is too little.
    """
    needed = size_bytes * copies
    description = f"{images} training images take {needed / 1e6:,.1f} MB of memory when decoded"
    if cache == "memory" and needed > free_bytes:
        raise ConfigError(
            f"data.cache=memory: {description}, but {free_bytes / 1e6:,.1f} MB are free; set data.cache=auto or none"
        )
    if cache == "none" or (cache == "auto" and (needed > AUTO_SHARE * free_bytes or epochs == 1)):
        return ""
    return f"{description} and are cached there (data.cache={cache})"


def read_pair(record: Record, masks: MaskSource, *, channels: Channels | None) -> Pair:
    """Read an image (H, W, C), see `read_image`, and its labels (H, W) uint8.

    Labels are `IGNORE` where the image has no data in any channel: nothing can be learned or scored there.

    Args:
        channels: None for all channels except alpha.

    Raises:
        DataError: image or mask is unreadable, or their sizes differ.
    """
    image = read_masked_image(record.image, channels=channels)
    labels = read_labels(record, masks)
    height, width, _ = image.values.shape
    if labels.shape != (height, width):
        raise size_mismatch(record, image=(height, width), mask=(labels.shape[0], labels.shape[1]))
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
    detail = f"{type(masks).__name__}.read returns {found}; it must return labels as a NumPy array (H, W) of uint8"
    raise DefectError(DefectKind.UNREADABLE_MASK, record.mask or record.image, detail)


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
    detail = (
        f"{type(masks).__name__}.read returns unknown labels: {values}; it must return class ids "
        f"(0-{num_classes - 1}), or {IGNORE} for pixels to ignore"
    )
    raise DefectError(DefectKind.UNKNOWN_VALUE, record.mask or record.image, detail)


def ignore_nodata(labels: NDArray[np.uint8], image: MaskedImage) -> NDArray[np.uint8]:
    """(H, W) labels, `IGNORE` where the image has no data in any channel."""
    nodata = image.nodata_in_all_channels()
    return labels if nodata is None else np.where(nodata, np.uint8(IGNORE), labels)


@dataclass(frozen=True)
class ReorderedMasks:
    """A `MaskSource` whose labels are mapped by a table (256,)."""

    masks: MaskSource
    table: bytes

    def read(self, record: Record) -> NDArray[np.uint8]:
        """(H, W) uint8, mapped."""
        return np.frombuffer(self.table, np.uint8)[read_labels(record, self.masks)]


@dataclass(frozen=True)
class JoinedMasks:
    """The `MaskSource` of joined datasets: the first part of a record's id is the name of its set (`set_name`)."""

    sets: Mapping[str, ReorderedMasks]

    def read(self, record: Record) -> NDArray[np.uint8]:
        """(H, W) uint8."""
        masks, own = self.of(record)
        return masks.read(own)

    def of(self, record: Record) -> tuple[ReorderedMasks, Record]:
        """The masks of a record's set, and the record as the set has it."""
        return self.sets[set_name(record)], replace(record, id=record.id.partition("/")[2])


def set_name(record: Record) -> str:
    """The set of a record of joined datasets."""
    return record.id.partition("/")[0]
