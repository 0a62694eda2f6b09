"""The models of a server, and how a request is worked on: admitted, read, timed, dropped if its client goes away."""

import asyncio
import hashlib
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from starlette.requests import ClientDisconnect, Request

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import OutOfMemory, PyramidSegError
from pyramidseg.model.bundle import read_description
from pyramidseg.model.tensor_files import CHECKSUM
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.pipeline import stage_threads
from pyramidseg.predict.predictor import PredictionResult, Predictor
from pyramidseg.predict.segmentation import OutputOptions, Segmentation
from pyramidseg.predict.tta import TestTimeAugmentation
from pyramidseg.serve.engine import Engine
from pyramidseg.serve.limits import Admission, Limits, Refused, Reservation
from pyramidseg.serve.server_metrics import Metrics

T = TypeVar("T")
Document = TypeVar("Document", bound=BaseModel)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class ServedModel:
    """A model, with the metrics in its bundle and the SHA-256 of it (empty for a model in memory)."""

    name: str
    predictor: Predictor
    scores: dict[str, Any]
    digest: str = ""

    @classmethod
    def describe(cls, name: str, predictor: Predictor, path: str = "") -> "ServedModel":
        """With the scores and the digest in its file, a bundle or an exported file."""
        backend = predictor.backend
        plain = backend.backend if isinstance(backend, TestTimeAugmentation) else backend
        digest = plain.metadata.source.get(CHECKSUM) if isinstance(plain, ExportedBackend) else None
        facts = read_description(path).facts if path.endswith(".safetensors") else {}
        return cls(name, predictor, dict(facts.get("metrics") or {}), digest or getattr(plain, "checksum", "") or "")

    @property
    def version(self) -> str:
        """Changes with the bundle and with every setting that can change a result."""
        planner = self.predictor.tile_planner
        settings = f"{self.digest} {self.predictor.backend} {planner.tile_px} {planner.overlap_px}"
        return f"{self.name}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"

    def card(self) -> dict[str, Any]:
        """For the list of models."""
        backend, classes = self.predictor.backend, self.predictor.classes
        colored = zip(classes.names, classes.colors, strict=True)
        values = str(getattr(backend, "value_range", None) or "unknown")
        size = "any; large images are predicted in tiles"
        return {
            "name": self.name,
            "version": self.version,
            "classes": [{"name": name, "color": list(color)} for name, color in colored],
            "scores": self.scores,
            "input": {"channels": backend.in_channels, "size": size, "values in training": values},
            "backend": str(backend),
            "digest": self.digest,
        }


class Service:
    """All models of a server, with what they share."""

    def __init__(self, models: Sequence[ServedModel], *, limits: Limits, inexact_batches: bool = False) -> None:
        self.models = {model.name: model for model in models}
        self.limits, self.admission = limits, Admission(limits)
        self.metrics = metrics = Metrics()
        self.threads = ThreadPoolExecutor(stage_threads(), thread_name_prefix="images")
        make = partial(Engine, limits=limits, metrics=metrics, inexact_batches=inexact_batches)
        self.engines = {model.name: make(model.name, model.predictor) for model in models}
        metrics.in_work.set_function(lambda: self.admission.requests)
        metrics.memory.set_function(lambda: self.admission.bytes)

    @asynccontextmanager
    async def running(self, application: object) -> AsyncIterator[None]:
        """Compute within the `with` block (an ASGI lifespan)."""
        works = [work for engine in self.engines.values() for work in (engine.run(), self._warm_up(engine))]
        tasks = [asyncio.create_task(work) for work in works]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()
            for threads in (self.threads, *(engine.thread for engine in self.engines.values())):
                threads.shutdown(wait=False, cancel_futures=True)

    async def _warm_up(self, engine: Engine) -> None:
        try:
            await engine.warm_up()
        except Exception:
            logger.exception(f"{engine.name}: its first prediction failed, so the server does not become ready")
            return
        batches = f"batches of up to {self.limits.max_batch:.0f}" if engine.batches else "one image at a time"
        logger.info(f"{engine.name}: ready on {engine.predictor.backend}, {batches}")

    @property
    def ready(self) -> bool:
        """Whether every model has predicted once."""
        return all(engine.ready for engine in self.engines.values())

    def engine(self, name: str | None) -> Engine:
        """A model by name; without a name the only one.

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

    async def predict(
        self, engine: Engine, source: ImageLike, options: OutputOptions, held: Reservation
    ) -> tuple[PredictionResult, Segmentation]:
        """Predict one image.

        Raises:
            Refused: it cannot be read or computed.
        """
        try:
            result = await engine.predict(source, options, held, threads=self.threads)
        except PyramidSegError as error:
            raise refusal(error) from None
        if result.segmentation is None:
            assert result.error is not None
            raise refusal(result.error)
        return result, result.segmentation

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


def refusal(error: PyramidSegError) -> Refused:
    """How an error in a request is answered."""
    if isinstance(error, OutOfMemory) or isinstance(error.__cause__, OutOfMemory):
        return Refused(503, str(error), retry_after_s=10)
    too_large = isinstance(error, DefectError) and error.defects[0].kind is DefectKind.TOO_LARGE
    return Refused(413 if too_large else 400, str(error))


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
