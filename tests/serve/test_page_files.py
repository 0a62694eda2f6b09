"""Several images at once, the ways to give them, and downloads."""

import io
import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from chromium import Tab
from page_actions import GREY, HEIGHT, SETTLED, WIDTH, close_to, mixed, painted, picture, place, upload
from page_server import CLASSES, PageServer, base64_png, quarters


def download(page: Tab, button: str, path: Path) -> bytes:
    page.send("Browser.setDownloadBehavior", behavior="allow", downloadPath=str(path.parent))
    page.click(button)
    end = time.monotonic() + 10
    while not path.exists():  # it has another name until it is complete
        assert time.monotonic() < end, f"{path.name} is not saved: {page.text('#status')}"
        time.sleep(0.02)
    return path.read_bytes()


def test_downloads(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
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


def test_images_are_processed_in_order_and_a_refused_one_stops_nothing(
    page: Tab, page_server: PageServer, tmp_path: Path
) -> None:
    (tmp_path / "b.txt").write_text("not an image")
    files = [picture(tmp_path / "a.png", width=512), tmp_path / "b.txt", picture(tmp_path / "c.png", grey=20)]
    page.choose("#files", *files)
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")
    assert [request[2] for request in page_server.requests] == [file.read_bytes() for file in files]
    names = page.evaluate("[...document.querySelectorAll('.thumbnail')].map((e) => e.innerText)")
    assert [re.sub(r"^TXT\s*", "", name) for name in names] == ["a.png, done", "b.txt, failed", "c.png, done"]
    page.wait(SETTLED)
    assert page.text("#status") in {
        "Segmented in 0.13 s",
        "Segmented in 1.00 s",
    }  # the last one, or the one that is shown
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


def test_another_model_segments_the_images_again(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page_server.labels = lambda image: np.full(image.shape[:2], 4, np.uint8)
    try:
        page.evaluate("document.getElementById('model').focus()")
        page.key("ArrowDown")
        page.wait("document.getElementById('canvas').ariaLabel.endsWith(': person 100.0 %')")
    finally:
        page_server.labels = quarters
    assert [request[0] for request in page_server.requests] == ["street", "street-small"]
    assert close_to(painted(page, *place(page, 10, 10)), mixed(4))
    page.click("#show-card")
    assert "No scores are stored with this model." in page.text("#card")
    page.key("Escape")
    assert not page.evaluate("document.getElementById('card').open")


@pytest.mark.parametrize("event", ["paste", "drop"])
def test_images_are_pasted_and_dropped(page: Tab, page_server: PageServer, event: str) -> None:
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
    assert len(page_server.requests) == 2
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0))
