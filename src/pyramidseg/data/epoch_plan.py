"""The plan of an epoch: which samples each step, process and micro-batch gets, a function of (seed, epoch)."""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import DataError
from pyramidseg.base.seeds import position_seed

SampleKey = tuple[int, int]
"""(epoch, index of the record); of an unlabelled image (pass through these images, -1 - its index)."""


@dataclass(frozen=True)
class EpochPlan:
    """The distribution of an epoch's samples over steps, processes and micro-batches.

    Every sample is used exactly once per epoch, except with `shares`. Steps are as equal as possible, and not larger
    than `batch_size * accumulate * world_size`, so that no small last batch disturbs batch norm. With unlabelled images
    a step has as many full micro-batches of these as well; they follow one another through all epochs.

    Attributes:
        sets: the number of each sample's set, with `shares`.
        shares: of an epoch's samples that each set has, in proportion. A set is used up before it begins again, over
            the ends of epochs.

    Raises:
        DataError: there are fewer samples than processes times micro-batches of one step, or a share without a sample.
    """

    samples: int
    batch_size: int
    accumulate: int = 1
    world_size: int = 1
    seed: int = 0
    unlabeled: int = 0
    sets: bytes = b""
    shares: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        if self.shares and min(self.crops_by_set) == 0:
            raise DataError(
                f"shares {self.shares} of {self.samples} crops an epoch leave a set without; raise the least"
            )
        if self.samples < self.accumulate * self.world_size:
            raise DataError(
                f"{self.samples} training images are fewer than {self.world_size} processes times {self.accumulate} "
                "micro-batches per step; use fewer of either"
            )

    @property
    def steps(self) -> int:
        """Optimizer steps per epoch."""
        parts = self.accumulate * self.world_size
        return max(1, min(-(-self.samples // (self.batch_size * parts)), self.samples // parts))

    @property
    def smallest_batch(self) -> int:
        """Number of samples in the smallest micro-batch."""
        return self.samples // (self.steps * self.world_size * self.accumulate)

    @property
    def parts(self) -> int:
        """Micro-batches of one process in one step."""
        return 2 * self.accumulate if self.unlabeled else self.accumulate

    def keys(self, epoch: int, step: int, rank: int = 0) -> list[list[SampleKey]]:
        """Keys of the micro-batches of one process in one step, the unlabelled ones last."""
        labelled = [[(epoch, index) for index in part] for part in self.micro_batches(epoch, step, rank)]
        if not self.unlabeled:
            return labelled
        first = ((epoch * self.steps + step) * self.world_size + rank) * self.accumulate * self.batch_size
        places = (divmod(first + place, self.unlabeled) for place in range(self.accumulate * self.batch_size))
        drawn = [(turn, -1 - int(_order(self.unlabeled, self.seed, turn)[place])) for turn, place in places]
        return labelled + [drawn[start : start + self.batch_size] for start in range(0, len(drawn), self.batch_size)]

    @property
    def crops_by_set(self) -> list[int]:
        """Number of an epoch's samples from each set, with `shares`."""
        ends = np.cumsum(self.shares) / sum(self.shares) * self.samples
        counts: list[int] = np.diff(np.rint(ends).astype(int), prepend=0).tolist()
        return counts

    def micro_batches(self, epoch: int, step: int, rank: int = 0) -> list[list[int]]:
        """Record indices of the micro-batches of one process in one step."""
        of_step = _epoch_by_step(self, epoch)[step]
        of_rank = np.array_split(of_step, self.world_size)[rank]
        return [part.tolist() for part in np.array_split(of_rank, self.accumulate)]


@lru_cache(maxsize=2)  # all steps of an epoch need the same one
def _epoch_by_step(plan: EpochPlan, epoch: int) -> list[NDArray[np.int64]]:
    """The samples of an epoch in random order, divided into steps."""
    order = np.random.default_rng(position_seed("order", plan.seed, epoch)).permutation(plan.samples)
    if plan.shares:
        order = np.concatenate([_of_set(plan, epoch, *it) for it in enumerate(plan.crops_by_set)])[order]
    order.flags.writeable = False
    return np.array_split(order, plan.steps)


def _of_set(plan: EpochPlan, epoch: int, number: int, count: int) -> NDArray[np.int64]:
    """The samples of one set in an epoch: the next `count` of its permutations, one after the other."""
    members = np.flatnonzero(np.frombuffer(plan.sets, np.uint8) == number)
    first, skipped = divmod(epoch * count, len(members))
    passes = range(first, first + -(-(skipped + count) // len(members)))
    seeds = (position_seed("order of a set", plan.seed, number, each) for each in passes)
    drawn = np.concatenate([np.random.default_rng(seed).permutation(members) for seed in seeds])
    return drawn[skipped : skipped + count]


@lru_cache(maxsize=2)
def _order(unlabeled: int, seed: int, turn: int) -> NDArray[np.int64]:
    """The unlabelled images in the random order of one pass through them."""
    return np.random.default_rng(position_seed("unlabelled order", seed, turn)).permutation(unlabeled)
