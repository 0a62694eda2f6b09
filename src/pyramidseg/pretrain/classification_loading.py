"""Training samples of image classification: an augmented crop of an image, and its class."""

from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.config import Config
from pyramidseg.data.loading import SampleDataset
from pyramidseg.data.transforms import jitter_color, resize
from pyramidseg.images.decode import read_image
from pyramidseg.pretrain.image_folders import ImageFolders

AREA = (0.25, 1.0)
ASPECT = (3 / 4, 4 / 3)
"""Area (relative to the image) and aspect ratio of the random crop, as in Szegedy et al. 2015, arXiv 1409.4842, section
6, but with a larger smallest area, which suits small datasets."""

MARGIN = 8 / 7
"""Shorter side of the resized image, relative to the crop, in validation; as for ImageNet: 256 over 224."""


class ClassificationSamples(SampleDataset):
    """Augmented crops of the training images, by sample key."""

    def __init__(self, folders: ImageFolders, config: Config) -> None:
        self.folders, self.config, self.seed = folders, config, config.train.seed

    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """A random crop and its class."""
        record, data = self.folders.splits["train"][index], self.config.data
        image = random_resized_crop(read_image(record.image, channels=self.config.model.in_channels), data.crop, rng)
        if rng.random() < data.flip:
            image = image[:, ::-1]
        if data.color:
            image = jitter_color(image, *rng.uniform(1 - data.color, 1 + data.color, size=3))
        return np.ascontiguousarray(image), np.int64(self.folders.label(record))


def random_resized_crop(image: NDArray[Any], crop: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """Random crop of (H, W, C) with random area and aspect ratio, resized to the size `crop`."""
    height, width = image.shape[:2]
    area = height * width * rng.uniform(*AREA)
    aspect = float(np.exp(rng.uniform(*np.log(ASPECT))))
    rows = min(height, max(1, round((area / aspect) ** 0.5)))
    columns = min(width, max(1, round((area * aspect) ** 0.5)))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    return _resized(image[top : top + rows, left : left + columns], crop)


def center_crop(image: NDArray[Any], crop: tuple[int, int]) -> NDArray[Any]:
    """Center crop of (H, W, C), after resizing its shorter side to `MARGIN` times the crop."""
    height, width = image.shape[:2]
    factor = MARGIN * max(crop[0] / height, crop[1] / width)
    size = max(crop[0], round(height * factor)), max(crop[1], round(width * factor))
    image = _resized(image, size)
    top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    return np.ascontiguousarray(image[top : top + crop[0], left : left + crop[1]])


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    shrinks = size[0] < image.shape[0] and size[1] < image.shape[1]
    return resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
