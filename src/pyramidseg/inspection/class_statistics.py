"""What the masks of a split add up to: pixels and images by class."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE


@dataclass(frozen=True)
class SplitSummary:
    """What one split holds; pixel counts are by class id.

    Attributes:
        pixels: labelled pixels of each class.
        presence: images in which each class occurs.
        presence_pixels: labelled pixels, of any class, of those images. `pixels / presence_pixels` is the class
            frequency of Eigen & Fergus (arXiv 1411.4734, section 6.3.2), which median-frequency weights go by.
        ignored: pixels that count nowhere.
        min_size, max_size: smallest and largest height and width, each by itself.
        dtypes: the kinds of pixel values that the images have.
    """

    images: int
    pixels: tuple[int, ...]
    presence: tuple[int, ...]
    presence_pixels: tuple[int, ...]
    ignored: int
    min_size: tuple[int, int]
    max_size: tuple[int, int]
    dtypes: tuple[str, ...]

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "SplitSummary":
        """From its dictionary, after JSON has made lists of its tuples."""
        members: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value for name, value in content.items()
        }
        return cls(**members)


class Tally:
    """Running sums over the images of one split."""

    def __init__(self, num_classes: int) -> None:
        self.images = self.ignored = 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.presence = np.zeros(num_classes, np.int64)
        self.presence_pixels = np.zeros(num_classes, np.int64)
        self.sizes: Counter[tuple[int, int]] = Counter()
        self.dtypes: set[str] = set()

    def add(self, size: tuple[int, int], dtype: str, labels: NDArray[np.int64]) -> None:
        """Take in one image, with (256,) pixels by label, each a class or `IGNORE`."""
        counts = labels[: len(self.pixels)]
        assert counts.sum() + labels[IGNORE] == labels.sum()
        self.images += 1
        self.ignored += int(labels[IGNORE])
        self.pixels += counts
        self.presence += counts > 0
        self.presence_pixels += np.where(counts > 0, counts.sum(), 0)
        self.sizes[size] += 1
        self.dtypes.add(dtype)

    def summary(self) -> SplitSummary:
        """What they amount to; sizes of 0 where there was no image."""
        heights, widths = zip(*self.sizes or [(0, 0)], strict=True)
        return SplitSummary(
            images=self.images,
            pixels=tuple(self.pixels.tolist()),
            presence=tuple(self.presence.tolist()),
            presence_pixels=tuple(self.presence_pixels.tolist()),
            ignored=self.ignored,
            min_size=(min(heights), min(widths)),
            max_size=(max(heights), max(widths)),
            dtypes=tuple(sorted(self.dtypes)),
        )
