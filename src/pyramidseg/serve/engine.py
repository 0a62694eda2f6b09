"""One model for many clients: images wait in a queue, and those of equal size share a batch.

A result is equal in every byte to that of `Predictor.predict` for the image alone. Whether a runtime computes that in
batches is measured at the start (`batches_are_exact`): ONNX Runtime and OpenVINO do on a CPU; torch selects other
convolutions for one image than for several, so there every image is a batch of its own.

The queue belongs to the event loop; a caller that is cancelled (its client has gone, or its time is over) leaves it.
"""

import asyncio
import contextlib
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from pyramidseg.base.errors import OutOfMemory, PyramidSegError
from pyramidseg.base.remote_files import local_copy
from pyramidseg.images.open_image import open_image
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.pipeline import BATCH_PIXELS
from pyramidseg.predict.predictor import ModelOutput, PredictionResult, Predictor, batch_key, result_pixels
from pyramidseg.predict.segmentation import OutputOptions
from pyramidseg.serve.limits import Limits, Refused, Reservation, refusal
from pyramidseg.serve.served_model import ServedModel
from pyramidseg.serve.server_metrics import RecordValue

T = TypeVar("T")

PROBE_SIZES = ((64, 64), (97, 131))


@dataclass(eq=False)
class _QueuedImage:
    """An image in the queue; its caller awaits `done`."""

    loaded: PredictionResult
    options: OutputOptions
    done: "asyncio.Future[PredictionResult]"
    arrived: float

    def fits(self, other: "_QueuedImage") -> bool:
        return batch_key(self.loaded) == batch_key(other.loaded) and self.options == other.options


class Engine:
    """The queue of one model, and the thread that computes.

    Args:
        load: the model at the path.
        record: takes what is measured.
        batches: whether images share batches; None measures whether results stay exact.

    Attributes:
        model: after `start`.
        ready: after `warm_up`.
    """

    model: ServedModel
    predictor: Predictor

    def __init__(
        self,
        name: str,
        path: str,
        *,
        load: Callable[[str], Predictor],
        limits: Limits,
        record: RecordValue,
        threads: Executor,
        batches: bool | None = None,
    ) -> None:
        self.name, self.path, self.limits, self.ready, self.batches = name, path, limits, False, batches
        self._load, self._record, self._threads = load, record, threads
        self._waiting: list[_QueuedImage] = []
        self._arrived = asyncio.Event()
        self._computing: asyncio.Task[None] | None = None
        self.thread = ThreadPoolExecutor(1, thread_name_prefix=f"model-{name}")

    @property
    def waiting(self) -> int:
        """Images in the queue."""
        return len(self._waiting)

    async def start(self) -> None:
        """Load the model, and begin to compute.

        Raises:
            PyramidSegError: it cannot be loaded.
        """
        loop = asyncio.get_running_loop()
        path = str(await loop.run_in_executor(self.thread, local_copy, self.path))
        self.predictor = await loop.run_in_executor(self.thread, self._load, path)
        self.model = ServedModel.describe(self.name, self.predictor, path)
        self._computing = asyncio.create_task(self._run_batches())

    async def stop(self) -> None:
        """Compute no further images."""
        if self._computing:
            self._computing.cancel()
        self.thread.shutdown(wait=False, cancel_futures=True)

    async def predict(self, source: ImageLike, options: OutputOptions, held: Reservation) -> PredictionResult:
        """Predict one image.

        Args:
            source: an encoded image, or an array (H, W, C).
            held: gets the memory of the pixels, before they are decoded.

        Raises:
            Refused: the image cannot be read or computed, has too many pixels, or the server is busy.
        """
        try:
            result = await self._predict_one(source, options, held)
            if result.error is not None:
                raise result.error
        except PyramidSegError as error:
            raise refusal(error) from None
        return result

    async def _predict_one(self, source: ImageLike, options: OutputOptions, held: Reservation) -> PredictionResult:
        height, width = await self._run("decode", self._threads, partial(image_size, source))
        pixels, most = height * width, int(self.limits.max_pixels)
        if pixels > most:
            raise Refused(413, f"the image has {height} x {width} pixels, and {most} are allowed; send a smaller one")
        classes, channels = len(self.predictor.classes), self.predictor.backend.in_channels
        held.add(pixels * (4 * channels + 8 + 4 * options.confidence + 6 * classes * options.probabilities))
        loaded = await self._run("decode", self._threads, partial(self.predictor.load, source))
        if loaded.error is not None:
            return loaded
        job = _QueuedImage(loaded, options, asyncio.get_running_loop().create_future(), time.monotonic())
        self._waiting.append(job)
        self._arrived.set()
        return await job.done

    async def _run_batches(self) -> None:
        finished: asyncio.Task[None] | None = None
        while True:
            batch = await self._next_batch()
            self._record("batch", len(batch), self.name)
            for job in batch:
                self._record("latency", time.monotonic() - job.arrived, "queue")
            work = partial(self._compute, [job.loaded for job in batch], batch[0].options)
            with _failing(batch):
                outputs = await self._run("model", self.thread, work)
                if finished:
                    await finished
                finished = asyncio.create_task(self._finish(batch, outputs))

    async def _finish(self, batch: Sequence[_QueuedImage], outputs: Sequence[ModelOutput]) -> None:
        """Compute the label maps, while the model computes the next batch."""

        def work() -> list[PredictionResult]:
            segmented = (self.predictor.segment(output, options=batch[0].options) for output in outputs)
            return [result for results in segmented for _, result in results]

        with _failing(batch):
            for job, result in zip(batch, await self._run("labels", self._threads, work), strict=True):
                self._record("pixels", result_pixels(result), self.name)
                if not job.done.done():
                    job.done.set_result(result)

    async def warm_up(self) -> None:
        """Predict once, and measure whether batches are exact.

        Raises:
            PyramidSegError: the model computes no labels.
        """
        loop, most = asyncio.get_running_loop(), int(self.limits.max_batch_size)
        dtype = await loop.run_in_executor(self.thread, first_prediction, self.predictor)
        if self.batches is None:
            probe = partial(batches_are_exact, self.predictor, most, dtype)
            self.batches = await loop.run_in_executor(self.thread, probe)
        self.ready = True

    async def _next_batch(self) -> list[_QueuedImage]:
        """The oldest image, and those of its size that are there or come in time."""
        while True:
            self._waiting = [job for job in self._waiting if not job.done.done()]
            left = None
            if self._waiting:
                first = self._waiting[0]
                most = min(int(self.limits.max_batch_size), BATCH_PIXELS // result_pixels(first.loaded))
                limit = max(1, most) if self.batches else 1
                batch = [job for job in self._waiting if job.fits(first)][:limit]
                left = first.arrived + self.limits.max_wait_ms / 1000 - time.monotonic()
                if len(batch) == limit or left <= 0:
                    self._waiting = [job for job in self._waiting if job not in batch]
                    return batch
            self._arrived.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._arrived.wait(), left)

    def _compute(self, loaded: Sequence[PredictionResult], options: OutputOptions) -> list[ModelOutput]:
        try:
            return [self.predictor.compute(list(enumerate(loaded)), options)]
        except OutOfMemory:  # of several images; a single one gets it as its error
            return [output for one in loaded for output in self._compute([one], options)]

    async def _run(self, phase: str, threads: Executor, work: Callable[[], T]) -> T:
        started = time.monotonic()
        try:
            return await asyncio.get_running_loop().run_in_executor(threads, work)
        finally:
            self._record("latency", time.monotonic() - started, phase)


@contextlib.contextmanager
def _failing(batch: Sequence[_QueuedImage]) -> Iterator[None]:
    """Hand a defect in the `with` block to the callers of a batch, who answer 500; the others go on."""
    try:
        yield
    except Exception as error:
        for job in batch:
            if not job.done.done():
                job.done.set_exception(error)


def first_prediction(predictor: Predictor) -> str:
    """Predict a small image; returns the type of pixels that the model takes.

    Raises:
        DataError: the model computes no labels.
    """
    options = OutputOptions()
    for dtype in ("uint8", "uint16", "float32"):
        image = PredictionResult("warm-up", _noise(predictor, 1, PROBE_SIZES[0], dtype)[0])
        ((_, result),) = predictor.segment(predictor.compute([(0, image)], options), options=options)
        if result.error is None:
            return dtype
    assert result.error is not None
    raise result.error


def batches_are_exact(predictor: Predictor, most: int, dtype: str = "uint8") -> bool:
    """Whether coarse logits of batches of 2 to `most` images equal in every bit those of each image alone."""
    for size in PROBE_SIZES:
        images = torch.from_numpy(_noise(predictor, most, size, dtype)).permute(0, 3, 1, 2)
        alone = torch.cat([predictor.backend.coarse_logits(image[None]).cpu() for image in images])
        for number in range(2, most + 1):
            if not torch.equal(predictor.backend.coarse_logits(images[:number]).cpu(), alone[:number]):
                return False
    return True


def _noise(predictor: Predictor, number: int, size: tuple[int, int], dtype: str) -> NDArray[Any]:
    """(B, H, W, C)."""
    values = np.random.default_rng(0).random((number, *size, predictor.backend.in_channels), np.float32)
    return values if dtype == "float32" else (values * np.iinfo(dtype).max).astype(dtype)


def image_size(source: ImageLike) -> tuple[int, int]:
    """Height and width of an array (H, W, C), or of an encoded image, from its header.

    Raises:
        DataError: the bytes are not an image that is read.
    """
    if isinstance(source, np.ndarray):
        return source.shape[0], source.shape[1]
    assert isinstance(source, bytes)
    with open_image(Path("image"), source) as file:
        return file.size
