"""A stand-in for the server: the page's files and the two requests that the page makes, with made results."""

import base64
import io
import json
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

import pyramidseg

FOLDER = Path(pyramidseg.__file__).parent / "report" / "photo_page"

CONTENT_TYPES = {
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
}

HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}

CLASSES = [
    {"index": 0, "name": "sky", "color": [110, 180, 235]},
    {"index": 1, "name": "road", "color": [95, 75, 125]},
    {"index": 2, "name": "<b>tree</b>", "color": [70, 150, 60]},
    {"index": 3, "name": "car", "color": [230, 60, 40]},
    {"index": 4, "name": "person", "color": [245, 190, 50]},
]
"""Class 2 has a name that is markup; class 4 never occurs."""

MODELS = [
    {
        "name": "street",
        "classes": CLASSES,
        "scores": {
            "miou": 0.7312,
            "classes": [{"id": 0, "name": "sky", "iou": 0.91}, {"id": 2, "name": "<b>tree</b>", "iou": 0.5529}],
            "speed": {"images_per_second": 12.5},
        },
        "input": {"channels": 3, "dtype": "uint8", "range": [0, 255]},
        "digest": "sha256:0123456789abcdef",
    },
    {"name": "street-small", "classes": CLASSES, "scores": {}, "input": {"channels": 3}, "digest": "sha256:fedcba"},
]

Labels = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]


def quarters(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Classes 0 and 1 in the upper half, 2 and 3 in the lower; without a class (255) in the first pixel."""
    height, width = image.shape[:2]
    labels = np.uint8(2) * (np.arange(height) >= height // 2)[:, None] + (np.arange(width) >= width // 2)[None]
    labels[0, 0] = 255
    return labels.astype(np.uint8)


def _card(model: dict[str, Any]) -> dict[str, Any]:
    """As /models describes it: the place of a class is its index."""
    return {**model, "classes": [{"name": one["name"], "color": one["color"]} for one in model["classes"]]}


def base64_png(values: NDArray[np.uint8]) -> str:
    buffer = io.BytesIO()
    Image.fromarray(values).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


class PageServer:
    """Serves the page on loopback until it is closed.

    Attributes:
        answers: answers to the next requests to segment, before real ones: (status, headers, JSON object).
        requests: (model, content type, body, authorization) of each request to segment.
        token: needed for /models and /segment; none if empty.
        delay_s: of each result.
    """

    def __init__(self, *, models: list[dict[str, Any]] = MODELS, labels: Labels = quarters) -> None:
        self.models, self.labels = models, labels
        self.reset()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *arguments: object) -> None: ...

            def do_GET(self) -> None:
                server.get(self)

            def do_POST(self) -> None:
                server.post(self)

        self._http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._http.server_port}/"

    def reset(self) -> None:
        self.answers: list[tuple[int, dict[str, str], dict[str, Any]]] = []
        self.requests: list[tuple[str, str, bytes, str]] = []
        self.token, self.delay_s = "", 0.0

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def get(self, request: BaseHTTPRequestHandler) -> None:
        path = urlsplit(request.path).path
        if path == "/models":
            if self._authorized(request):
                self._send_json(request, 200, [_card(model) for model in self.models])
            return
        name = "index.html" if path == "/" else path.removeprefix("/page/")
        if name not in {file.name for file in FOLDER.iterdir()}:
            self._send_json(request, 404, {"error": f"{path}: not found"})
            return
        file = FOLDER / name
        self._send(request, 200, {"Content-Type": CONTENT_TYPES[file.suffix]}, file.read_bytes())

    def post(self, request: BaseHTTPRequestHandler) -> None:
        body = request.rfile.read(int(request.headers["Content-Length"]))
        if not self._authorized(request):
            return
        query = parse_qs(urlsplit(request.path).query)
        headers = request.headers
        self.requests.append((query["model"][0], headers["Content-Type"], body, headers.get("Authorization", "")))
        assert query["format"] == ["json"]
        assert query["include"] == ["labels,confidence,polygons"]
        time.sleep(self.delay_s)
        if self.answers:
            status, extra, content = self.answers.pop(0)
            self._send_json(request, status, content, extra)
            return
        try:
            image = np.asarray(ImageOps.exif_transpose(Image.open(io.BytesIO(body))).convert("RGB"))
        except UnidentifiedImageError:
            self._send_json(
                request, 400, {"error": "body: not an image <i>that</i> can be decoded", "request_id": "r-7"}
            )
            return
        self._send_json(request, 200, self.result(image, query["model"][0]))

    def result(self, image: NDArray[np.uint8], model: str) -> dict[str, Any]:
        labels = self.labels(image)
        height, width = labels.shape
        classes = next(entry["classes"] for entry in self.models if entry["name"] == model)
        ramp = np.broadcast_to(np.linspace(0, 255, width).astype(np.uint8), labels.shape)
        box = [[0, 0], [width // 2, 0], [width // 2, height // 2], [0, height // 2]]
        hole = [[4, 4], [4, 9], [9, 9], [4, 4]]
        return {
            "model": model,
            "width": width,
            "height": height,
            "classes": [{**entry, "share": float((labels == entry["index"]).mean())} for entry in classes],
            "labels_png": base64_png(labels),
            "confidence_png": base64_png(ramp),
            "polygons": [{"class": 0, "rings": [box]}, {"class": 3, "rings": [[*box, box[0]], hole]}],
            "seconds": width / 512,
            "request_id": "r-1",
        }

    def _authorized(self, request: BaseHTTPRequestHandler) -> bool:
        if not self.token or request.headers.get("Authorization") == f"Bearer {self.token}":
            return True
        self._send_json(request, 401, {"error": "a token is needed"}, {"WWW-Authenticate": "Bearer"})
        return False

    def _send_json(
        self, request: BaseHTTPRequestHandler, status: int, content: object, headers: dict[str, str] | None = None
    ) -> None:
        body = json.dumps(content).encode()
        self._send(request, status, {"Content-Type": "application/json", **(headers or {})}, body)

    def _send(self, request: BaseHTTPRequestHandler, status: int, headers: dict[str, str], body: bytes) -> None:
        request.send_response(status)
        for name, value in {**headers, **HEADERS}.items():
            request.send_header(name, value)
        request.send_header("Content-Length", str(len(body)))
        request.end_headers()
        request.wfile.write(body)
