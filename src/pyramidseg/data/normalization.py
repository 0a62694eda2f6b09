"""Normalisation by the training images' own mean and standard deviation, for images unlike ImageNet's."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Literal

from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.channel_statistics import ChannelSums, channel_sums
from pyramidseg.data.records import Record
from pyramidseg.images.decode import image_size, read_masked_image
from pyramidseg.images.georeference import ground_resolution, read_georeference
from pyramidseg.images.value_range import BYTES, ValueRange

_SHOWN = 12


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation by channel.

    Attributes:
        mean, std: in the units of `Segmenter.set_normalization`: as a share of the dtype's range for unsigned integers,
            otherwise in raw units.
        constant: channels, counted from 0, with a single value. Their std is 1, so they become 0.
        low, high: smallest and largest value of all channels, as stored.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: tuple[int, ...] = ()
    low: float = -math.inf
    high: float = math.inf

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values[:_SHOWN]) for values in (self.mean, self.std))
        more = ", ..." if len(self.mean) > _SHOWN else ""
        constant = ", ".join(str(channel + 1) for channel in self.constant)
        note = f"; channel {constant} is constant" if constant else ""
        return f"the training images' own mean {mean}{more} and standard deviation {std}{more} by channel{note}"


def uses_dataset_statistics(
    setting: Literal["auto", "encoder", "dataset"], *, dtypes: Sequence[str], channels: Channels, pretrained: bool
) -> bool:
    """Whether to normalise by the dataset's own statistics.

    `auto`: 8-bit images of 1 or 3 channels are similar to those that encoders were trained on, so they are normalised
    by the encoder's mean and std. Other dtypes and channel counts are not: 11-bit satellite values fill a thirtieth of
    the range of 16 bits, and heights in metres have no range.

    Args:
        pretrained: the whole network starts from a bundle, whose weights were trained with the bundle's normalisation.
    """
    if setting != "auto":
        return setting == "dataset"
    number = len(channels) if isinstance(channels, tuple) else channels
    return not pretrained and (tuple(dtypes) != ("uint8",) or number not in (1, 3))


def measure_normalization(records: Sequence[Record], *, channels: Channels) -> Normalization:
    """Mean and standard deviation over all pixels of all images, without nodata.

    Raises:
        DataError: an image is unreadable, or a channel has no data.
    """
    images = [record.image for record in records]

    def sums(image: Path) -> list[ChannelSums]:
        return channel_sums(*read_masked_image(image, channels=channels))

    totals: list[ChannelSums] = []
    for image in track(map_in_threads(sums, images), total=len(images), task="measuring the images' channels"):
        totals = totals or [ChannelSums(channel.dtype) for channel in image]
        for total, channel in zip(totals, image, strict=True):
            total.add(channel)
    found = [total.statistics() for total in totals]
    for number, statistics in enumerate(found, start=1):
        if not statistics.count:
            raise DataError(
                f"{images[0].parent}: channel {number} has no data in any training image; leave it out (data.bands)"
            )
    constant = tuple(index for index, channel in enumerate(found) if channel.deviation == 0)
    return Normalization(
        mean=tuple(channel.mean for channel in found),
        std=tuple(channel.deviation or 1.0 for channel in found),
        constant=constant,
        low=min(channel.low for channel in found),
        high=max(channel.high for channel in found),
    )


SAMPLED = 64
"""Images that are read for the range of a dataset whose statistics are not needed."""


def measure_value_range(
    records: Sequence[Record], dtypes: Sequence[str], *, channels: Channels, normalization: Normalization | None
) -> ValueRange | None:
    """Type and range of training images: known for 8 bits, a by-product of `normalization`, or of a sample.

    Returns:
        None if the images have several types.
    """
    if len(dtypes) != 1:
        return None
    if tuple(dtypes) == (BYTES.dtype,):
        return BYTES
    measured = normalization or measure_normalization(records[:: -(-len(records) // SAMPLED)], channels=channels)
    return ValueRange(dtypes[0], measured.low, measured.high)


def measure_ground_resolution(records: Sequence[Record]) -> float | None:
    """Median ground resolution of a sample of the images that have one; None without any, or without rasterio."""
    try:
        sample = [record.image for record in records[:: -(-len(records) // SAMPLED)]]
        found = [ground_resolution(read_georeference(image), *image_size(image)) for image in sample]
    except MissingExtra:
        return None
    return median([metres for metres in found if metres is not None] or [0.0]) or None
