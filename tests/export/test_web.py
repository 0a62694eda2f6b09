"""`pyramidseg export --format web` from end to end: its check in Chromium, and its pages as people open them.

With the runtime's package in the cache folder (docs/export.md); what needs it is skipped without: no test downloads.
"""

import dataclasses
import functools
import io
import json
import shutil
import threading
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import pixel_samples
from chromium import CHROMIUM, Chromium, Tab
from pyramidseg.base.errors import DeviceError
from pyramidseg.base.remote_files import cache_folder
from pyramidseg.cli.main import main
from pyramidseg.export import web, web_runtime
from pyramidseg.export.export_model import export_model
from pyramidseg.export.parity import Parity
from pyramidseg.export.samples import synthetic_samples
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.predictor import Predictor


def package() -> Path | None:
    """The runtime's package in the user's cache, which tests do not use otherwise."""
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PYRAMIDSEG_CACHE")
        folder = cache_folder()
    return None if folder is None or not (folder / web_runtime.PACKAGE).is_file() else folder / web_runtime.PACKAGE


needs_chromium = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
needs_runtime = pytest.mark.skipif(
    CHROMIUM is None or package() is None, reason=f"Chromium, or {web_runtime.PACKAGE} in the cache folder, is missing"
)


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


@pytest.fixture(autouse=True, scope="module")
def runtime_read_once() -> Iterator[None]:
    """Each reading unpacks the whole package, twice an export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(web, "runtime_files", functools.cache(web_runtime.runtime_files))
        yield


@pytest.fixture(scope="module")
def pages(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Both forms of the bundle's page, with tiles of 192 pixels; not to be changed."""
    kept = package()
    assert kept is not None
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYRAMIDSEG_CACHE", str(kept.parent))
        patch.setattr(web, "tiles", lambda segmenter: {"tile": 192, "overlap": 64, "margin": 24})
        folder = tmp_path_factory.mktemp("site")
        first = export_model(bundle, format="web", out=folder / "site")
        assert first.path is not None, first.parity
        patch.setattr(web, "check_page", lambda page, segmenter, samples: first.parity)  # of the same scripts
        second = export_model(bundle, format="web", out=folder / "one.html")
        made = {"folder": first.path, "file": second.path}
    return made


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture
def tab(browser: Chromium) -> Iterator[Tab]:
    with browser.tab() as tab:
        tab.reset()
        yield tab
        assert [event["params"] for event in tab.events if event["method"] == "Runtime.exceptionThrown"] == []


class Handler(SimpleHTTPRequestHandler):
    isolated = False

    def log_message(self, *arguments: object) -> None: ...

    def end_headers(self) -> None:
        if self.isolated:
            self.send_header("Cross-Origin-Opener-Policy", "same-origin")
            self.send_header("Cross-Origin-Embedder-Policy", "require-corp")
        super().end_headers()


@pytest.fixture
def served(pages: dict[str, Path]) -> Iterator[str]:
    """The address of the folder on a plain server."""
    handler = functools.partial(Handler, directory=str(pages["folder"].parent))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()


def open_page(tab: Tab, address: str) -> None:
    tab.send("Page.navigate", url=address)
    ready = "document.getElementById('show-card')?.disabled === false"
    tab.wait(f"{ready} || document.getElementById('refusal')?.hidden === false", seconds=60)
    assert tab.evaluate(ready), tab.text("#refusal-text")


def segmented(tab: Tab, *files: Path) -> None:
    tab.choose("#files", *files)
    tab.wait(
        f"document.querySelectorAll('.thumbnail:is([data-status=done], [data-status=failed])').length >= {len(files)}",
        seconds=90,
    )
    tab.wait("!document.getElementById('save-mask').disabled || !document.getElementById('refusal').hidden")


def labels_of(tab: Tab, content: bytes) -> np.ndarray:
    """By the page's function for other scripts."""
    text = json.dumps(list(content))
    png = tab.evaluate(f"pyramidseg.segment(new Blob([Uint8Array.from({text})])).then(({{labels}}) => [...labels])")
    return np.asarray(Image.open(io.BytesIO(bytes(png))))


def photo(path: Path, size: tuple[int, int], seed: int = 0) -> Path:
    noise = np.random.default_rng(seed).integers(0, 256, (size[0] // 8 + 1, size[1] // 8 + 1, 3), np.uint8)
    Image.fromarray(noise).resize((size[1], size[0]), Image.Resampling.BICUBIC).save(
        path, exif=b"Exif\0\0" + pixel_samples.exif(6)
    )
    return path


@needs_runtime
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_page_is_checked_and_complete(pages: dict[str, Path], form: str) -> None:
    page = pages[form]
    report = json.loads(page.with_name(f"{page.name}.parity.json").read_text())
    assert report["parity"]["passed"] is True
    assert report["parity"]["agreement"] > 0.9999
    assert "onnxruntime-web" in report["parity"]["runtime"]
    names = {file.name for file in page.parent.iterdir()}
    if form == "folder":
        assert names == {
            "LICENSES.txt",
            "engine.js",
            "index.html",
            "index.html.parity.json",
            "model.onnx",
            "ort.mjs",
            "ort.wasm",
        }
    else:
        assert {name for name in names if not name.startswith("site")} == {"one.html", "one.html.parity.json"}
    text = page.read_text(encoding="utf-8")
    assert "src=" not in text.split("<script")[0].replace('src="data:', "")  # nothing is loaded from elsewhere
    assert "Permission is hereby granted" in (
        page.with_name("LICENSES.txt").read_text() if form == "folder" else web._text("LICENSES.txt")
    )


@needs_runtime
@pytest.mark.parametrize("form", ["folder", "file"])
def test_a_page_segments_photos_as_the_bundle_does(
    pages: dict[str, Path], served: str, tab: Tab, bundle: Path, tmp_path: Path, form: str
) -> None:
    """The folder on a server, and the file by double click; a photo that is turned, whole and in tiles."""
    open_page(tab, served if form == "folder" else pages["file"].as_uri())
    predictor = Predictor(bundle, backend="torch", device="cpu", tile_px=192, overlap_px=64)
    for size in ((90, 120), (150, 333)):
        content = photo(tmp_path / "photo.jpg", size).read_bytes()
        found, expected = labels_of(tab, content), predictor.predict(content).labels
        assert found.shape == expected.shape == size[::-1]
        assert (found == expected).mean() > 0.9995
    segmented(tab, photo(tmp_path / "a.jpg", (90, 120)))
    shares = tab.evaluate("[...document.querySelectorAll('#legend .share')].map((e) => parseFloat(e.textContent))")
    expected = predictor.predict(tmp_path / "a.jpg").shares()
    assert shares[0] == pytest.approx(100 * max(expected.values()), abs=0.1)
    tab.click("#show-card")
    card = tab.text("#card")
    assert "100.00 % of the pixels of the stored sample get their label" in card
    assert "as in Python" in card
    requested = [
        event["params"]["request"]["url"] for event in tab.events if event["method"] == "Network.requestWillBeSent"
    ]
    assert all(url.startswith((served, "file:", "blob:", "data:")) for url in requested)


@needs_runtime
def test_threads_where_the_page_is_isolated(
    pages: dict[str, Path], served: str, tab: Tab, monkeypatch: pytest.MonkeyPatch
) -> None:
    open_page(tab, served)
    assert tab.evaluate("pyramidseg.ready().then(({threads}) => [crossOriginIsolated, threads])") == [False, 1]
    monkeypatch.setattr(Handler, "isolated", True)
    open_page(tab, f"{served}?isolated")  # another address: not the page in the browser's cache
    isolated, threads, agreement = tab.evaluate(
        "pyramidseg.ready().then((r) => [crossOriginIsolated, r.threads, r.agreement])"
    )
    assert isolated is True
    assert threads == min(8, tab.evaluate("navigator.hardwareConcurrency"))
    assert agreement == 1


WASM_MEMORY = """
const memories = [];
WebAssembly.Memory = class extends WebAssembly.Memory {
  constructor(...limits) {
    super(...limits);
    memories.push(this);
  }
};
const channel = new BroadcastChannel("memory");
channel.onmessage = () => channel.postMessage(memories.map((memory) => memory.buffer.byteLength));
"""
"""Makes the worker tell its memories of WebAssembly."""


@needs_runtime
def test_memory_stays_bounded_over_many_photos(pages: dict[str, Path], tab: Tab, tmp_path: Path) -> None:
    """Of different sizes; the memory of WebAssembly, which never shrinks, no longer grows after the first 50."""
    site = tmp_path / "site"
    shutil.copytree(pages["folder"].parent, site)
    (site / "engine.js").write_text(WASM_MEMORY + (site / "engine.js").read_text())
    sizes = [(40 + 31 * number % 200, 60 + 47 * number % 230) for number in range(200)]
    photos = [photo(tmp_path / f"{number}.jpg", size, number) for number, size in enumerate(sizes)]
    ask = "new Promise((resolve) => { const channel = new BroadcastChannel('memory'); channel.onmessage = "
    ask += "({data}) => { channel.close(); resolve(data); }; channel.postMessage('how much'); })"
    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        open_page(tab, f"http://127.0.0.1:{server.server_port}/")
        segmented(tab, *photos[:50])
        before = tab.evaluate(ask)
        tab.choose("#files", *photos[50:])
        tab.wait("document.querySelectorAll('.thumbnail[data-status=done]').length === 200", seconds=90)
        assert max(before) >= 2**24  # the runtime's; a smaller one shows it whether there are threads
        assert tab.evaluate(ask) == before
        assert tab.evaluate("performance.memory.usedJSHeapSize") < 60e6
        server.shutdown()


@needs_runtime
def test_an_error_is_a_sentence_and_the_next_image_works(served: str, tab: Tab, tmp_path: Path) -> None:
    open_page(tab, served)
    (tmp_path / "a.gif").write_bytes(b"GIF89a" + bytes(40))
    (tmp_path / "deep.png").write_bytes(pixel_samples.deep(pixel_samples.pattern(20, 30, 3)))
    for name, words in (("a.gif", "This page reads JPEG, PNG and WebP files."), ("deep.png", "was exported for uint8")):
        segmented(tab, tmp_path / name)
        assert words in tab.text("#refusal-text")
        tab.click("#remove")
    segmented(tab, photo(tmp_path / "a.jpg", (60, 70)))
    assert tab.evaluate("document.querySelectorAll('.thumbnail[data-status=done]').length") == 1


@needs_runtime
def test_a_browser_that_computes_something_else_is_reported(
    pages: dict[str, Path], served: str, tab: Tab, tmp_path: Path
) -> None:
    site = tmp_path / "site"
    shutil.copytree(pages["folder"].parent, site)
    engine = (site / "engine.js").read_text()
    (site / "engine.js").write_text(
        engine.replace("if (values[k] > values[best]) best = k;", "if (values[k] < values[best]) best = k;").replace(
            "below > -Infinity", "true"
        )
    )
    handler = functools.partial(Handler, directory=str(site))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        open_page(tab, f"http://127.0.0.1:{server.server_port}/")
        assert "This browser computes something else than the model" in tab.text(".warning")
        server.shutdown()


@needs_runtime
def test_a_folder_by_double_click_names_the_two_ways(pages: dict[str, Path], tab: Tab) -> None:
    tab.send("Page.navigate", url=pages["folder"].as_uri())
    tab.wait("document.getElementById('refusal')?.hidden === false")
    assert "python -m http.server" in tab.text("#refusal-text")
    assert "--out NAME.html" in tab.text("#refusal-text")


# ---- what is refused, and leaves nothing


def test_without_a_browser_or_another_device_there_is_one_line(
    bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    for arguments, words in (((), "install it (apt-get install chromium)"), (("--device", "cuda"), "leave it out")):
        assert run("export", bundle, "--format", "web", "--out", tmp_path / "site", *arguments) == 2
        error = capsys.readouterr().err
        assert words in error
        assert error.count("\n") == 1
    assert list(tmp_path.iterdir()) == []


@needs_runtime
@pytest.mark.parametrize(
    ("text", "other"),
    [
        ("above / below + 1 - cell", "1 - (above / below + 1 - cell)"),  # labels
        ("bits === 8) return passes", "bits === 8) return passes[0].values.fill(7), passes"),  # pixels
        ("const input = new ort.Tensor", 'throw new Error("out of order");'),
    ],
)
def test_a_page_that_does_something_else_is_noticed(
    pages: dict[str, Path], bundle: Path, tmp_path: Path, text: str, other: str
) -> None:
    shutil.copytree(pages["folder"].parent, tmp_path / "site")
    engine = (tmp_path / "site" / "engine.js").read_text()
    assert text in engine
    (tmp_path / "site" / "engine.js").write_text(engine.replace(text, other))
    model = Segmenter.load(bundle)
    samples = synthetic_samples(model, "uint8")
    samples = dataclasses.replace(samples, whole=lambda: iter(()), crops=samples.crops[3:5])
    check = functools.partial(web.check_page, tmp_path / "site" / "index.html", model, samples)
    if "cell" in text:
        assert "of the pixels keep their label, 99.99% are needed" in check().findings()[0]
        return
    words = (
        "it reads pixels that differ from Python's by up to"
        if "bits" in text
        else "The computation failed: out of order"
    )
    with pytest.raises(DeviceError, match=words):
        check()


@needs_runtime
def test_files_of_others_are_not_replaced_and_nothing_is_left_of_a_page_that_fails(
    pages: dict[str, Path],
    bundle: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("PYRAMIDSEG_CACHE", str(package().parent))  # type: ignore[union-attr]
    stored = json.loads(pages["folder"].with_name("index.html.parity.json").read_text())["parity"]
    known = {field.name: stored[field.name] for field in dataclasses.fields(Parity)}
    found = Parity(**known | {"agreement": 0.5, "clear_agreement": 1.0, "largest_difference": 0.0})
    monkeypatch.setattr(web, "check_page", lambda page, segmenter, samples: found)
    foreign = tmp_path / "mine"
    foreign.mkdir()
    (foreign / "model.onnx").write_bytes(b"a thesis")
    assert run("export", bundle, "--format", "web", "--out", foreign) == 2
    assert "model.onnx: exists and was not exported by pyramidseg" in capsys.readouterr().err
    assert (foreign / "model.onnx").read_bytes() == b"a thesis"
    (tmp_path / "my.html").write_text("<p>mine")
    assert run("export", bundle, "--format", "web", "--out", tmp_path / "my.html") == 2
    assert (tmp_path / "my.html").read_text() == "<p>mine"

    site = tmp_path / "site"
    shutil.copytree(pages["folder"].parent, site)
    (site / "mine.txt").write_text("mine")
    before = {file.name: file.read_bytes() for file in site.iterdir()}
    assert run("export", bundle, "--format", "web", "--out", site) == 3
    assert {file.name: file.read_bytes() for file in site.iterdir()} == before
    monkeypatch.setattr(web, "check_page", lambda page, segmenter, samples: dataclasses.replace(found, agreement=1.0))
    assert run("export", bundle, "--format", "web", "--out", site) == 0
    assert {file.name for file in site.iterdir()} == set(before)
    assert (site / "mine.txt").read_text() == "mine"


def test_models_of_other_channels_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none", in_channels=5)
    model.save(tmp_path / "five.safetensors")
    assert run("export", tmp_path / "five.safetensors", "--format", "web") == 2
    assert "the model takes channels 5; browsers read images of 1, 3 or 4" in capsys.readouterr().err
