"""Refused images, servers that fail, and tokens."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from chromium import Tab
from page_actions import GREY, HEIGHT, READY, SETTLED, WIDTH, close_to, mixed, move, painted, picture, place, upload
from page_server import PageServer, quarters


def test_a_refusal_is_shown_in_the_words_of_the_server(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    sentence = "<i>x</i>: 40000 x 40000 pixels; at most 100000000 are accepted"
    page_server.answers = [(413, {}, {"error": sentence, "request_id": "r-9"})]
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
    page: Tab, page_server: PageServer, tmp_path: Path, answer: tuple[int, dict[str, str], Any], title: str, text: str
) -> None:
    page_server.answers = [answer]
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert title in page.text("#refusal-title")
    assert page.text("#refusal-text") == text


def test_an_empty_file_is_not_sent(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    (tmp_path / "empty.png").touch()
    page.choose("#files", tmp_path / "empty.png")
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text") == "The file is empty; choose another one."
    assert page.text("#refusal-detail") == "empty.png"
    assert page_server.requests == []


def test_a_map_of_another_size_than_stated_is_refused(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    image = np.full((HEIGHT, WIDTH, 3), GREY, np.uint8)
    page_server.answers = [(200, {}, {**page_server.result(image, "street"), "width": WIDTH + 1})]
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text") == "the label map has 64 × 48 pixels instead of 65 × 48"


def test_a_busy_server_is_asked_again(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    page.evaluate(
        "window.said = []; new MutationObserver(() => said.push(document.getElementById('status').textContent))"
        ".observe(document.getElementById('status'), {childList: true}); 0"
    )
    page_server.answers = [(429, {"Retry-After": "1"}, {"error": "busy"})]
    upload(page, picture(tmp_path / "grey.png"))
    assert page.evaluate("said") == [
        "Segmenting grey.png…",
        "The server is busy: next try in 1 s",
        "Segmenting grey.png…",
        "Segmented in 0.13 s",
    ]
    assert len(page_server.requests) == 2


def test_a_server_that_is_away(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    offline = {"latency": 0, "downloadThroughput": -1, "uploadThroughput": -1}
    page.send("Network.emulateNetworkConditions", offline=True, **offline)
    page.choose("#files", picture(tmp_path / "grey.png"))
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-text").startswith("The server cannot be reached")
    page.send("Network.emulateNetworkConditions", offline=False, **offline)
    page.click("#retry")
    page.wait(SETTLED)


def test_a_token_is_asked_for_and_kept_for_the_tab(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    page_server.token = "right"
    page.send("Page.navigate", url=page_server.url)
    page.wait("document.getElementById('token')?.open")
    page.send("Input.insertText", text="wrong")
    page.key("Enter")
    page.wait("/not accept/.test(document.getElementById('token-text').textContent)")
    page.send("Input.insertText", text="right")
    page.key("Enter")
    page.wait(READY)
    upload(page, picture(tmp_path / "grey.png"))
    assert page_server.requests[0][3] == "Bearer right"
    page.open(page_server.url, ready=READY)
    assert not page.evaluate("document.getElementById('token').open")

    page_server.token = "changed"
    page.send("Page.navigate", url=page_server.url)
    page.wait("document.getElementById('token')?.open")
    page.click("#token-cancel")
    page.wait("!document.getElementById('refusal').hidden")
    assert page.text("#refusal-title") == "The models could not be loaded"
    page.choose("#files", *(picture(tmp_path / f"{name}.png") for name in "ab"))
    page.wait("document.getElementById('token').open")  # an image is a reason to ask again
    page.click("#token-cancel")
    page.wait("!document.getElementById('refusal').hidden")
    page_server.token = ""
    page.click("#retry")
    page.wait("document.querySelectorAll('[data-status=done]').length === 2")
    assert page.evaluate("document.getElementById('refusal').hidden")


def test_without_the_token_nobody_is_asked_for_each_image(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    page_server.token = "new"
    page.choose("#files", *(picture(tmp_path / f"{name}.png") for name in "abc"))
    page.wait("document.getElementById('token').open")
    page.click("#token-cancel")
    page.wait("document.querySelectorAll('[data-status=failed]').length === 3")
    page.wait("!document.getElementById('refusal').hidden")
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


def test_an_image_that_the_browser_cannot_show(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "field.tif"))
    assert page_server.requests[0][1] == "image/tiff"
    assert page.text("#note").startswith("This browser cannot show TIF files")
    assert close_to(painted(page, *place(page, 10, 10)), mixed(0, opacity=1))
    assert painted(page, *place(page, 0, 0))[3] == 0


def test_the_server_decides_on_the_size(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    """The label map has twice the photo's sides: the photo is stretched over it, with a note."""
    page_server.labels = lambda image: quarters(np.zeros((2 * HEIGHT, 2 * WIDTH), np.uint8))
    try:
        upload(page, picture(tmp_path / "grey.png"))
    finally:
        page_server.labels = quarters
    assert "64 × 48 pixels, the model gets 128 × 96" in page.text("#note")
    move(page, *place(page, 127, 48, width=128, height=96))
    assert page.text("#probe").split("\n")[:2] == ["127, 48", "car"]
    assert close_to(painted(page, *place(page, 127, 48, width=128, height=96)), mixed(3))
