"""Significance of differences between models by the paired bootstrap over images (Efron & Tibshirani 1993, chapter 13).

All models are scored on the same images, and each resample draws the same images for all models, so that images that
are hard for all of them cancel out. If a model has several seeds, they are resampled independently: S - 1 of S, which
makes the variance of their mean unbiased, while S of S would give (S - 1) / S of it (Rao & Wu 1988). One seed shows
nothing about the variance between trainings.

Legend: M models, S seeds, N images, K classes, R resamples.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

RESAMPLES = 2000
LEVEL = 0.95

WIDE = 0.02
"""Half width of an interval, in mIoU, above which models are not called equal.

People choose an encoder for a difference of two points: a wider interval includes differences that matter.
"""

ROUNDING = 1e-9
"""An interval that is not wider has no variation between the resamples."""

T = TypeVar("T")

Counts = NDArray[np.int64]
"""(N, 3, K): true positives, false positives and false negatives by image and class."""


@dataclass(frozen=True)
class Difference:
    """Difference in mIoU between two models.

    Attributes:
        mean: first minus second.
        low, high: ends of the interval that contains `LEVEL` of the resamples (of images, and of seeds if there are
            several).
    """

    first: str
    second: str
    mean: float
    low: float
    high: float

    @property
    def varies(self) -> bool:
        """Whether the resamples differ at all; those of one image and one seed do not."""
        return self.high - self.low > ROUNDING

    @property
    def is_significant(self) -> bool:
        """Whether the interval excludes 0."""
        return self.varies and (self.low > 0 or self.high < 0)

    @property
    def is_equivalent(self) -> bool:
        """Whether the interval includes 0 and is narrow (`WIDE`): the models are equal within noise."""
        return self.varies and not self.is_significant and (self.high - self.low) / 2 <= WIDE


def counts_of(confusion: NDArray[np.int64]) -> NDArray[np.int64]:
    """Counts (3, K) of one image from its confusion matrix (K, K), rows are truth."""
    hits = np.diag(confusion)
    return np.stack([hits, confusion.sum(axis=0) - hits, confusion.sum(axis=1) - hits])


def miou(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean IoU from counts (..., 3, K) summed over images; classes absent from truth and prediction are ignored."""
    iou = ious(counts)
    known = ~np.isnan(iou)
    found = known.sum(axis=-1)
    summed = np.where(known, iou, 0).sum(axis=-1)
    mean: NDArray[np.float64] = np.divide(summed, found, out=np.full(summed.shape, np.nan), where=found > 0)
    return mean


def ious(counts: NDArray[np.int64] | NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU by class (..., K) from counts (..., 3, K) summed over images; NaN for absent classes."""
    hits, total = counts[..., 0, :].astype(np.float64), counts.sum(axis=-2).astype(np.float64)
    iou: NDArray[np.float64] = np.divide(hits, total, out=np.full(hits.shape, np.nan), where=total > 0)
    return iou


def compare_pairs(
    counts: dict[str, list[Counts]], *, resamples: int = RESAMPLES, seed: int = 0
) -> tuple[Difference, ...]:
    """Differences between every pair of models, the better one first; the mIoU of a model is the mean over its seeds.

    Args:
        counts: (N, 3, K) for each seed of each model, of the same images in the same order.
    """
    means = {name: float(np.mean([miou(run.sum(axis=0)) for run in runs])) for name, runs in counts.items()}
    resampled = resample(counts, resamples=resamples, seed=seed)
    order = sorted(means, key=lambda name: -means[name])
    return tuple(
        Difference(one, other, means[one] - means[other], *percentile_interval(resampled[one] - resampled[other]))
        for one, other in combinations(order, 2)
    )


def resample(
    counts: Mapping[T, Sequence[Counts]], *, resamples: int = RESAMPLES, seed: int = 0
) -> dict[T, NDArray[np.float64]]:
    """(R,): mIoU of each model in the same resamples."""
    images = len(next(iter(counts.values()))[0])
    rng = np.random.default_rng(seed)
    # How often each resample draws each image; the counts of all resamples are then one matrix product.
    draws = rng.multinomial(images, np.full(images, 1 / images), size=resamples).astype(np.float64)
    return {name: _resampled(runs, draws, rng) for name, runs in counts.items()}


def percentile_interval(values: NDArray[np.float64]) -> tuple[float, float]:
    """The interval that contains `LEVEL` of the resamples."""
    low, high = np.nanpercentile(values, [50 * (1 - LEVEL), 50 * (1 + LEVEL)])
    return float(low), float(high)


def _resampled(runs: Sequence[Counts], draws: NDArray[np.float64], rng: np.random.Generator) -> NDArray[np.float64]:
    """(R,): mIoU of a model in every resample, the mean over the drawn seeds."""
    drawn_counts = ((draws @ run.reshape(len(run), -1)).reshape(-1, *run.shape[1:]) for run in runs)  # (R, 3, K) each
    by_seed = np.stack([miou(counts) for counts in drawn_counts], axis=1)
    if (seeds := len(runs)) == 1:
        return by_seed[:, 0]
    drawn = rng.multinomial(seeds - 1, np.full(seeds, 1 / seeds), size=len(draws))
    mean: NDArray[np.float64] = (by_seed * drawn).sum(axis=1) / (seeds - 1)
    return mean
