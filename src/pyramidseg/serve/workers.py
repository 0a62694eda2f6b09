"""Processes that read images and compute, so that a codec that crashes or a model that hangs does not end the server.

Each has the queue of `engine.py` and a model of its own. A process that ends is replaced, and what it worked on is
tried twice more, alone, so that one image cannot take others with it. One that stays silent for `timeout_s` is killed,
and its callers get 504.
"""

import asyncio
import itertools
import logging
import os
import socket
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, cast

from pyramidseg.base.errors import ConfigError
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.predictor import PredictionResult, Predictor
from pyramidseg.predict.segmentation import OutputOptions
from pyramidseg.serve import process_context
from pyramidseg.serve.engine import Engine
from pyramidseg.serve.limits import Limits, Refused, Reservation
from pyramidseg.serve.served_model import ServedModel
from pyramidseg.serve.server_metrics import RecordValue
from pyramidseg.serve.worker_process import Channel, work

logger = logging.getLogger(__name__)

ATTEMPTS, CHECKS_PER_SECOND, MAX_DELAY_S = 3, 2, 30


class _Worker:
    """A process, as the server sees it.

    Attributes:
        loaded, warm: become the model, and whether it shares batches, or an error.
        ready: it takes images.
        pending: answers that are awaited, by number: a result, an error, or None if the process ended.
        alone: it works on an image that may have ended another process, and gets no other one.
        silent: checks without a message while answers are awaited.
    """

    def __init__(
        self, record: RecordValue, changed: asyncio.Event, accepts: Callable[[ServedModel], bool] = lambda model: True
    ) -> None:
        self._record, self._changed, self._accepts = record, changed, accepts
        self.loaded, self.warm = _future(), _future()
        self.ready = self.alone = self.hangs = False
        self.silent = 0
        self.pending: dict[int, asyncio.Future[Any]] = {}
        self._channel: Channel | None = None

    async def run(self, *arguments: Any) -> None:
        """Start the process, and hand on its messages until it ends."""
        context: Any = process_context()
        ours, theirs = socket.socketpair()
        self.process = context.Process(target=work, args=(theirs, *arguments), daemon=True)
        try:
            with theirs:
                await asyncio.to_thread(self.process.start)
            self._channel = Channel(*await asyncio.open_connection(sock=ours))
            while message := await self._channel.receive():
                self.silent = 0
                self._take(*message)
                self._changed.set()
        finally:
            self.ready = False
            if self.process.pid:
                self.process.kill()
            self._channel.close() if self._channel else ours.close()
            ended = ConfigError("the process of the model ended before it had predicted an image")
            late = Refused(504, "the model did not answer in time, and was started again") if self.hangs else None
            for future in (self.loaded, self.warm, *self.pending.values()):
                _settle(future, ended if future in (self.loaded, self.warm) else late)

    def _take(self, kind: str | int, content: Any, records: Sequence[tuple[str, float, str]] = ()) -> None:
        for record in records:
            self._record(*record)
        if isinstance(kind, int):
            if isinstance(content, tuple):
                content = Refused(*content[:2], retry_after_s=content[2])
            elif isinstance(content, str):
                content = RuntimeError(f"a defect in a worker: {content}")
            _settle(self.pending.pop(kind), content)
            self.alone = self.alone and bool(self.pending)
        elif kind == "failed":
            _settle(self.warm if self.loaded.done() else self.loaded, ConfigError(content))
        else:
            if kind == "loaded" and not self._accepts(content):
                self.process.kill()
            self.ready = kind == "ready"
            _settle(self.warm if self.ready else self.loaded, content)

    async def ask(self, number: int, source: ImageLike, options: OutputOptions) -> Any:
        """The result or an error; None if the process ended."""
        assert self._channel is not None
        if not self.pending:
            self.silent = 0
        self.pending[number] = _future()
        self._channel.send(number, source, options)
        try:
            return await self.pending[number]
        except asyncio.CancelledError:
            self._channel.send(number)
            raise


def _future() -> "asyncio.Future[Any]":
    return asyncio.get_running_loop().create_future()


def _settle(future: "asyncio.Future[Any]", value: object) -> None:
    if not future.done():
        future.set_result(value)


class WorkerPool:
    """The workers of one model, with the interface of `Engine`.

    Args:
        reload: called with the name where a replaced process finds another model in the file than the others have.
    """

    model: ServedModel

    def __init__(
        self,
        name: str,
        path: str,
        *,
        number: int,
        load: Callable[[str], Predictor],
        limits: Limits,
        record: RecordValue,
        batches: bool | None = None,
        reload: Callable[[str], None],
    ) -> None:
        self.name, self.path, self.limits, self.batches = name, path, limits, batches
        self._asked_batches, self._found = batches, ""
        self._load, self._record, self._number, self._reload = load, record, number, reload
        self._workers: list[_Worker] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._changed, self._numbers, self._repeats = asyncio.Event(), itertools.count(), 0

    @property
    def waiting(self) -> int:
        """Images in the processes."""
        return sum(len(worker.pending) for worker in self._workers)

    @property
    def ready(self) -> bool:
        """Whether a worker takes images."""
        return any(worker.ready for worker in self._workers)

    async def start(self) -> None:
        """Start the processes, and await that each has loaded the model.

        Raises:
            PyramidSegError: one cannot load it.
        """
        self._workers = [_Worker(self._record, self._changed) for _ in range(self._number)]
        keepers = [self._keep(number, worker) for number, worker in enumerate(self._workers)]
        self._tasks = [asyncio.create_task(work) for work in (*keepers, self._watch())]
        self.model = (await _all(worker.loaded for worker in self._workers))[0]

    async def warm_up(self) -> None:
        """Await that each process has predicted once.

        Raises:
            PyramidSegError: the model computes no labels.
        """
        self.batches = all(await _all(worker.warm for worker in self._workers))

    async def stop(self) -> None:
        """End the processes."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def predict(self, source: ImageLike, options: OutputOptions, held: Reservation) -> PredictionResult:
        """Predict one image; `held` is the memory of the request, while the workers count that of the pixels.

        Raises:
            Refused: the image cannot be read or computed, has too many pixels, ends its process, or the server is busy.
        """
        for attempt in range(ATTEMPTS):
            alone = attempt > 0
            self._repeats += alone
            try:
                found = await (await self._free_worker(alone=alone)).ask(next(self._numbers), source, options)
            finally:
                self._repeats -= alone
                self._changed.set()
            if isinstance(found, Exception):
                raise found
            if found is not None:
                return cast(PredictionResult, replace(found, source=source))
        raise Refused(
            503, f"{ATTEMPTS} processes ended while they worked on this image: a codec crashed, or memory ran out"
        )

    async def _free_worker(self, *, alone: bool = False) -> _Worker:
        while True:
            free = [worker for worker in self._workers if worker.ready and not worker.alone]
            free = [worker for worker in free if not (worker.pending if alone else self._repeats)]
            if free:
                worker = min(free, key=lambda worker: len(worker.pending))
                worker.alone = alone
                return worker
            self._changed.clear()
            await self._changed.wait()

    async def _keep(self, number: int, worker: _Worker) -> None:
        """Run a worker, and others after it."""
        delay_s = 0
        while True:
            own = sorted(os.sched_getaffinity(0))[number :: self._number] if hasattr(os, "sched_getaffinity") else []
            limits = replace(self.limits, max_memory_mb=self.limits.max_memory_mb / self._number)
            make = partial(Engine, self.name, self.path, load=self._load, batches=self.batches)
            try:
                await worker.run(make, limits, own, logging.getLogger("pyramidseg").level)
            except (OSError, EOFError) as error:
                logger.error(f"{self.name}: a worker process cannot be started: {error}")
            finally:
                self._workers.remove(worker)
                self._changed.set()
            worked = worker.warm.done() and not isinstance(worker.warm.result(), Exception)
            delay_s = 0 if worked else min(MAX_DELAY_S, 2 * delay_s + 1)
            if hasattr(self, "model"):  # else `start` raises the reason, and nothing is replaced
                requests = f"{len(worker.pending)} requests"
                logger.warning(f"{self.name}: a worker process ended with {requests}, and is replaced")
            self._record("replaced", 1, self.name)
            await asyncio.sleep(delay_s)
            worker = _Worker(self._record, self._changed, self._accepts)
            self._workers.append(worker)

    def _accepts(self, model: ServedModel) -> bool:
        """Whether a replacement, which reads the file as it is now, has the model that the server names.

        If not, the model is reloaded, or named if no process has the old one.
        """
        if model.digest == self.model.digest:
            return True
        if not self.ready:  # nothing to switch from: the next process that is started is accepted
            self.model, self.batches = model, self._asked_batches
        elif model.digest == self._found:  # its reload was begun
            return False
        else:
            self._reload(self.name)
        self._found = model.digest
        logger.warning(
            f"{self.name}: a replaced process has found that {self.path} has changed; what is there now is loaded"
        )
        return False

    async def _watch(self) -> None:
        """Kill processes that hang. Checks are counted, as clocks jump and machines sleep."""
        while True:
            await asyncio.sleep(1 / CHECKS_PER_SECOND)
            for worker in self._workers:
                worker.silent += bool(worker.pending)
                if worker.silent > (self.limits.timeout_s + 1) * CHECKS_PER_SECOND and not worker.hangs:
                    logger.warning(f"{self.name}: a worker process did not answer for {self.limits.timeout_s:g} s")
                    worker.hangs = True
                    worker.process.kill()


async def _all(futures: Iterable["asyncio.Future[Any]"]) -> list[Any]:
    found = [await future for future in list(futures)]  # of workers that may be replaced in the meantime
    for one in found:
        if isinstance(one, Exception):
            raise one
    return found
