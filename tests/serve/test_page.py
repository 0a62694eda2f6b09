"""The page of the server, driven in headless Chromium as people use it."""

import io
import json
import re
import struct
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps

from chromium import CHROMIUM, Chromium, Tab
from page_server import CLASSES, FOLDER, PageServer, base64_png, quarters

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")

GREY = 200
WIDTH, HEIGHT = 64, 48

READY = "document.getElementById('show-card')?.disabled === false"
SETTLED = "!document.getElementById('save-mask').disabled"


@pytest.fixture(scope="module")
def server() -> Iterator[PageServer]:
    server = PageServer()
    yield server
    server.close()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Chromium]:
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def tab(browser: Chromium) -> Iterator[Tab]:
    with browser.tab() as tab:
        yield tab


@pytest.fixture
def page(server: PageServer, tab: Tab) -> Iterator[Tab]:
    """The page, loaded again; no test may leave an exception, or break the content security policy."""
    server.reset()
    tab.reset()
    tab.open(server.url, ready=READY)
    yield tab
    tab.evaluate("sessionStorage.clear()")
    assert [event["params"] for event in tab.events if event["method"] == "Runtime.exceptionThrown"] == []
    entries = [event["params"]["entry"] for event in tab.events if event["method"] == "Log.entryAdded"]
    assert [entry for entry in entries if entry["source"] in ("security", "javascript", "violation")] == []


def picture(path: Path, *, width: int = WIDTH, height: int = HEIGHT, grey: int = GREY) -> Path:
    Image.new("RGB", (width, height), (grey, grey, grey)).save(path)
    return path


def upload(page: Tab, *files: Path) -> None:
    """Choose files, and wait until all have a result and the first is shown."""
    page.choose("#files", *files)
    page.wait(f"document.querySelectorAll('.thumbnail[data-status=done]').length >= {len(files)}")
    page.wait(SETTLED)


def place(page: Tab, x: float, y: float, *, width: int = WIDTH, height: int = HEIGHT) -> tuple[float, float]:
    """Where an image pixel's centre is on the canvas while the whole image is shown."""
    box = page.box("#canvas")
    scale = min((box["width"] - 16) / width, (box["height"] - 16) / height)
    return box["width"] / 2 + (x + 0.5 - width / 2) * scale, box["height"] / 2 + (y + 0.5 - height / 2) * scale


def painted(page: Tab, x: float, y: float) -> list[int]:
    """The RGBA colour of the canvas at a point, after the next frame."""
    return page.evaluate(
        "new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(() => done([...document"
        f".getElementById('canvas').getContext('2d').getImageData(Math.floor({x}), Math.floor({y}), 1, 1).data]))))"
    )


def mixed(index: int, *, opacity: float = 0.6, grey: int = GREY) -> list[int]:
    return [round(opacity * part + (1 - opacity) * grey) for part in CLASSES[index]["color"]] + [255]


def move(page: Tab, x: float, y: float) -> None:
    box = page.box("#canvas")
    page.mouse("mouseMoved", box["left"] + x, box["top"] + y)


def close_to(found: list[int], expected: list[int]) -> bool:
    return bool(np.abs(np.subtract(found, expected)).max() <= 2)


# ---- without a browser


def test_the_page_has_no_inline_code_and_names_no_other_host() -> None:
    html = (FOLDER / "index.html").read_text(encoding="utf-8")
    assert not re.search(r"<style|\sstyle=|\son\w+=|javascript:", html)
    assert re.findall(r"<script[^>]*>(.*?)</script>", html, re.S) == [""]
    for file in FOLDER.iterdir():
        text = file.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert "//" not in re.sub(r"(^|\s)//.*", "", text), file.name
        assert not re.search(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|cssText", text
        )
    used = set(re.findall(r'(?:src|href)="page/([^"]+)"', html)) | {"index.html"}
    used |= {name for file in FOLDER.glob("*.js") for name in re.findall(r'from "\./([^"]+)"', file.read_text())}
    assert used == {file.name for file in FOLDER.iterdir()}


# ---- one image


def test_an_image_is_sent_as_it_is_and_its_classes_are_painted(page: Tab, server: PageServer, tmp_path: Path) -> None:
    file = picture(tmp_path / "grey.png")
    upload(page, file)
    assert server.requests == [("street", "image/png", file.read_bytes(), "")]
    for index, (x, y) in enumerate([(10, 10), (50, 10), (10, 40), (50, 40)]):
        assert close_to(painted(page, *place(page, x, y)), mixed(index))
    assert painted(page, *place(page, 0, 0)) == [GREY, GREY, GREY, 255]  # without a class
    assert page.text("#status") == "Segmented in 0.13 s"
    label = page.evaluate("document.getElementById('canvas').ariaLabel")
    assert label == "grey.png, 64 by 48 pixels: road 25.0 %, <b>tree</b> 25.0 %, car 25.0 %, sky 25.0 %"
    shares = page.evaluate("[...document.querySelectorAll('#legend .share')].map((e) => e.textContent)")
    assert shares == ["25.0 %", "25.0 %", "25.0 %", "25.0 %", "0.0 %"]
    requested = [event for event in page.events if event["method"] == "Network.requestWillBeSent"]
    urls = [event["params"]["request"]["url"] for event in requested]
    assert all(url.startswith((server.url, "blob:", "data:")) for url in urls), urls


def test_names_from_outside_are_text(page: Tab, server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "<img src=x onerror=alert(1)>.png"))
    page.click("#show-card")
    assert page.evaluate("document.querySelectorAll('#legend b, dialog b, nav b, img[src=x]').length") == 0
    assert "<b>tree</b>" in page.text("#legend")
    card = page.text("#card")
    assert re.search(r"miou\s+0\.731\n", card)
    assert re.search(r"images per second\s+12\.500", card)
    assert "sha256:0123456789abcdef" in card
    cells = page.evaluate(
        "[...document.querySelectorAll('#card tr')].map((r) => [...r.cells].map((c) => c.textContent))"
    )
    assert cells == [["name", "iou"], ["sky", "0.910"], ["<b>tree</b>", "0.553"]]
    assert re.search(r"range\s+0, 255", card)


def test_legend_entries_switch_classes_off_and_on(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.click("#legend li:nth-child(1) label")  # road: the largest share, as one pixel of the sky has no class
    page.mouse("mouseMoved", 5, 5)
    assert painted(page, *place(page, 50, 10)) == [GREY, GREY, GREY, 255]
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))
    page.click("#show-none")
    assert painted(page, *place(page, 10, 10)) == [GREY, GREY, GREY, 255]
    assert page.evaluate("document.querySelectorAll('#legend :checked').length") == 0
    page.click("#show-all")
    assert close_to(painted(page, *place(page, 50, 10)), mixed(1))


def test_a_class_under_the_pointer_stands_out(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    box = page.box("#legend li:nth-child(1)")
    page.mouse("mouseMoved", box["left"] + 60, box["top"] + 10)
    assert close_to(painted(page, *place(page, 50, 10)), mixed(1))
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0, opacity=0.6 * 70 / 255))


def test_opacity(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.evaluate("document.getElementById('opacity').focus()")
    page.key("End")
    assert close_to(painted(page, *place(page, 50, 40)), mixed(3, opacity=1))
    assert page.text("#opacity-value") == "100 %"
    page.key("Home")
    assert painted(page, *place(page, 50, 40)) == [GREY, GREY, GREY, 255]


def test_the_pixel_under_the_pointer_is_described(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    move(page, *place(page, 63, 40))
    assert page.text("#probe").split("\n") == ["63, 40", "car", "confidence 100 %"]
    move(page, *place(page, 32, 23))
    assert page.text("#probe").split("\n") == ["32, 23", "road", f"confidence {100 * int(255 * 32 / 63) / 255:.0f} %"]
    move(page, *place(page, 0, 0))
    assert page.text("#probe").split("\n")[:2] == ["0, 0", "no class"]
    move(page, 2, 2)
    assert page.text("#probe") == ""


def test_zoom_keeps_the_point_under_the_pointer_and_shows_each_pixel(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "large.png", width=640, height=480))
    box = page.box("#canvas")
    x, y = place(page, 320, 240, width=640, height=480)  # the first pixel of class 3
    x, y = (
        int(box["left"] + x) - box["left"],
        int(box["top"] + y) - box["top"],
    )  # events of the wheel are in whole pixels
    for _ in range(20):
        page.mouse("mouseWheel", box["left"] + x, box["top"] + y, wheel=-120)
    move(page, x, y)
    assert page.text("#probe").split("\n")[:2] == ["320, 240", "car"]
    assert page.text("#zoom-value") == "6400 %"
    fit = (box["height"] - 16) / 480
    left, top = x - 64 * (x - box["width"] / 2) / fit, y - 64 * (y - box["height"] / 2) / fit  # that pixel's corner
    move(page, left + 300, top + 200)  # with the outline of the pixel under it
    for dx, dy, index in ((1, 1, 3), (60, 60, 3), (-1, 60, 2), (60, -1, 1), (-1, -1, 0)):
        assert close_to(painted(page, left + dx, top + dy), mixed(index))
    page.drag((box["left"] + 200, box["top"] + 200), (box["left"] + 264, box["top"] + 328))
    move(page, x, y)
    assert page.text("#probe").split("\n")[0] == "319, 238"
    page.click("#zoom-fit")
    move(page, *place(page, 0, 479, width=640, height=480))
    assert page.text("#probe").split("\n")[0] == "0, 479"
    x, y = place(page, 100, 60, width=640, height=480)
    for step in (-120, -120, -120, -120, 120):
        page.mouse("mouseWheel", box["left"] + x, box["top"] + y, wheel=step)
        move(page, x, y)
        assert page.text("#probe").split("\n")[0] in ("100, 60", "99, 60", "100, 59", "99, 59")
    page.click("#zoom-pixels")
    assert page.text("#zoom-value") == "100 %"
    page.click("#zoom-in")
    assert page.text("#zoom-value") == "150 %"
    page.click("#zoom-out")
    assert page.text("#zoom-value") == "100 %"


def test_all_of_the_viewer_works_by_keyboard(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "a.png"), picture(tmp_path / "b.png"))
    page.evaluate("document.getElementById('canvas').focus()")
    page.key("ArrowRight", shift=True)
    assert page.text("#probe").split("\n")[:2] == ["33, 24", "car"]
    assert page.evaluate("document.getElementById('probe').ariaLive") == "polite"
    page.key("ArrowUp", shift=True)
    assert page.text("#probe").split("\n")[:2] == ["33, 23", "road"]
    before = page.text("#zoom-value")
    page.key("+")
    assert page.text("#zoom-value") != before
    page.key("0")
    assert page.text("#zoom-value") == before
    page.key("1")
    assert page.text("#zoom-value") == "100 %"
    page.key("0")
    page.send("Input.dispatchKeyEvent", type="keyDown", key=" ", code="Space", text=" ")
    assert painted(page, *place(page, 10, 10)) == [GREY, GREY, GREY, 255]
    page.send("Input.dispatchKeyEvent", type="keyUp", key=" ", code="Space")
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))
    page.key("PageDown")
    page.wait("document.getElementById('canvas').ariaLabel.startsWith('b.png')")
    page.key("PageUp")
    page.wait("document.getElementById('canvas').ariaLabel.startsWith('a.png')")


def test_swipe_and_side_by_side_have_a_divider(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    assert page.evaluate("document.getElementById('divider').hidden")
    page.click("input[value=swipe] + span")
    assert painted(page, *place(page, 10, 10)) == [GREY, GREY, GREY, 255]
    assert close_to(painted(page, *place(page, 50, 10)), mixed(1))
    page.evaluate("document.getElementById('divider').focus()")
    page.key("Home")
    assert page.evaluate("document.getElementById('divider').ariaValueNow") == "5"
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))
    page.click("input[value=side] + span")
    box = page.box("#divider")
    start = (box["left"] + box["width"] / 2, box["top"] + box["height"] / 2)
    stage = page.box("#canvas")
    page.drag(start, (stage["left"] + stage["width"] / 2, start[1]))
    assert page.evaluate("document.getElementById('divider').ariaValueNow") == "50"
    middle = stage["height"] / 2
    quarter = stage["width"] / 4
    assert painted(page, quarter + 20, middle + 20) == [GREY, GREY, GREY, 255]  # the photo, right of its centre
    assert close_to(painted(page, 3 * quarter + 20, middle + 20), mixed(3))
    move(page, 3 * quarter + 1, middle + 1)
    assert page.text("#probe").split("\n")[:2] == ["32, 24", "car"]
    move(page, quarter + 1, middle + 1)
    assert page.text("#probe").split("\n")[:2] == ["32, 24", "car"]


def test_confidence_view(page: Tab, server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.click("input[value=confidence] + span")
    unsure = painted(page, *place(page, 0, 20))
    sure = painted(page, *place(page, 63, 20))
    assert close_to(unsure, [round(0.6 * part + 0.4 * GREY) for part in (252, 253, 191)] + [255])
    assert close_to(sure, [round(0.6 * part + 0.4 * GREY) for part in (0, 0, 4)] + [255])
    mean = np.linspace(0, 255, WIDTH).astype(np.uint8).mean() / 255
    assert page.text("#mean-confidence") == f"mean {100 * mean:.1f} %"


# ---- downloads


def download(page: Tab, button: str, path: Path) -> bytes:
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(path.parent))
    page.click(button)
    end = time.monotonic() + 10
    while not path.exists():  # it has another name until it is complete
        assert time.monotonic() < end, f"{path.name} is not saved: {page.text('#status')}"
        time.sleep(0.02)
    return path.read_bytes()


def test_downloads(page: Tab, server: PageServer, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)
    Image.fromarray(image).save(tmp_path / "noise.png")
    upload(page, tmp_path / "noise.png")
    page.click("#legend li:nth-child(1) label")  # no road
    page.click("#zoom-in")  # what is saved does not depend on the view

    mask = np.asarray(Image.open(io.BytesIO(download(page, "#save-mask", tmp_path / "noise_mask.png"))))
    np.testing.assert_array_equal(mask, quarters(image))

    overlay = np.asarray(Image.open(io.BytesIO(download(page, "#save-overlay", tmp_path / "noise_overlay.png"))))
    expected = image.astype(float)
    for index in (0, 2, 3):
        here = quarters(image) == index
        expected[here] = 0.4 * expected[here] + 0.6 * np.array(CLASSES[index]["color"])
    assert overlay.shape == (HEIGHT, WIDTH, 4)
    np.testing.assert_allclose(overlay[..., :3], expected, atol=2)

    polygons = json.loads(download(page, "#save-polygons", tmp_path / "noise_polygons.json"))
    assert polygons["type"] == "FeatureCollection"
    assert polygons["model"] == "street"
    assert polygons["image"]["file"] == "noise.png"
    first, second = polygons["features"]
    assert first["properties"] == {"class": 0, "name": "sky", "color": [110, 180, 235]}
    outer, hole = [[0, 0], [32, 0], [32, 24], [0, 24], [0, 0]], [[4, 4], [4, 9], [9, 9], [4, 4]]
    assert first["geometry"] == {"type": "Polygon", "coordinates": [outer]}  # the server's ring is open
    assert second["properties"]["name"] == "car"
    assert second["geometry"] == {"type": "Polygon", "coordinates": [outer, hole]}  # closed ones stay as they are


# ---- several images, models


def test_images_are_processed_in_order_and_a_refused_one_stops_nothing(
    page: Tab, server: PageServer, tmp_path: Path
) -> None:
    (tmp_path / "b.txt").write_text("not an image")
    files = [picture(tmp_path / "a.png", width=512), tmp_path / "b.txt", picture(tmp_path / "c.png", grey=20)]
    page.choose("#files", *files)
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")
    assert [request[2] for request in server.requests] == [file.read_bytes() for file in files]
    names = page.evaluate("[...document.querySelectorAll('.thumbnail')].map((e) => e.innerText)")
    assert [re.sub(r"^TXT\s*", "", name) for name in names] == ["a.png, done", "b.txt, failed", "c.png, done"]
    page.wait(SETTLED)
    assert page.text("#status") == "Segmented in 0.13 s"
    page.click("li:nth-child(1) .thumbnail")
    page.wait("document.getElementById('status').textContent === 'Segmented in 1.00 s'")
    page.click("li:nth-child(2) .thumbnail")
    page.wait("document.getElementById('status').textContent === 'b.txt was not segmented'")
    page.click("li:nth-child(3) .thumbnail")
    page.wait("document.getElementById('canvas').ariaLabel.startsWith('c.png')")
    assert page.text("#status") == "Segmented in 0.13 s"
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0, grey=20))
    page.key("Delete")
    page.wait("document.getElementById('refusal').hidden === false")
    assert page.evaluate("document.querySelectorAll('.thumbnail').length") == 2
    page.click("#clear")
    assert page.evaluate("document.querySelectorAll('.thumbnail').length") == 0
    assert not page.evaluate("document.getElementById('empty').hidden")
    assert page.evaluate("document.getElementById('save-mask').disabled")


def test_another_model_segments_the_images_again(page: Tab, server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    server.labels = lambda image: np.full(image.shape[:2], 4, np.uint8)
    try:
        page.evaluate("document.getElementById('model').focus()")
        page.key("ArrowDown")
        page.wait("document.getElementById('canvas').ariaLabel.endsWith(': person 100.0 %')")
    finally:
        server.labels = quarters
    assert [request[0] for request in server.requests] == ["street", "street-small"]
    assert close_to(painted(page, *place(page, 10, 10)), mixed(4))
    page.click("#show-card")
    assert "No scores are stored with this model." in page.text("#card")
    page.key("Escape")
    assert not page.evaluate("document.getElementById('card').open")


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_images_are_pasted_and_dropped(page: Tab, server: PageServer, event: str) -> None:
    data = base64_png(np.full((HEIGHT, WIDTH), GREY, np.uint8))
    page.evaluate(
        f"const bytes = Uint8Array.from(atob('{data}'), (c) => c.charCodeAt(0)); const transfer = new DataTransfer();"
        "for (const name of ['one.png', 'two.png']) transfer.items.add(new File([bytes], name, {type: 'image/png'}));"
        "const made = {paste: () => new ClipboardEvent('paste', {clipboardData: transfer, bubbles: true}),"
        f"drop: () => new DragEvent('drop', {{dataTransfer: transfer, bubbles: true}})}}['{event}']();"
        "document.getElementById('stage').dispatchEvent(made); 0"
    )
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")
    page.wait(SETTLED)
    assert len(server.requests) == 2
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))


# ---- refusals


def test_a_refusal_is_shown_in_the_words_of_the_server(page: Tab, server: PageServer, tmp_path: Path) -> None:
    sentence = "<i>x</i>: 40000 x 40000 pixels; at most 100000000 are accepted"
    server.answers = [(413, {}, {"error": sentence, "request_id": "r-9"})]
    page.choose("#files", picture(tmp_path / "big.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-title") == "This image was refused"
    assert page.text("#refusal-text") == sentence
    assert page.text("#refusal-detail") == "big.png · status 413 · request r-9"
    assert page.evaluate("document.querySelectorAll('#refusal i').length") == 0
    assert page.evaluate("document.getElementById('save-mask').disabled")
    page.click("#retry")
    page.wait(SETTLED)
    assert page.evaluate("document.getElementById('refusal').hidden")
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))


@pytest.mark.parametrize(
    ("answer", "title", "text"),
    [
        ((504, {}, {"error": "no result within 30 s"}), "could not be segmented", "no result within 30 s"),
        ((500, {}, {}), "could not be segmented", "The server answered with status 500."),
        ((200, {}, {"width": 3}), "could not be segmented", "The server's answer has no label map."),
    ],
)
def test_failures_of_the_server(
    page: Tab, server: PageServer, tmp_path: Path, answer: tuple[int, dict[str, str], Any], title: str, text: str
) -> None:
    server.answers = [answer]
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert title in page.text("#refusal-title")
    assert page.text("#refusal-text") == text


def test_an_empty_file_is_not_sent(page: Tab, server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    page.choose("#files", tmp_path / "empty.png")
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text") == "The file is empty; choose another one."
    assert page.text("#refusal-detail") == "empty.png"
    assert server.requests == []


def test_a_map_that_disagrees_with_the_stated_size_is_refused(page: Tab, server: PageServer, tmp_path: Path) -> None:
    image = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    server.answers = [(200, {}, {**server.result(image, "street"), "width": WIDTH + 1})]
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text") == "the server's map has 64 × 48 pixels instead of 65 × 48"


def test_a_busy_server_is_asked_again(page: Tab, server: PageServer, tmp_path: Path) -> None:
    page.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('status').textContent))"
        ".observe(document.getElementById('status'), {childList: true}); 0"
    )
    server.answers = [(429, {"Retry-After": "1"}, {"error": "busy"})]
    upload(page, picture(tmp_path / "grey.png"))
    assert page.evaluate("said") == [
        "Segmenting grey.png…",
        "The server is busy: next try in 1 s",
        "Segmenting grey.png…",
        "Segmented in 0.13 s",
    ]
    assert len(server.requests) == 2


def test_a_server_that_is_away(page: Tab, server: PageServer, tmp_path: Path) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.send("Network.emulateNetworkConditions", offline=True, **offline)
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text").startswith("The server cannot be reached")
    page.send("Network.emulateNetworkConditions", offline=False, **offline)
    page.click("#retry")
    page.wait(SETTLED)


def test_a_token_is_asked_for_and_kept_for_the_tab(page: Tab, server: PageServer, tmp_path: Path) -> None:
    server.token = "right"
    page.send("Page.navigate", url=server.url)
    page.wait("document.getElementById('token')?.open")
    page.send("Input.insertText", text="wrong")
    page.key("Enter")
    page.wait("/not accept/.test(document.getElementById('token-text').textContent)")
    page.send("Input.insertText", text="right")
    page.key("Enter")
    page.wait(READY)
    upload(page, picture(tmp_path / "grey.png"))
    assert server.requests[0][3] == "Bearer right"
    page.open(server.url, ready=READY)
    assert not page.evaluate("document.getElementById('token').open")

    server.token = "changed"
    page.send("Page.navigate", url=server.url)
    page.wait("document.getElementById('token')?.open")
    page.click("#token-cancel")
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-title") == "The models could not be loaded"
    page.choose("#files", *(picture(tmp_path / f"{name}.png") for name in "ab"))
    page.wait("document.getElementById('token').open")  # an image is a reason to ask again
    page.click("#token-cancel")
    page.wait("!document.getElementById('refusal').hidden")
    server.token = ""
    page.click("#retry")
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")
    assert page.evaluate("document.getElementById('refusal').hidden")


def test_without_the_token_nobody_is_asked_for_each_image(page: Tab, server: PageServer, tmp_path: Path) -> None:
    server.token = "new"
    page.choose("#files", *(picture(tmp_path / f"{name}.png") for name in "abc"))
    page.wait("document.getElementById('token').open")
    page.click("#token-cancel")
    page.wait("document.querySelectorAll('[data-status=failed]').length === 3")
    assert page.text("#refusal-text") == "The server needs a token, and none was given."
    page.click("#retry")
    page.wait("document.getElementById('token').open")
    page.send("Input.insertText", text="new")
    page.key("Enter")
    page.wait("document.querySelectorAll('[data-status=done]').length === 1")
    page.click("li:nth-child(2) .thumbnail")
    page.wait("!document.getElementById('refusal').hidden")
    page.click("#retry")
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")


# ---- decoding


def test_an_image_that_the_browser_cannot_show(page: Tab, server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "field.tif"))
    assert server.requests[0][1] == "image/tiff"
    assert page.text("#note").startswith("This browser cannot show TIF files")
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0, opacity=1))
    assert painted(page, *place(page, 0, 0))[3] == 0


def test_the_server_decides_on_the_size(page: Tab, server: PageServer, tmp_path: Path) -> None:
    """The label map has twice the photo's sides: the photo is stretched over it, with a note."""
    server.labels = lambda image: quarters(np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8))
    try:
        upload(page, picture(tmp_path / "grey.png"))
    finally:
        server.labels = quarters
    assert "64 × 48 pixels, the server reads 128 × 96" in page.text("#note")
    move(page, *place(page, 127, 48, width=128, height=96))
    assert page.text("#probe").split("\n")[:2] == ["127, 48", "car"]
    assert close_to(painted(page, *place(page, 127, 48, width=128, height=96)), mixed(3))


DECODED = """(async () => {
  const { decodePhoto } = await import("./page/decoding.js");
  const found = [];
  for (const file of window.files) {
    const bitmap = await decodePhoto(file);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const data = canvas.getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height).data;
    found.push([file.name, bitmap.height, bitmap.width, [...data].filter((_, at) => at % 4 !== 3)]);
  }
  return found;
})()"""


def test_photos_are_turned_as_the_server_turns_them(page: Tab, tmp_path: Path) -> None:
    """All eight EXIF orientations, also of WebP, which Chromium itself does not turn."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16, 0] = pixels[8:, 16:, 1] = pixels[:8, 16:, 2] = 255
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix, options in (("png", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100, "subsampling": 0})):
            files.append(tmp_path / f"{orientation}.{suffix}")
            Image.fromarray(pixels).save(files[-1], exif=exif, **options)
    prefixed = (tmp_path / "6.webp").read_bytes()
    at = prefixed.index(b"EXIF")
    (size,) = struct.unpack("<I", prefixed[at + 4 : at + 8])
    chunk = b"EXIF" + struct.pack("<I", size + 6) + b"Exif\0\0" + prefixed[at + 8 :]
    body = prefixed[8:at] + chunk
    files.append(tmp_path / "prefixed.webp")
    files[-1].write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    keep = "window.files = [...event.target.files]; event.stopPropagation();"  # before the page clears the input
    page.evaluate(f"addEventListener('change', (event) => {{ {keep} }}, true)")
    page.choose("#files", *files)
    page.wait("window.files !== undefined")
    for name, height, width, values in page.evaluate(DECODED):
        expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB"))
        assert (height, width) == expected.shape[:2], name
        found = np.array(values).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=0 if not name.endswith("jpg") else 4, err_msg=name)


def png(values: NDArray[np.uint8], filters: list[int]) -> bytes:
    """A grey PNG whose rows have given filter types (PNG specification, section 9), in two IDAT chunks."""
    height, width = values.shape
    padded = np.pad(values.astype(int), ((1, 0), (1, 0)))
    rows = b""
    for row in range(height):
        now, left, above, corner = padded[row + 1, 1:], padded[row + 1, :-1], padded[row, 1:], padded[row, :-1]
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        predicted = [0 * now, left, above, (left + above) // 2, paeth][filters[row]]
        rows += bytes([filters[row]]) + ((now - predicted) % 256).astype(np.uint8).tobytes()
    packed = zlib.compress(rows)

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    half = len(packed) // 2
    parts = [(b"IHDR", header), (b"tEXt", b"a\0b"), (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def decoded_png(page: Tab, content: bytes) -> Any:
    text = json.dumps(list(content))
    return page.evaluate(
        "import('./page/decoding.js').then(async ({decodeGreyPng}) => { try {"
        f"const {{width, height, values}} = await decodeGreyPng(Uint8Array.from({text}));"
        "return [height, width, [...values]]; } catch (error) { return error.message; } })"
    )


def test_label_maps_are_decoded_exactly(page: Tab) -> None:
    values = np.random.default_rng(1).integers(0, 256, (55, 23), dtype=np.uint8)
    values[20:] %= 6  # ties between Paeth's candidates
    content = png(values, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 4] * 5)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), values)
    assert decoded_png(page, content) == [55, 23, values.ravel().tolist()]


def test_other_label_maps_are_refused(page: Tab) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    whole = png(values, [0] * 8)
    assert decoded_png(page, b"GIF89a" + bytes(40)) == "the label map is not a PNG file"
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    assert "PNG of 16 bits and colour type 0" in decoded_png(page, buffer.getvalue())
    assert isinstance(decoded_png(page, whole[: len(whole) // 2]), str)


# ---- accessibility, devices

CONTRASTS = """(() => {
  const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length === 3 ? [...n, 1] : n; };
  const over = ([r, g, b, a], under) => [r, g, b].map((part, at) => part * a + under[at] * (1 - a));
  const luminance = (color) => color.map((part) => part / 255)
    .map((part) => (part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4))
    .reduce((sum, part, at) => sum + part * [0.2126, 0.7152, 0.0722][at], 0);
  const found = {};
  for (const element of document.querySelectorAll("body *")) {
    const own = [...element.childNodes].some((node) => node.nodeType === 3 && node.textContent.trim());
    if (!own || !element.checkVisibility() || element.closest(".unseen, option, noscript")) continue;
    let behind = [255, 255, 255];
    const chain = [];
    for (let up = element; up; up = up.parentElement) chain.unshift(parse(getComputedStyle(up).backgroundColor));
    for (const layer of chain) behind = over(layer, behind);
    const text = over(parse(getComputedStyle(element).color), behind);
    const [low, high] = [luminance(behind), luminance(text)].sort((a, b) => a - b);
    found[`${element.tagName} ${element.id} ${element.textContent.trim().slice(0, 30)}`] = (high + 0.05) / (low + 0.05);
  }
  return found;
})()"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_contrast(page: Tab, server: PageServer, tmp_path: Path, scheme: str) -> None:
    page.media(prefers_color_scheme=scheme)
    background = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (int(background.split("(")[1].split(",")[0]) > 128) == (scheme == "light")
    ratios = dict(page.evaluate(CONTRASTS))
    upload(page, picture(tmp_path / "field.tif"))
    move(page, *place(page, 10, 10))
    page.click("#legend li:nth-child(1) label")
    page.click("input[value=side] + span")
    page.click("summary")
    ratios |= page.evaluate(CONTRASTS)
    page.click("input[value=confidence] + span")
    page.click("#show-card")
    ratios |= page.evaluate(CONTRASTS)
    page.evaluate("document.getElementById('card').close(); document.getElementById('token').showModal()")
    ratios |= page.evaluate(CONTRASTS)
    page.evaluate("document.getElementById('token').close()")
    server.answers = [(400, {}, {"error": "no"})]
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    ratios |= page.evaluate(CONTRASTS)
    assert len(ratios) > 60
    assert {what: ratio for what, ratio in ratios.items() if ratio < 4.5} == {}


def test_every_control_has_a_name_and_the_page_its_landmarks(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.click("input[value=swipe] + span")
    nodes = [node for node in page.send("Accessibility.getFullAXTree")["nodes"] if not node["ignored"]]
    roles = [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in nodes]
    controls = {"button", "checkbox", "radio", "slider", "combobox", "splitter", "separator", "application", "textbox"}
    named = [(role, name) for role, name in roles if role in controls]
    assert [(role, name) for role, name in named if not re.search(r"\w", name)] == []
    assert {role for role, _ in named} >= {"button", "checkbox", "radio", "slider", "application"}
    assert next(name for role, name in named if role == "checkbox").startswith("road")
    assert {role for role, _ in roles} >= {"main", "banner", "navigation", "complementary", "status", "heading"}


FOCUSED = """(() => {
  const element = document.activeElement;
  const near = [element, ...(element.labels ?? []), element.nextElementSibling, element.firstElementChild];
  const styles = near.filter(Boolean).map((one) => getComputedStyle(one));
  const outlined = styles.some((style) => style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2);
  const name = element.id || element.value || element.className || element.tagName;
  return [element.closest("#legend") ? "class" : name, outlined];
})()"""


def test_the_focus_is_visible_and_follows_the_layout(page: Tab, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.evaluate(
        "document.querySelector('input[value=swipe]').click()"
    )  # a script's click leaves the focus where it is
    visited = []
    for _ in range(22):
        page.key("Tab")
        visited.append(page.evaluate(FOCUSED))
    assert [name for name, _ in visited] == [
        *("skip", "model", "show-card", "swipe", "opacity", "canvas", "divider"),
        *("zoom-out", "zoom-in", "zoom-fit", "zoom-pixels", "choose", "thumbnail", "clear", "show-all", "show-none"),
        *("class", "class", "class", "class", "class", "save-mask"),
    ]
    assert [name for name, outlined in visited if not outlined] == []


def test_a_phone(page: Tab, tmp_path: Path) -> None:
    page.size(390, 844, phone=True, ratio=3)
    upload(page, picture(tmp_path / "grey.png"), *(picture(tmp_path / f"{name}.png") for name in "abcdef"))
    page.click("input[value=side] + span")
    page.click("input[value=overlay] + span")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    small = page.evaluate(
        "[...document.querySelectorAll('button, select, .views span, #legend label')]"
        ".filter((e) => e.checkVisibility())"
        ".map((e) => [e.id || e.innerText, e.getBoundingClientRect()]).filter(([, b]) => b.height < 24 || b.width < 24)"
        ".map(([name]) => name)"
    )
    assert small == []
    page.evaluate("scrollTo(0, 0)")
    box = page.box("#canvas")
    x, y = box["left"] + box["width"] / 2, box["top"] + box["height"] / 2
    before = float(page.text("#zoom-value").removesuffix(" %"))
    touch = [{"x": x - 20, "y": y, "id": 1}, {"x": x + 20, "y": y, "id": 2}]
    page.send("Input.dispatchTouchEvent", type="touchStart", touchPoints=touch)
    for apart in (40, 60, 80):
        touch = [{"x": x - apart, "y": y, "id": 1}, {"x": x + apart, "y": y, "id": 2}]
        page.send("Input.dispatchTouchEvent", type="touchMove", touchPoints=touch)
    page.send("Input.dispatchTouchEvent", type="touchEnd", touchPoints=[])
    page.wait(f"parseFloat(document.getElementById('zoom-value').textContent) > {3 * before}")
    assert float(page.text("#zoom-value").removesuffix(" %")) == pytest.approx(4 * before, rel=0.02)


def test_nothing_moves_for_people_who_prefer_that(page: Tab, server: PageServer, tmp_path: Path) -> None:
    page.media(prefers_reduced_motion="reduce")
    server.delay_s = 0.3
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("document.querySelector('[data-status=running]') !== null")
    assert page.evaluate("document.getAnimations().length") == 0
    page.media(prefers_reduced_motion="no-preference")
    assert page.evaluate("document.getAnimations().length") > 0
    page.wait(SETTLED)


def test_the_layout_does_not_shift(page: Tab, tmp_path: Path) -> None:
    page.evaluate(
        "window.shift = 0;"
        "new PerformanceObserver((list) => list.getEntries().forEach((entry) => { shift += entry.value; }))"
        ".observe({type: 'layout-shift', buffered: true}); 0"
    )
    upload(page, picture(tmp_path / "grey.png"), picture(tmp_path / "b.png"))
    page.evaluate("document.querySelector('input[value=swipe]').click()")  # clicks excuse shifts; scripts do not
    page.evaluate("document.querySelector('input[value=overlay]').click()")
    painted(page, 1, 1)
    assert page.evaluate("shift") < 0.01
