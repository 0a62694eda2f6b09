"""Class statistics of a split: pixels and images by class."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of one split; pixel counts are by class id.

    Attributes:
        pixels: labelled pixels of each class.
        presence: images in which each class occurs.
        presence_pixels: labelled pixels, of any class, of those images. `pixels / presence_pixels` is the class
            frequency of Eigen & Fergus (arXiv 1411.4734, section 6.3.2), from which median-frequency weights follow.
        ignored: ignored pixels.
        dtypes: of the images.
    """

    images: int
    pixels: tuple[int, ...]
    presence: tuple[int, ...]
    presence_pixels: tuple[int, ...]
    ignored: int
    dtypes: tuple[str, ...]


class SplitStatistics:
    """Running sums over the images of one split."""

    def __init__(self, num_classes: int) -> None:
        self.images = self.ignored = 0
        self.pixels = np.zeros(num_classes, np.int64)
        self.presence = np.zeros(num_classes, np.int64)
        self.presence_pixels = np.zeros(num_classes, np.int64)
        self.dtypes: set[str] = set()

    def add(self, dtype: str, label_counts: NDArray[np.int64]) -> None:
        """Add one image, with (256,) pixels by label, each a class or `IGNORE`."""
        counts = label_counts[: len(self.pixels)]
        assert counts.sum() + label_counts[IGNORE] == label_counts.sum()
        self.images += 1
        self.ignored += int(label_counts[IGNORE])
        self.pixels += counts
        self.presence += counts > 0
        self.presence_pixels += np.where(counts > 0, counts.sum(), 0)
        self.dtypes.add(dtype)

    def summary(self) -> SplitSummary:
        """The sums so far."""
        return SplitSummary(
            images=self.images,
            pixels=tuple(self.pixels.tolist()),
            presence=tuple(self.presence.tolist()),
            presence_pixels=tuple(self.presence_pixels.tolist()),
            ignored=self.ignored,
            dtypes=tuple(sorted(self.dtypes)),
        )
