"""The models of a server, and how a request is worked on: admitted, read, timed, dropped if its client goes away."""

import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from pyramidseg.base.errors import PyramidSegError
from pyramidseg.predict.pipeline import stage_threads
from pyramidseg.predict.predictor import Predictor
from pyramidseg.serve.engine import Engine
from pyramidseg.serve.limits import Admission, Limits, Refused, Reservation, refusal
from pyramidseg.serve.served_model import ServedModel
from pyramidseg.serve.server_metrics import ServerMetrics
from pyramidseg.serve.workers import WorkerPool

T = TypeVar("T")
Document = TypeVar("Document", bound=BaseModel)

AnyEngine = Engine | WorkerPool

logger = logging.getLogger(__name__)


class Service:
    """All models of a server, with what they share.

    Args:
        paths: of the models, by name.
        load: makes the predictor of a path.
        workers: processes for each model; 0 computes in threads of this process.
    """

    def __init__(
        self,
        paths: Mapping[str, str],
        load: Callable[[str], Predictor],
        *,
        limits: Limits,
        workers: int = 0,
        inexact_batches: bool = False,
    ) -> None:
        self.limits, self.admission = limits, Admission(limits)
        self.metrics = metrics = ServerMetrics()
        self.threads = ThreadPoolExecutor(stage_threads(), thread_name_prefix="images")
        batches = True if inexact_batches else False if limits.max_batch_size == 1 else None
        in_processes: Any = partial(WorkerPool, number=workers, reload=self.begin_reload)
        make = in_processes if workers else partial(Engine, threads=self.threads)
        self._make = partial(make, load=load, limits=limits, record=metrics.record, batches=batches)
        self.engines: dict[str, AnyEngine] = {name: self._make(name, path) for name, path in paths.items()}
        self._reload, self._started = asyncio.Lock(), False
        self._tasks: set[asyncio.Task[None]] = set()
        self.background: list[Callable[[], Coroutine[Any, Any, None]]] = []  # begun with the server
        for name in paths:
            metrics.queue.labels(name).set_function(lambda n=name: self.engines[n].waiting)  # type: ignore[misc]
        metrics.in_work.set_function(lambda: self.admission.requests)
        metrics.memory.set_function(lambda: self.admission.bytes)

    async def start(self) -> None:
        """Load the models.

        Raises:
            PyramidSegError: one cannot be loaded.
        """
        for engine in self.engines.values():
            await engine.start()
        self._started = True

    @asynccontextmanager
    async def running(self, application: object) -> AsyncIterator[None]:
        """Compute within the `with` block (an ASGI lifespan)."""
        if not self._started:
            await self.start()
        self._begin(*(self._warm_up(engine) for engine in self.engines.values()), *(work() for work in self.background))
        try:
            yield
        finally:
            for task in self._tasks:
                task.cancel()
            for engine in self.engines.values():
                await engine.stop()
            self.threads.shutdown(wait=False, cancel_futures=True)

    def _begin(self, *works: Coroutine[Any, Any, None]) -> None:
        for work in works:
            task = asyncio.create_task(work)
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _warm_up(self, engine: AnyEngine) -> None:
        try:
            await engine.warm_up()
        except Exception as error:
            logger.exception(f"{engine.name}: its first prediction failed, so it does not become ready: {error}")
            return
        batches = f"batches of up to {self.limits.max_batch_size:.0f}" if engine.batches else "one image at a time"
        logger.info(f"{engine.name}: ready on {engine.model.backend}, {batches}")

    async def reload(self, name: str, path: str | None = None) -> ServedModel:
        """Serve a model from its file as it is now, or from another one.

        The new model is loaded, verified and has predicted before it gets requests; those in progress then are answered
        by the old one, which is dropped after them. Returns the new model.

        Args:
            name: of a model of the server.
            path: of the file; by default the present one.

        Raises:
            PyramidSegError: it cannot be loaded or computes no labels; the old model stays.
        """
        async with self._reload:
            old = self.engines[name]
            new: AnyEngine = self._make(name, path or old.path)
            try:
                await new.start()
                await new.warm_up()
            except BaseException:
                self.metrics.record("reloads", 1, "refused")
                await new.stop()
                raise
            self.engines[name], before = new, set(self.admission.held)
            self.metrics.record("reloads", 1, "done")
            logger.info(f"{name}: now {new.path}, digest {new.model.digest[:12]} (was {old.model.digest[:12]})")
            while before & self.admission.held:  # they may use the old one
                await asyncio.sleep(0.02)
            await old.stop()
            return new.model

    def begin_reload(self, *names: str) -> None:
        """Begin to reload models, all if none is named; the log has the results."""

        async def each() -> None:
            for name in names or self.engines:
                try:
                    await self.reload(name)
                except Exception as error:
                    message = f"{name}: not reloaded, the old model stays: {error}"
                    logger.error(message, exc_info=not isinstance(error, PyramidSegError))

        self._begin(each())

    @property
    def ready(self) -> bool:
        """Whether every model has predicted once."""
        return all(engine.ready for engine in self.engines.values())

    def engine(self, name: str | None) -> AnyEngine:
        """A model by name; without a name the only one.

        To be looked up by requests that are admitted, since a model is dropped when those before its reload are done.

        Raises:
            Refused: 404 for an unknown name, 400 if there are several and none is named.
        """
        if name is None and len(self.engines) > 1:
            raise Refused(400, f"model=: choose one of {', '.join(self.engines)}")
        engine = next(iter(self.engines.values())) if name is None else self.engines.get(name)
        if engine is None:
            raise Refused(404, f"model={str(name)[:80]}: unknown; known are {', '.join(self.engines)}")
        return engine

    async def read_body(self, request: Request, held: Reservation) -> bytes:
        """The body of a request, held in memory.

        Raises:
            Refused: it is compressed (415), too large (413), comes too slowly (408), or the server is busy (429).
        """
        encoding = request.headers.get("content-encoding", "identity")
        if encoding != "identity":
            raise Refused(415, f"Content-Encoding: {encoding[:40]}: compressed bodies are not read; send it plain")
        parts = []
        async for part in request.stream():
            held.add(len(part))
            parts.append(part)
        return b"".join(parts)

    async def encode(self, work: Callable[..., T], *arguments: Any) -> T:
        """Encode an answer in a thread."""
        with self.metrics.latency.labels("encode").time():
            try:
                return await asyncio.get_running_loop().run_in_executor(self.threads, partial(work, *arguments))
            except PyramidSegError as error:
                raise refusal(error) from None

    async def finish(self, request: Request, work: Coroutine[Any, Any, T]) -> T:
        """The result of some work, which is cancelled if the client goes away or the time is over.

        Raises:
            Refused: 504, the time is over.
            ClientDisconnect: nobody waits for the answer.
        """
        task, gone = asyncio.ensure_future(work), asyncio.ensure_future(_disconnected(request.receive))
        seconds = self.limits.timeout_s
        try:
            done, _ = await asyncio.wait({task, gone}, timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
            if task in done:
                return task.result()
            if gone in done:
                raise ClientDisconnect
            raise Refused(504, f"no answer within {seconds:g} s; the server is slow or busy, try again later")
        finally:
            task.cancel()
            gone.cancel()


def json_body(*required: str) -> dict[str, Any]:
    """What the OpenAPI document has about a body that `parse_json` reads, by its required fields."""
    content = {"application/json": {"schema": {"type": "object", "required": list(required)}}}
    return {"requestBody": {"required": True, "content": content}}


def parse_json(kind: type[Document], text: bytes) -> Document:
    """Parse a JSON document.

    Raises:
        Refused: 400, with the first place that is wrong.
    """
    try:
        return kind.model_validate_json(text)
    except ValidationError as error:
        raise Refused(400, explain_first(error.errors(include_url=False))) from None


def explain_first(errors: Sequence[Any]) -> str:
    """The first of pydantic's errors in one line, with the value that was found."""
    place, found = ".".join(map(str, errors[0]["loc"])), errors[0].get("input")
    return f"{place or 'body'}: {errors[0]['msg']}, got {found!r:.80}"


async def _disconnected(receive: Callable[[], Awaitable[Any]]) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
