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

    def plus(self, dtype: str, label_counts: NDArray[np.int64]) -> "SplitSummary":
        """With one more image, with (256,) pixels by label, each a class or `IGNORE`."""
        counts = label_counts[: len(self.pixels)]
        assert counts.sum() + label_counts[IGNORE] == label_counts.sum()
        added = (counts, counts > 0, np.where(counts > 0, counts.sum(), 0))
        sums = np.array([self.pixels, self.presence, self.presence_pixels]) + added
        pixels, presence, presence_pixels = map(tuple, sums.tolist())
        ignored, dtypes = self.ignored + int(label_counts[IGNORE]), tuple(sorted({*self.dtypes, dtype}))
        return SplitSummary(self.images + 1, pixels, presence, presence_pixels, ignored, dtypes)


def no_images(num_classes: int) -> SplitSummary:
    """Statistics of a split before its first image."""
    none = (0,) * num_classes
    return SplitSummary(0, none, none, none, 0, ())
