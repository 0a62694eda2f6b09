"""Loading: which sample is in which step, and the workers that decode and augment it.

The plan of an epoch is a function of (seed, epoch), the augmentation of a sample a function of (seed, epoch, index):
neither the number of workers nor a resumed run can change what the model sees.
"""

import signal
import warnings
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import lru_cache
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from pyramidseg.base.device import position_seed
from pyramidseg.base.errors import DataError, PyramidSegError
from pyramidseg.data.pairs import PairSource
from pyramidseg.data.transforms import Augmentation

SampleKey = tuple[int, int]
"""(epoch, index of the record)."""


@dataclass(frozen=True)
class EpochPlan:
    """How an epoch's samples are dealt out to steps, processes and micro-batches.

    Every sample comes exactly once an epoch. Steps are as equal as can be and never larger than
    `batch_size * accumulate * world_size`, so that no runt batch upsets batch norm.

    Raises:
        DataError: fewer samples than one step has processes and micro-batches.
    """

    samples: int
    batch_size: int
    accumulate: int = 1
    world_size: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if self.samples < self.accumulate * self.world_size:
            raise DataError(
                f"{self.samples} training images are fewer than the {self.world_size} processes times "
                f"{self.accumulate} micro-batches of one step: use fewer of either"
            )

    @property
    def steps(self) -> int:
        """Optimiser steps an epoch."""
        parts = self.accumulate * self.world_size
        return max(1, min(-(-self.samples // (self.batch_size * parts)), self.samples // parts))

    @property
    def smallest_batch(self) -> int:
        """Samples in the smallest micro-batch."""
        return self.samples // (self.steps * self.world_size * self.accumulate)

    def micro_batches(self, epoch: int, step: int, rank: int = 0) -> list[list[int]]:
        """Record indices of one process's micro-batches in one step."""
        of_step = _part(range(self.samples), self.steps, step)
        mine = _part(of_step, self.world_size, rank)
        order = _order_of(self.samples, self.seed, epoch)
        parts = (_part(mine, self.accumulate, index) for index in range(self.accumulate))
        return [order[part.start : part.stop].tolist() for part in parts]


@lru_cache(maxsize=2)  # all steps of an epoch ask for the same one
def _order_of(samples: int, seed: int, epoch: int) -> NDArray[np.int64]:
    order = np.random.default_rng(position_seed("order", seed, epoch)).permutation(samples)
    order.flags.writeable = False
    return order


def _part(whole: range, parts: int, index: int) -> range:
    """One of so many parts as equal as can be, the larger ones first, as `np.array_split` makes all of them."""
    assert 0 <= index < parts
    size, larger = divmod(len(whole), parts)
    start = index * size + min(index, larger)
    return whole[start : start + size + (index < larger)]


@dataclass(frozen=True)
class Batch:
    """A micro-batch as it leaves the loader.

    Attributes:
        images: (B, C, H, W), the type of the files, channels last in memory.
        labels: (B, H, W) uint8; of whole images (B,) int64.
        positions: which samples these are.
    """

    images: Tensor
    labels: Tensor
    positions: tuple[SampleKey, ...]

    def pin_memory(self) -> "Batch":
        """Called by the loader where a GPU is fed."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.positions)


class SampleDataset(TorchDataset[tuple[Any, Any, SampleKey] | PyramidSegError]):
    """By position: image (H, W, C), labels and the position; or the error that stands in the way, as a value."""

    def load(self) -> None:
        """Decode what is to be held in memory; nothing, where all is read when it is asked for."""


class TrainingSamples(SampleDataset):
    """Augmented samples by position."""

    def __init__(self, pairs: PairSource, *, augmentation: Augmentation, seed: int) -> None:
        self.pairs = pairs
        self.augmentation = augmentation
        self.seed = seed

    def load(self) -> None:
        """Decode the pairs, where they are to be held in memory.

        Raises:
            DataError: one of them cannot be read.
        """
        self.pairs.load()

    def __getitem__(self, position: SampleKey) -> tuple[Any, Any, SampleKey] | PyramidSegError:
        epoch, index = position
        try:
            image, labels = self.pairs[index]
        except PyramidSegError as error:
            # As a value: raised in a worker, it would arrive as a page of traceback.
            return error
        rng = np.random.default_rng(position_seed("augmentation", self.seed, epoch, index))
        return *self.augmentation(image, labels, rng), position


class TrainingLoader:
    """Micro-batches of a run, from any step on, decoded ahead by worker processes."""

    def __init__(self, samples: SampleDataset, plan: EpochPlan, *, rank: int, workers: int, pin: bool) -> None:
        self.plan = plan
        self._samples = samples
        self._rank = rank
        self._order = _Order(plan, rank)
        with _as_many_workers_as_asked():
            self._loader: DataLoader[Batch | PyramidSegError] = DataLoader(
                samples,  # type: ignore[arg-type]
                batch_sampler=self._order,
                num_workers=workers,
                collate_fn=collate,
                pin_memory=pin,
                persistent_workers=workers > 0,
                prefetch_factor=4 if workers else None,
                worker_init_fn=_start_worker,
                # A generator of its own: the loader would otherwise draw from, and so move, the global one.
                generator=torch.Generator().manual_seed(0),
            )

    def load(self) -> None:
        """Decode what is to be held in memory; before the first step, as workers share what they find then.

        Raises:
            DataError: a sample cannot be read.
        """
        self._samples.load()

    def close(self) -> None:
        """End the workers, which outlive epochs; one that waits for more would keep this process from ending."""
        if (iterator := self._loader._iterator) is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]

    def steps(self, epoch: int, *, start: int = 0) -> Generator[list[Batch], None, None]:
        """The micro-batches of each step of an epoch, from step `start` on.

        Raises:
            DataError: an image or mask that cannot be used.
        """
        self._order.epoch, self._order.start = epoch, start
        waiting: list[Batch] = []
        with _as_many_workers_as_asked():
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, PyramidSegError):
                raise batch
            waiting.append(batch)
            if len(waiting) == self.plan.accumulate:
                yield waiting
                waiting = []


class _Order:
    """Batch sampler of positions; it runs in the main process, so that workers hold no state."""

    def __init__(self, plan: EpochPlan, rank: int) -> None:
        self.plan = plan
        self.rank = rank
        self.epoch = 0
        self.start = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.start, self.plan.steps):
            for part in self.plan.micro_batches(self.epoch, step, self.rank):
                yield [(self.epoch, index) for index in part]

    def __len__(self) -> int:
        return (self.plan.steps - self.start) * self.plan.accumulate


def collate(samples: Sequence[tuple[Any, Any, SampleKey] | PyramidSegError]) -> Batch | PyramidSegError:
    """Stack samples, or hand on the first error among them."""
    images, labels, positions = [], [], []
    for sample in samples:
        if isinstance(sample, PyramidSegError):
            return sample
        images.append(torch.from_numpy(sample[0]))
        labels.append(torch.as_tensor(sample[1]))
        positions.append(sample[2])
    # Stacked as (B, H, W, C) and viewed as (B, C, H, W): channels last without a copy.
    return Batch(torch.stack(images).permute(0, 3, 1, 2), torch.stack(labels), tuple(positions))


def default_workers(device: torch.device, available: int, processes: int = 1) -> int:
    """Worker processes: one beside a CPU that also trains, up to eight for a GPU."""
    share = max(1, available // processes)
    return min(8, share) if device.type != "cpu" else 1


@contextmanager
def _as_many_workers_as_asked() -> Iterator[None]:
    """Without torch's warning that there are more workers than processors: their number is the user's choice."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="This DataLoader will create")
        yield


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the workers are the parallelism
    # What a group of processes is sent (Ctrl-C, timeout, scancel, systemd) is for the main one, which finishes its
    # step, saves and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _survive_once)


def _survive_once(number: int, frame: FrameType | None) -> None:
    """Ignore a signal the first time: what the main process sends to a worker that does not end is the second."""
    signal.signal(number, signal.SIG_DFL)
