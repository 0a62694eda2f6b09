"""Mean and deviation of the training images by channel: what images are normalised by where ImageNet's do not apply."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from pyramidseg.base.config import Channels
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import in_threads
from pyramidseg.base.result_cache import digest, file_state, user_cache
from pyramidseg.data.channel_statistics import ChannelSums, sums_of
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_masked_image

_SHOWN = 12


@dataclass(frozen=True)
class Normalization:
    """What is subtracted from each channel, and what it is divided by.

    Attributes:
        mean, std: in the units of `Segmenter.set_normalization`: of the type's range for unsigned integers, else raw.
        constant: channels, from 0, whose values are all the same. They are divided by 1 and so become 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    constant: tuple[int, ...] = ()

    def __str__(self) -> str:
        mean, std = (", ".join(f"{value:.4g}" for value in values[:_SHOWN]) for values in (self.mean, self.std))
        more = ", ..." if len(self.mean) > _SHOWN else ""
        flat = ", ".join(str(channel + 1) for channel in self.constant)
        never = f"; channel {flat} never varies" if flat else ""
        return f"the training images' own mean {mean}{more} and deviation {std}{more} by channel{never}"

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Normalization":
        """From what JSON has made of its dictionary."""
        return cls(tuple(content["mean"]), tuple(content["std"]), tuple(content["constant"]))


def uses_dataset_statistics(
    setting: Literal["auto", "encoder", "dataset"], *, dtypes: Sequence[str], channels: Channels, pretrained: bool
) -> bool:
    """Whether a dataset's own statistics are to be used.

    `auto`: 8-bit images of 1 or 3 channels look like those that encoders were trained on, whose mean and deviation
    belong to the weights. Any other type or number of channels is foreign to them: 11-bit values from a satellite fill
    a thirtieth of the range of 16 bits, heights in metres no range at all.

    Args:
        pretrained: the whole network starts from a bundle, whose normalisation its weights were trained with.
    """
    if setting != "auto":
        return setting == "dataset"
    number = len(channels) if isinstance(channels, tuple) else channels
    return not pretrained and (tuple(dtypes) != ("uint8",) or number not in (1, 3))


def measure_normalization(records: Sequence[Record], *, channels: Channels) -> Normalization:
    """Mean and deviation over all pixels of all images; holes do not count.

    Raises:
        DataError: an image that cannot be read, or a channel of which nothing is known.
    """
    images = [record.image for record in records]
    return user_cache().get_or_compute(
        f"channels {channels} of {len(images)} images from {images[0].resolve()}",
        content=lambda: digest([channels, *map(file_state, images)]),
        compute=lambda: _measured(images, channels),
        to_json=asdict,
        from_json=Normalization.from_json,
    )


def _measured(images: Sequence[Path], channels: Channels) -> Normalization:
    def sums(image: Path) -> list[ChannelSums]:
        return sums_of(*read_masked_image(image, channels=channels))

    totals: list[ChannelSums] = []
    for image in track(in_threads(sums, images), total=len(images), task="measuring the images' channels"):
        totals = totals or [ChannelSums(channel.dtype) for channel in image]
        for total, channel in zip(totals, image, strict=True):
            total.add(channel)
    found = [total.statistics() for total in totals]
    for number, statistics in enumerate(found, start=1):
        if not statistics.count:
            raise DataError(
                f"{images[0].parent}: channel {number} holds nothing in any training image; leave it out (data.bands)"
            )
    constant = tuple(index for index, channel in enumerate(found) if channel.deviation == 0)
    return Normalization(
        tuple(channel.mean for channel in found), tuple(channel.deviation or 1.0 for channel in found), constant
    )
