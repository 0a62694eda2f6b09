"""Load training batches by workers that decode and augment.

The augmentation of a sample is a function of (seed, epoch, index), and so is its place (`epoch_plan`). So neither the
number of workers nor a resumed run changes what the model sees.
"""

import multiprocessing
import os
import pickle
import signal
import sys
import tempfile
import warnings
from abc import ABC, abstractmethod
from collections import defaultdict
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partialmethod
from multiprocessing.queues import Queue
from pathlib import Path
from types import FrameType
from typing import Any

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

from pyramidseg.base.errors import PyramidSegError, TrainingError
from pyramidseg.base.output_lock import MAIN_GUARD
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.epoch_plan import EpochPlan, SampleKey
from pyramidseg.data.pairs import FilePairs
from pyramidseg.data.transforms import Augmentation

# An iterator that could not start all of its workers lacks what it needs to end those that it started.
_MultiProcessingDataLoaderIter._workers_status = defaultdict(lambda: True)  # type: ignore[assignment]
_MultiProcessingDataLoaderIter._shutdown = True


@dataclass(frozen=True)
class Batch:
    """A micro-batch.

    Attributes:
        images: (B, C, H, W) of the files' dtype, channels last in memory; of unlabelled images (B, 2C, H, W): the
            weakly augmented view, then the strongly augmented one.
        labels: (B, H, W) uint8; for image classification (B,) int64.
        keys: of the samples.
    """

    images: Tensor
    labels: Tensor
    keys: tuple[SampleKey, ...]

    @property
    def is_labelled(self) -> bool:
        """Whether its images have labels of their own."""
        return self.keys[0][1] >= 0

    def split(self, largest: int | None) -> "list[Batch]":
        """In parts of nearly equal size with at most `largest` samples; whole without a limit."""
        parts = 1 if largest is None else -(-len(self.keys) // largest)
        if parts == 1:
            return [self]
        indices = np.array_split(np.arange(len(self.keys)), parts)
        return [Batch(self.images[part], self.labels[part], tuple(self.keys[i] for i in part)) for part in indices]

    def pin_memory(self) -> "Batch":
        """Called by the `DataLoader` if it pins memory."""
        return Batch(self.images.pin_memory(), self.labels.pin_memory(), self.keys)


class SampleDataset(TorchDataset[tuple[Any, Any, SampleKey] | PyramidSegError], ABC):
    """By `SampleKey`: image (H, W, C), labels and the key; or the error, returned as a value."""

    seed: int

    def preload(self) -> None:
        """Decode what is cached in memory; by default nothing."""

    @abstractmethod
    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """Image (H, W, C) and labels of one sample; `index` as in `SampleKey`."""

    def __getitem__(self, key: SampleKey) -> tuple[Any, Any, SampleKey] | PyramidSegError:
        rng = np.random.default_rng(position_seed("augmentation", self.seed, *key))
        try:
            return *self.augmented(key[1], rng), key
        except PyramidSegError as error:
            # Returned as a value: raised in a worker, it would reach the user as a page of traceback.
            return error


class TrainingSamples(SampleDataset):
    """Augmented image-mask pairs, each as often as an epoch has crops of it, and two views of each unlabelled image."""

    def __init__(
        self, pairs: FilePairs, *, augmentation: Augmentation, seed: int, unlabeled: FilePairs | None = None
    ) -> None:
        self.pairs, self.augmentation, self.seed, self.unlabeled = pairs, augmentation, seed, unlabeled

    def preload(self) -> None:
        """Decode the pairs if they are cached in memory.

        Raises:
            DataError: an image or mask is unreadable.
        """
        self.pairs.preload()

    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """A crop of a pair; of an unlabelled image two views of a crop."""
        if index < 0 and self.unlabeled is not None:
            return self.augmentation.two_views(*self.unlabeled[-1 - index], rng)
        pair = self.pairs[index % len(self.pairs)]
        return self.augmentation(*pair, rng, other=lambda draw: self.pairs[draw % len(self.pairs)])


class TrainingLoader:
    """The micro-batches of a run, starting at any step, decoded ahead by worker processes."""

    def __init__(self, samples: SampleDataset, plan: EpochPlan, *, rank: int, workers: int, pin: bool) -> None:
        self.plan = plan
        self._samples = samples
        self._handover = _FileHandover(samples)
        self._is_shared = workers == 0 or workers_are_forked()
        self._sampler = _BatchSampler(plan, rank)
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # more workers than cores
            self._loader: DataLoader[Batch | PyramidSegError] = DataLoader(
                self._handover,
                batch_sampler=self._sampler,
                num_workers=workers,
                collate_fn=collate,
                pin_memory=pin,
                persistent_workers=workers > 0,
                prefetch_factor=4 if workers else None,
                worker_init_fn=_start_worker,
                # Without its own generator the loader would draw from the global one and so advance it.
                generator=torch.Generator().manual_seed(0),
            )

    def preload(self) -> None:
        """Decode what is cached in memory; call it before the first step, so that forked workers share the cache.

        Other workers get no decoded images: each decodes into a cache of its own.

        Raises:
            DataError: a sample is unreadable.
        """
        if self._is_shared:
            self._samples.preload()

    def close(self) -> None:
        """End the workers, which persist between epochs; a waiting worker would keep this process from exiting."""
        if (iterator := self._loader._iterator) is not None:
            iterator._shutdown_workers()  # type: ignore[attr-defined]
        self._handover.close()

    def steps(self, epoch: int, *, start: int = 0) -> Generator[list[Batch], None, None]:
        """Yield the micro-batches of each step of an epoch, from step `start` on.

        Raises:
            DataError: an image or mask is unusable.
        """
        self._sampler.epoch, self._sampler.start = epoch, start
        waiting: list[Batch] = []
        with warnings.catch_warnings(action="ignore", category=UserWarning):  # more workers than cores
            batches = iter(self._loader)
        for batch in batches:
            if isinstance(batch, PyramidSegError):
                raise batch
            waiting.append(batch)
            if len(waiting) == self.plan.parts:
                yield waiting
                waiting = []


class _FileHandover(TorchDataset[Any]):
    """Samples that reach a starting worker through a file, if workers are not forked.

    Python writes everything into the worker's pipe before the worker reads it. If there is more than the pipe holds
    (64 kB, or 500 paths) and the worker fails before it reads, the write never ends.
    """

    def __init__(self, samples: SampleDataset) -> None:
        self.samples = samples
        self._folder: tempfile.TemporaryDirectory[str] | None = None

    def __getitem__(self, key: SampleKey) -> Any:
        return self.samples[key]

    def __reduce__(self) -> tuple[Any, ...]:
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="pyramidseg-loading-")
            Path(self._folder.name, "samples").write_bytes(pickle.dumps(self.samples))
        return _received, (Path(self._folder.name, "samples"),)

    def close(self) -> None:
        """Delete the file; all workers have started, and none reads it again."""
        if self._folder is not None:
            self._folder.cleanup()


def _received(file: Path) -> SampleDataset:
    samples: SampleDataset = pickle.loads(file.read_bytes())  # noqa: S301 - written by the parent process
    return samples


@dataclass
class _BatchSampler:
    """Yields the keys of each micro-batch. It runs in the main process, so workers have no state."""

    plan: EpochPlan
    rank: int
    epoch: int = 0
    start: int = 0

    def __iter__(self) -> Iterator[list[SampleKey]]:
        for step in range(self.start, self.plan.steps):
            yield from self.plan.keys(self.epoch, step, self.rank)


def collate(samples: Sequence[tuple[Any, Any, SampleKey] | PyramidSegError]) -> Batch | PyramidSegError:
    """Stack samples to a batch, or return the first error among them."""
    images, labels, keys = [], [], []
    for sample in samples:
        if isinstance(sample, PyramidSegError):
            return sample
        images.append(torch.from_numpy(sample[0]))
        labels.append(torch.as_tensor(sample[1]))
        keys.append(sample[2])
    # Stacked as (B, H, W, C) and viewed as (B, C, H, W): channels last without a copy.
    return Batch(torch.stack(images).permute(0, 3, 1, 2), torch.stack(labels), tuple(keys))


def workers_are_forked() -> bool:
    """Whether worker processes begin as copies of this process, as on Linux up to Python 3.13."""
    return multiprocessing.get_start_method() == "fork"


@contextmanager
def worker_failures_explained() -> Iterator[None]:
    """Turn the end of a loading worker into one line; torch raises it wherever the main process is at that moment.

    Raises:
        TrainingError: a worker could not start, or was killed.
    """
    try:
        yield
    except (RuntimeError, EOFError, ConnectionError) as error:
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        text = (
            "a loading worker ended; the usual reason is that it ran out of memory or threads (ulimit -u): "
            "lower data.workers (0 shows other reasons)"
        )
        if not workers_are_forked():
            text = f"a loading worker could not start. In a script, {MAIN_GUARD}; or set data.workers=0"
        raise TrainingError(text) from None


def _start_worker(_: int) -> None:
    cv2.setNumThreads(0)  # the workers already run in parallel
    # A signal to the process group (Ctrl-C, timeout, scancel, systemd) is handled by the main process, which finishes
    # its step, saves and ends its workers.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, _ignore_first_signal)
    # A batch that cannot be sent, for want of a thread, would be dropped, and the main process wait for it for ever.
    Queue._on_queue_feeder_error = staticmethod(_end_worker)  # type: ignore[attr-defined]
    sys.excepthook = _end_worker  # of threads that Python starts for it
    Queue._start_thread = partialmethod(_start_thread, Queue._start_thread)  # type: ignore[attr-defined]


def _start_thread(queue: "Queue[Any]", start: Callable[["Queue[Any]"], None]) -> None:
    try:
        start(queue)
    except RuntimeError:  # the limit on threads is reached
        _end_worker()


def _end_worker(*_: object) -> None:
    """End this process without a traceback. The main process notices it within 5 s.

    For another status than 0, torch raises at once, wherever the main process is: also where it ends the other workers.
    """
    os._exit(0)


def _ignore_first_signal(number: int, frame: FrameType | None) -> None:
    """Ignore the first SIGTERM: the second one is from the main process, to a worker that does not end."""
    signal.signal(number, signal.SIG_DFL)
