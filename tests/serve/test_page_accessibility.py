"""Contrast, names, focus, phones, and motion."""

import re
from pathlib import Path

import pytest

from chromium import Tab
from page_actions import SETTLED, move, painted, picture, place, upload
from page_server import PageServer

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
def test_every_text_has_contrast(page: Tab, page_server: PageServer, tmp_path: Path, scheme: str) -> None:
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
    page_server.answers = [(400, {}, {"error": "no"})]
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
    page.evaluate("location.hash = '#top'")  # Tab starts there; some versions would start at the chosen file
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


def test_nothing_moves_for_people_who_prefer_that(page: Tab, page_server: PageServer, tmp_path: Path) -> None:
    page.media(prefers_reduced_motion="reduce")
    page_server.delay_s = 0.3
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
