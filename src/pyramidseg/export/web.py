"""A web page that segments images in the browser: a folder for a web server, or one HTML file that opens by itself.

The page is the server's (`report/photo_page`), whose requests are answered by a worker with ONNX Runtime Web (`page`).
Before it is published, headless Chromium opens it from a server on this machine, and segments the samples as PNG files.
"""

import gzip
import json
import os
import re
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.export import ExportedProgram

from pyramidseg.backends.metadata import COARSE, ExportMetadata, Program
from pyramidseg.backends.onnx_backend import prune_outputs
from pyramidseg.base.errors import ConfigError, DeviceError
from pyramidseg.base.text import base64_text
from pyramidseg.export import onnx_format
from pyramidseg.export.parity import Parity, check_parity
from pyramidseg.export.program_file import OnnxProgramFile
from pyramidseg.export.samples import Sample, Samples, synthetic_samples, windows
from pyramidseg.export.web_runtime import VERSION, runtime_files
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.input_images import load_image
from pyramidseg.predict.outputs.output_writers import encode_png
from pyramidseg.predict.tile_planner import bytes_per_pixel, default_overlap, margin_within, receptive_field_px
from pyramidseg.predict.tiling import GRID_PX

if TYPE_CHECKING:
    import onnx

MODEL, INDEX = "model.onnx", "index.html"

BGR = {1: [0], 3: [2, 1, 0], 4: [2, 1, 0, 3]}
"""OpenCV's order of the channels that files of images for browsers have, by their number."""

ENGINE = ("decoding", "image_files", "tiles", "label_maps", "engine")
PAGE = ("elements", "decoding", "viewer", "legend", "downloads", "requests", "dialogs", "page")
"""The modules of the worker and of the page, in the order in which they use each other."""

TILE_BYTES, MIN_TILE_PX, LARGEST_TILE_PX = 2**29, 256, 1440
"""Memory of a tile, and its side: a browser has 4 GiB at most, and phones much less."""

LARGEST_EMBEDDED = 2**28
"""Bytes of a file in an HTML file: browsers limit the length of a text to about 500 million characters."""

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable", "chrome", "msedge")

PATIENCE_S = 600
"""Longest time for one image."""


def page_path(file: Path, out: str | Path | None) -> Path:
    """The HTML file to write instead of an ONNX file: `out` if it is one, else the index of a folder."""
    if out is None:
        return file.with_name(f"{file.stem}-web") / INDEX
    if Path(out).name == INDEX:
        raise ConfigError(
            f"`out={out}`: give the folder, `out={Path(out).parent}`, or one file another name than {INDEX}"
        )
    if Path(out).suffix == ".htm":
        raise ConfigError(f"`out={out}`: give one file the suffix .html, or a folder another one")
    return Path(out) if Path(out).suffix == ".html" else Path(out) / INDEX


def check_possible(segmenter: Segmenter) -> None:
    """Check that a model takes images of browsers, and that the runtime and a browser for the check are there.

    Raises:
        ConfigError, DataError: they are not.
    """
    if (channels := segmenter.settings.channels) not in BGR:
        raise ConfigError(f"`format=web`: the model takes channels {channels}; browsers read images of 1, 3 or 4")
    find_browser()
    runtime_files()


class Page(NamedTuple):
    """What a page is written from, besides its metadata: the model, and what its scripts know of it."""

    model: "onnx.ModelProto"
    known: Mapping[str, Any]


def convert(program: ExportedProgram, segmenter: Segmenter, input_dtype: str) -> Page:
    """Convert a program."""
    content = onnx_format.to_onnx(program)
    prune_outputs(content, (COARSE,))
    return Page(content, {"tiles": tiles(segmenter), "sample": _sample(segmenter, image_dtype(input_dtype))})


def tiles(segmenter: Segmenter) -> dict[str, int]:
    """Side, overlap and margin of the tiles of large images, as `TilePlanner` has them for such a side."""
    fits = int((TILE_BYTES / bytes_per_pixel(segmenter.settings, len(segmenter.classes))) ** 0.5) // GRID_PX * GRID_PX
    side, reach = min(max(fits, MIN_TILE_PX), LARGEST_TILE_PX), receptive_field_px(segmenter.settings)
    overlap = default_overlap(side, reach)
    return {"tile": side, "overlap": overlap, "margin": margin_within(overlap, reach)}


@torch.inference_mode()
def _sample(segmenter: Segmenter, dtype: str) -> dict[str, str]:
    """A scene and its label map, with which the page checks its runtime."""
    scene = synthetic_samples(segmenter, dtype).crops[-2]
    labels = segmenter(scene).argmax(1)[0].to(torch.uint8).numpy()
    return {"file": base64_text(_png(scene[0])), "labels": base64_text(encode_png(labels))}


def image_dtype(input_dtype: str) -> str:
    """The type of synthetic image files for a page."""
    return "uint16" if input_dtype == "uint16" else "uint8"


def _png(image_CHW: Tensor) -> bytes:
    return cv2.imencode(".png", image_CHW.permute(1, 2, 0).numpy()[..., BGR[len(image_CHW)]])[1].tobytes()


def _text(name: str) -> str:
    own = files("pyramidseg") / "export" / "page" / name
    return (own if own.is_file() else files("pyramidseg.report") / "photo_page" / name).read_text(encoding="utf-8")


def _script(names: tuple[str, ...]) -> str:
    """Modules as one: nothing is imported or exported."""
    text = "\n".join(_text(f"{name}.js") for name in names)
    return re.sub(r"^(import .*;\n|export )", "", text, flags=re.MULTILINE)


def _html(known: Mapping[str, Any], embedded: list[Path]) -> str:
    """The server's page with all that it loads in it, and data: what its scripts know, and files (gzip, base64)."""
    known_json = json.dumps(known).replace("<", "\\u003c")
    data = f'<script type="application/json" id="settings">{known_json}</script>\n'
    for file in embedded:
        if (size := file.stat().st_size) > LARGEST_EMBEDDED:
            raise ConfigError(f"`out`: {file.name} ({size >> 20} MiB) does not fit into an HTML file; use `out=DIR`")
        packed = base64_text(gzip.compress(file.read_bytes(), mtime=0))
        data += f'<script type="text/plain" id="{file.name}">{packed}</script>\n'
    html = _text("index.html").replace(
        "page/icon.svg", f"data:image/svg+xml;base64,{base64_text(_text('icon.svg').encode())}"
    )
    start, _, end = html.partition('<link rel="stylesheet" href="page/page.css">')
    start, end = start.replace("<meta ", _text("head.html") + "  <meta ", 1), end.partition("</script>")[2]
    styles = f"<style>{_text('page.css')}{_text('web.css')}</style>"
    body = f'{data}<script type="module">\n{_script(PAGE)}</script>\n</body>'
    return start + styles + end.replace("</body>", body)


class PageFile(OnnxProgramFile):
    """A page in a browser, whose model is next to it; gives the labels of images, which it gets as PNG files."""

    name, format = f"onnxruntime-web {VERSION}", "web"
    graphs: ClassVar[Mapping[str, str]] = {"fp32": "fp32", "fp16": "fp16"}

    @classmethod
    def save(cls, content: Page, path: Path, metadata: ExportMetadata) -> None:
        """Write a page and, next to it, its files."""
        OnnxProgramFile.save(content.model, path.with_name(MODEL), metadata)
        texts = {"engine.js": _script(ENGINE), "LICENSES.txt": _text("LICENSES.txt")}
        assets = {**runtime_files(), **{name: text.encode() for name, text in texts.items()}}
        for name, asset in assets.items():
            path.with_name(name).write_bytes(asset)
        pixels = json.loads(_text("pixels.json"))
        known = {"metadata": metadata.to_strings(), "pixels": pixels, "runtime": VERSION, **content.known}
        embedded = () if path.name == INDEX else (MODEL, *assets)
        path.write_text(_html(known, [path.with_name(name) for name in embedded]), encoding="utf-8")

    @classmethod
    def files(cls, path: Path) -> tuple[Path, ...]:
        others = (MODEL, "ort.wasm", "ort.mjs", "engine.js", "LICENSES.txt") if path.name == INDEX else ()
        return (*map(path.with_name, others), path)

    def __init__(self, page: Path, segment: Callable[[bytes], bytes]) -> None:
        super().__init__(page.with_name(MODEL), Program(COARSE))
        self.own, self.place, self.segment = "labels", "cpu in Chromium", segment

    def output(self, images: Tensor) -> Tensor:
        """Labels (B, H, W)."""
        if images.dtype not in (torch.uint8, torch.uint16):
            raise ConfigError("`format=web`: the images of `check` are not of 8 or 16 bits, as those of browsers are")
        labels = [load_image(self.segment(_png(image)), channels=1)[..., 0] for image in images]
        return torch.from_numpy(np.stack(labels))


def check_page(page: Path, segmenter: Segmenter, samples: Samples) -> Parity:
    """Compare a page with its bundle; images that are larger than its tiles in windows of a tile.

    Raises:
        DeviceError: the browser does not answer, or the page fails in it or reads other pixels than Python.
    """
    side = tiles(segmenter)["tile"]

    def whole() -> Iterator[Sample]:
        for images, labels in samples.whole():
            yield from windows(images, labels, side)

    with _browser(page) as segment:
        backend = PageFile(page, segment)
        found = check_parity(backend, segmenter, replace(samples, whole=whole), predicting=backend)
    return replace(found, largest_difference=float("nan"))


@contextmanager
def _browser(page: Path) -> Iterator[Callable[[bytes], bytes]]:
    """Headless Chromium with a page and the script of its check: sends it a file, and returns its answer."""
    sent, answers = SimpleQueue[bytes](), SimpleQueue[tuple[str, bytes]]()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, format: str, *arguments: object) -> None: ...

        def do_POST(self) -> None:
            """Takes the answer to the last file, and gives the next one."""
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.path != "/first":
                answers.put((body.decode() if self.path == "/error" else "", body))
            content = sent.get()
            with suppress(OSError):  # the browser has ended
                self.send_response(200)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

    def segment(content: bytes) -> bytes:
        sent.put(content)
        try:
            error, answer = answers.get(timeout=PATIENCE_S)
        except Empty:
            error, answer = f"no answer for {PATIENCE_S} s", b""
        if error:
            raise DeviceError(f"`format=web`: the page failed in Chromium: {error}")
        return answer

    check = page.with_name("check.html")
    check.write_bytes(page.read_bytes() + f'<script type="module">{_text("check.js")}</script>'.encode())
    flags = ["--headless", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-proxy-server"]
    flags += ["--no-sandbox"] if getattr(os, "geteuid", lambda: 1)() == 0 else []  # root cannot have one
    handler = partial(Handler, directory=str(page.parent))
    with (
        tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile,
        ThreadingHTTPServer(("127.0.0.1", 0), handler) as server,
        ExitStack() as closing,
    ):
        address = f"http://127.0.0.1:{server.server_port}/{check.name}"
        command = [find_browser(), *flags, f"--user-data-dir={profile}", address]
        if os.name == "posix":  # the browser ends when these pipes do: with this process, however that ends
            command = ["sh", "-c", 'exec "$0" "$@" 3<&0 4>&1', *command, "--remote-debugging-pipe"]
        pipe = subprocess.PIPE
        browser = subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=subprocess.DEVNULL)  # noqa: S603 - the user's
        process = closing.enter_context(browser)
        for work in (server.serve_forever, lambda: answers.put((f"it ended, status {process.wait()}", b""))):
            threading.Thread(target=work, daemon=True).start()
        try:
            yield segment
        finally:
            sent.put(b"")
            process.kill()
            server.shutdown()


def find_browser() -> str:
    """The program of Chromium, or of a browser that is made from it.

    Raises:
        ConfigError: none is found.
    """
    if found := next(filter(None, map(shutil.which, (os.environ.get("CHROME_PATH", ""), *BROWSERS))), None):
        return found
    raise ConfigError(
        "`format=web`: a page is checked in Chromium before it is written, and none is installed; install it (apt-get "
        "install chromium), or set CHROME_PATH to the program of Chromium, Chrome or Edge"
    )
