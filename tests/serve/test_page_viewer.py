"""The page shows images and their classes: overlay, legend, zoom, views."""

import re
from pathlib import Path

import numpy as np

from chromium import Tab
from page_actions import GREY, WIDTH, close_to, mixed, move, painted, picture, place, upload
from page_server import FOLDER, PageServer


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


def test_an_image_is_sent_unchanged_and_its_classes_are_painted(
    page: Tab, page_server: PageServer, tmp_path: Path
) -> None:
    file = picture(tmp_path / "grey.png")
    upload(page, file)
    assert page_server.requests == [("street", "image/png", file.read_bytes(), "")]
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
    assert all(url.startswith((page_server.url, "blob:", "data:")) for url in urls), urls


def test_names_from_outside_are_text(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
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


def test_confidence_view(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    upload(page, picture(tmp_path / "grey.png"))
    page.click("input[value=confidence] + span")
    unsure = painted(page, *place(page, 0, 20))
    sure = painted(page, *place(page, 63, 20))
    assert close_to(unsure, [round(0.6 * part + 0.4 * GREY) for part in (252, 253, 191)] + [255])
    assert close_to(sure, [round(0.6 * part + 0.4 * GREY) for part in (0, 0, 4)] + [255])
    mean = np.linspace(0, 255, WIDTH).astype(np.uint8).mean() / 255
    assert page.text("#mean-confidence") == f"mean {100 * mean:.1f} %"
