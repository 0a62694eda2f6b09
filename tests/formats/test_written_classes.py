"""Classes keep their order and their colours in what is written, where the format has a place for them."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
import yaml

from made_conversions import WITHOUT_MAP, write_source
from pyramidseg.base.classes import Color
from pyramidseg.base.config import DataConfig
from pyramidseg.formats.convert_dataset import convert_dataset
from pyramidseg.formats.open_dataset import open_dataset

NAMES = ("background", "zebra", "never drawn", "Apfel, rot", "moss")
COLORS: tuple[Color, ...] = ((0, 0, 0), (200, 10, 90), (90, 90, 90), (1, 2, 3), (10, 240, 17))

COLORED = ("masks", "color-masks", "voc", "cvat-masks", "coco-panoptic")
"""Formats from which all colours are read back."""

COLORLESS = ("yolo", "huggingface", "labelme")
"""Formats without a place for colours. The others have none for that of background, which has no label there."""

UNDECLARED = ("labelme",)
"""Formats with nothing but the labels of regions, which are read in alphabetical order."""


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = write_source(tmp_path / "source")
    classes = [{"name": name, "color": list(color)} for name, color in zip(NAMES, COLORS, strict=True)]
    entries = [{**one, "value": value} for value, one in zip((0, 1, 7, 2, 3), classes, strict=True)]
    (folder / "dataset.yaml").write_text(yaml.safe_dump({"classes": entries, "ignore": [255]}))
    return folder


@pytest.mark.parametrize("to", WITHOUT_MAP)
def test_they_are_read_back_in_their_order(to: str, source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to=to, out=tmp_path / "out")
    classes = open_dataset(tmp_path / "out", DataConfig()).classes
    drawn = sorted({*NAMES} - {"background", "never drawn"})
    assert classes.names == (("background", *drawn) if to in UNDECLARED else NAMES)
    if to not in COLORLESS:
        assert classes.colors[1:] == COLORS[1:]
    if to in COLORED:
        assert classes.colors == COLORS


def test_what_has_no_place_is_printed(source: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    for to in ("yolo", "labelme", "voc"):
        convert_dataset(source, to=to, out=tmp_path / to)
    assert [line for line in caplog.messages if "has no place for" in line] == [
        "yolo has no place for colours of classes",
        "labelme has no place for order and colours of classes, and classes that no image has",
    ]


def hexadecimal(text: str) -> list[Color]:
    return [
        (found[0], found[1], found[2])
        for word in re.findall("#([0-9a-fA-F]{6})", text)
        for found in [bytes.fromhex(word)]
    ]


FILES: dict[str, tuple[str, Callable[[str], list[str]], Callable[[str], list[Color]]]] = {
    "cvat-images": ("annotations.xml", lambda text: re.findall("<name>(.*?)</name>", text), hexadecimal),
    "label-studio": ("label_config.xml", lambda text: re.findall('<Label value="(.*?)"', text), hexadecimal),
    "label-studio-polygons": (
        "label_config.xml",
        lambda text: re.findall('<Label value="(.*?)"', text)[:4],
        hexadecimal,
    ),
    "supervisely": ("meta.json", lambda text: [one["title"] for one in json.loads(text)["classes"]], hexadecimal),
}
"""What the tools read: the file, and its names and colours."""


@pytest.mark.parametrize("to", FILES)
def test_tools_are_told_order_and_colours(to: str, source: Path, tmp_path: Path) -> None:
    convert_dataset(source, to=to, out=tmp_path / "out")
    file, names, colors = FILES[to]
    text = (tmp_path / "out" / file).read_text(encoding="utf-8")
    assert names(text) == list(NAMES[1:])
    assert colors(text) == [*COLORS[1:]] * (2 if to == "label-studio-polygons" else 1)
