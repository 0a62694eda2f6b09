"""Which differences between models are real: paired bootstrap over images (Efron & Tibshirani 1993, chapter 13).

All models are scored on the same images; resampling the images resamples all models together, so that what makes an
image hard for all of them cancels out. Where a model was trained several times, its seeds are resampled too, by
themselves: S - 1 of S, which makes the variance of their mean unbiased, where S of S would make it (S - 1) / S of that
(Rao & Wu 1988). With one seed nothing is known of how much another training would differ.

Legend: M models, S seeds, N images, K classes, R resamples.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95

WIDE = 0.02
"""Half the width of an interval, in mIoU, from which on it says nothing of equality.

Two points are what people choose an encoder for: an interval that reaches further holds differences that matter.
"""

ROUNDING = 1e-9
"""Ends of an interval that are no further apart are one: nothing varied between the resamples."""

Counts = NDArray[np.int64]
"""(N, 3, K): true positives, false positives and false negatives by image and class."""


@dataclass(frozen=True)
class Difference:
    """How much better one model is than another.

    Attributes:
        mean: first minus second, in mIoU.
        low, high: ends of the interval that holds `LEVEL` of the resamples, of images and of seeds where there are
            several.
    """

    first: str
    second: str
    mean: float
    low: float
    high: float

    @property
    def varies(self) -> bool:
        """Whether the resamples differ at all: those of one image and one seed do not, and say nothing."""
        return self.high - self.low > ROUNDING

    @property
    def is_significant(self) -> bool:
        """Whether the interval leaves out 0."""
        return self.varies and (self.low > 0 or self.high < 0)

    @property
    def is_noise(self) -> bool:
        """Whether the interval holds 0, and nothing far from it: the models are as good as each other."""
        return self.varies and not self.is_significant and (self.high - self.low) / 2 <= WIDE


def counts_of(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """(3, K) of one image from its confusion (K, K), rows truth."""
    hits = np.diag(confusion)
    return np.stack([hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits])


def miou(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU from counts (..., 3, K) that have been added up over images; classes that are nowhere are left out."""
    iou = ious(counts)
    known = ~np.isnan(iou)
    found = known.sum(axis=-1)
    summed = np.where(known, iou, 0).sum(axis=-1)
    mean: NDArray[np.float64] = np.divide(summed, found, out=np.full(summed.shape, np.nan), where=found > 0)
    return mean


def ious(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU by class (..., K) from counts (..., 3, K) that have been added up over images; NaN where there is neither."""
    hits, total = counts[..., 0, :].astype(np.float64), counts.sum(axis=-2).astype(np.float64)
    iou: NDArray[np.float64] = np.divide(hits, total, out=np.full(hits.shape, np.nan), where=total > 0)
    return iou


def compare_pairs(
    counts: dict[str, list[Counts]], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Difference, ...]:
    """Every pair of models, the better one first; a model's mIoU is the mean over its seeds.

    Args:
        counts: one (N, 3, K) for each seed of each model; all over the same images in the same order.
    """
    means = {name: float(np.mean([miou(run.sum(axis=0)) for run in runs])) for name, runs in counts.items()}
    images = len(next(iter(counts.values()))[0])
    rng = np.random.default_rng(seed)
    # How often each resample draws each image: counts are then added up by one matrix product.
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
    resampled = {name: _resampled(runs, draws, rng) for name, runs in counts.items()}
    order = sorted(means, key=lambda name: -means[name])
    tail = 100 * (1 - LEVEL) / 2
    found = []
    for place, first in enumerate(order):
        for second in order[place + 1 :]:
            low, high = np.nanpercentile(resampled[first] - resampled[second], [tail, 100 - tail])
            found.append(Difference(first, second, means[first] - means[second], float(low), float(high)))
    return tuple(found)


def _resampled(runs: Sequence[Counts], draws: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(R,): a model's mIoU in every resample, the mean over the seeds that it draws."""
    by_seed = np.stack([miou(_added_up(draws, run)) for run in runs], axis=1)
    if (seeds := len(runs)) == 1:
        return by_seed[:, 0]
    drawn = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=len(draws))
    mean: NDArray[np.float64] = (by_seed * drawn).sum(axis=1) / (seeds - 1)
    return mean


def _added_up(draws: NDArray[np.float64], run: Counts) -> NDArray[np.float64]:
    """(R, 3, K): counts of every resample."""
    flat = run.reshape(len(run), -1).astype(np.float64)
    return (draws @ flat).reshape(len(draws), *run.shape[1:])
