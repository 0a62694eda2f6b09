"""An image together with its labels."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.images import read_image
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.errors import DataError


def read_pair(record: Record, masks: MaskSource, *, channels: int) -> tuple[NDArray[Any], NDArray[np.uint8]]:
    """The image, (H, W, channels) as `read_image` gives it, and its labels, (H, W) uint8.

    Raises:
        DataError: one of them is unreadable, or their sizes differ.
    """
    image = read_image(record.image, channels=channels)
    labels = masks.read(record)
    check_same_size(record, image.shape[:2], labels.shape)
    return image, labels


def check_same_size(record: Record, image: tuple[int, ...], labels: tuple[int, ...]) -> None:
    """Refuse a mask whose (height, width) is not the image's.

    Raises:
        DataError: names the mask and both sizes.
    """
    if image == labels:
        return
    turned = ", as if the image had been turned by its EXIF tag after labelling" if image == labels[::-1] else ""
    raise DataError(
        f"{record.mask or record.id}: the mask is {labels[0]} x {labels[1]} pixels (height x width) and its image "
        f"{record.image} is {image[0]} x {image[1]}{turned}; make the mask anew at the image's size"
    )
