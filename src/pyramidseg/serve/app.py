"""The application: the plain routes, the page, and the routes of the protocols."""

import asyncio
import sys
import time
from collections.abc import AsyncGenerator, Callable, Iterable, Mapping, Sequence
from importlib.resources import files
from typing import Any, Literal, cast

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from prometheus_client import generate_latest
from pydantic import Base64Bytes, BaseModel
from starlette.datastructures import Headers, UploadFile
from starlette.exceptions import HTTPException
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect

from pyramidseg.base.version import __version__
from pyramidseg.serve import label_studio_backend, open_inference
from pyramidseg.serve.answers import FORMATS, INCLUDES, Answer, format_for
from pyramidseg.serve.gate import Gate
from pyramidseg.serve.image_urls import AllowedUrls
from pyramidseg.serve.label_studio_images import LabelStudioImages
from pyramidseg.serve.limits import Refused
from pyramidseg.serve.service import Service, explain_first, parse_json

MEDIA_TYPES = {"html": "text/html", "js": "text/javascript", "css": "text/css", "svg": "image/svg+xml"}

FormatName = Literal["labels", "overlay", "confidence", "json", "roboflow", "geotiff", "npz-probabilities"]


def _fields(**fields: str) -> dict[str, Any]:
    return {"type": "object", "properties": {name: {"type": "string", "format": kind} for name, kind in fields.items()}}


def _answers(media_types: Iterable[str]) -> dict[int | str, dict[str, Any]]:
    return {200: {"content": {media_type: {} for media_type in media_types}}}


_SENTENCE = {"type": "object", "properties": {"error": {"type": "string"}}}
_ERROR = {"description": "an error", "content": {"application/json": {"schema": _SENTENCE}}}
_BODIES = {
    "application/octet-stream": {"type": "string", "format": "binary"},
    "multipart/form-data": _fields(image="binary") | {"required": ["image"]},
    "application/json": _fields(image="byte", url="uri"),
}
_REQUEST = {"required": True, "content": {media_type: {"schema": schema} for media_type, schema in _BODIES.items()}}


def make_app(
    service: Service,
    *,
    token: str | None = None,
    loopback_only: bool = False,
    label_studio_url: str = "",
    label_studio_key: str = "",
    allow_urls: Sequence[str] = (),
    receive: Callable[[label_studio_backend.LabelEvent], None] | None = None,
) -> Gate:
    """The ASGI application of a service.

    Args:
        token: bearer token that requests must have; None for no token.
        loopback_only: refuse requests for other host names than this machine's, which browsers send for pages of other
            sites whose name leads here (DNS rebinding).
        label_studio_url: from which images of tasks are fetched, with the key.
        allow_urls: prefixes of URLs of images that clients may name.
        receive: gets Label Studio's events.
    """
    app = FastAPI(
        title="pyramidseg",
        version=__version__,
        docs_url=None,
        redoc_url=None,
        lifespan=service.running,
        responses=dict.fromkeys(("4XX", "5XX"), _ERROR),
    )
    _handle_errors(app)
    _add_status(app, service)
    _add_page(app, service)
    _add_segment(app, service, AllowedUrls(allow_urls, service.limits, label_studio=label_studio_url))
    open_inference.add_routes(app, service)
    images = LabelStudioImages(label_studio_url, label_studio_key, service.limits)
    label_studio_backend.add_routes(app, service, images, receive)
    return Gate(app, limits=service.limits, metrics=service.metrics, token=token, loopback_only=loopback_only)


def _handle_errors(app: FastAPI) -> None:
    """Every error is `{"error": one sentence}`."""

    def answer(status: int, message: str, headers: Mapping[str, str] | None = None) -> Response:
        return JSONResponse({"error": " ".join(message.split())}, status, headers)

    @app.exception_handler(Refused)
    async def refused(request: Request, error: Refused) -> Response:
        wait = None if error.retry_after_s is None else {"Retry-After": str(error.retry_after_s)}
        return answer(error.status, error.message, wait)

    @app.exception_handler(HTTPException)
    async def without_route(request: Request, error: HTTPException) -> Response:
        return answer(error.status_code, f"{request.method} {request.url.path[:200]}: {error.detail}", error.headers)

    @app.exception_handler(RequestValidationError)
    async def invalid(request: Request, error: RequestValidationError) -> Response:
        return answer(400, explain_first(error.errors()))

    @app.exception_handler(ClientDisconnect)
    async def gone(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=499)

    @app.exception_handler(Exception)
    async def defect(request: Request, error: Exception) -> Response:
        return answer(500, f"a defect of the server; please report it with request id {request.state.request_id}")


def _add_status(app: FastAPI, service: Service) -> None:
    @app.get("/health/live")
    async def live() -> Response:
        """Whether the process answers."""
        return JSONResponse({"live": True})

    @app.get("/health/ready")
    async def ready() -> Response:
        """Whether every model has predicted an image."""
        return JSONResponse({"ready": service.ready}, 200 if service.ready else 503)

    @app.get("/metrics", response_class=PlainTextResponse)
    async def metrics() -> Response:
        """Metrics in Prometheus' text format."""
        return Response(generate_latest(service.metrics.registry), media_type="text/plain; version=0.0.4")

    @app.get("/models")
    async def models() -> Response:
        """The models with their classes, scores and inputs."""
        return JSONResponse([engine.model.card() for engine in service.engines.values()])


def _add_page(app: FastAPI, service: Service) -> None:
    page = {file.name: file.read_bytes() for file in (files("pyramidseg.report") / "photo_page").iterdir()}

    @app.get("/", responses=_answers(["text/html"]))
    async def root(request: Request) -> Response:
        """The page for browsers, the status for others."""
        if "text/html" in request.headers.get("accept", ""):
            return Response(page["index.html"], media_type="text/html")
        return JSONResponse({**label_studio_backend.STATUS, "models": list(service.engines)})

    @app.get("/page/{name}", response_class=Response, responses=_answers(MEDIA_TYPES.values()))
    async def page_file(name: str) -> Response:
        """A file of the page."""
        if name not in page:
            raise Refused(404, f"/page/{name[:80]}: no such file")
        return Response(page[name], media_type=MEDIA_TYPES.get(name.rpartition(".")[2], "application/octet-stream"))


def _add_segment(app: FastAPI, service: Service, urls: AllowedUrls) -> None:
    media_types = [form.media_type for form in FORMATS.values()]

    @app.post("/segment", openapi_extra={"requestBody": _REQUEST}, responses=_answers(media_types))
    async def segment(
        request: Request, model: str | None = None, format: FormatName | None = None, include: str = "labels"
    ) -> Response:
        """Segment one image: the body itself, the multipart field `image`, or base64 or a URL in JSON."""
        started = time.monotonic()
        form = FORMATS[format or format_for(request.headers.get("accept", "*/*"))]
        names = [name.strip() for name in include.split(",") if name.strip()]
        if unknown := [name for name in names if name not in INCLUDES]:
            raise Refused(400, f"include={unknown[0][:40]}: unknown; possible are {', '.join(INCLUDES)}")
        options = form.options
        if form is FORMATS["json"] and "confidence" in names:
            options = options._replace(confidence=True)
        with service.admission.admit() as held:
            engine = service.engine(model)
            content = await image_in_body(await service.read_body(request, held), request.headers)

            async def work() -> bytes:
                nonlocal content
                if isinstance(content, str):
                    content = await asyncio.to_thread(urls.fetch, content)
                    held.add(len(content))
                found = await engine.predict(content, options, held)
                answer = Answer(found, found.found, engine.name, names, request.state.request_id, started)
                return await service.encode(form.encode, answer)

            return Response(await service.finish(request, work()), media_type=form.media_type)


class _InMemory(MultiPartParser):
    """Keeps the parts in memory, where the default writes those of more than a megabyte to disk."""

    spool_max_size = sys.maxsize


class _ImageDocument(BaseModel):
    image: Base64Bytes = b""
    url: str = ""


async def image_in_body(body: bytes, headers: Headers) -> bytes | str:
    """The encoded image in a body, by its content type, or its URL.

    Raises:
        Refused: 400, there is none.
    """
    kind, content = headers.get("content-type", "").partition(";")[0].strip().lower(), cast(bytes | str, body)
    if kind == "application/json":
        document = parse_json(_ImageDocument, body)
        if document.image and document.url:
            raise Refused(400, "the request has both image and url: send one of them")
        content = document.image or document.url
    elif kind == "multipart/form-data":
        try:
            form = await _InMemory(headers, _stream(body), max_files=1, max_fields=8).parse()
        except (MultiPartException, KeyError, ValueError) as error:
            raise Refused(400, f"the multipart body cannot be read: {str(error)[:200]}") from None
        found = form.get("image")
        content = await found.read() if isinstance(found, UploadFile) else b""
        await form.close()
        if not content:
            raise Refused(400, f"the form has no file named image, only {', '.join(form)[:200] or 'nothing'}")
    if not content:
        raise Refused(400, "the request has no image: send the file as the body, or as the multipart field image")
    return content


async def _stream(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
