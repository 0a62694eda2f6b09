"""Lines of YAML and settings that messages about mask values propose."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from followed import alternatives, counted, message, paste, settings_in, with_settings
from made_files import color_mask, image, opened, pairs, write
from pyramidseg.inspection.training_check import check_dataset

SIDE = 60


def rows(*values: int) -> Callable[[Path], None]:
    """Four masks of 12 pixels in which the values repeat."""
    return lambda root: pairs(root / "images", root / "masks", "abcd", *values)


def drawn(mask: np.ndarray, *, extension: str = "png", times: int = 2, **options: Any) -> Callable[[Path], None]:
    """Some masks of the same content."""

    def make(root: Path) -> None:
        (root / "masks").mkdir(parents=True)
        for number in range(times):
            image(root / "images" / f"{number}.png", height=mask.shape[0], width=mask.shape[1])
            Image.fromarray(mask).save(root / "masks" / f"{number}.{extension}", **options)

    return make


def square(value: int, *strays: int) -> np.ndarray:
    """900 of 3600 pixels, and one pixel of each stray value."""
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[15:45, 15:45] = value
    values[0, : len(strays)] = strays
    return values


def colors(root: Path) -> None:
    for name in "abcd":
        image(root / "images" / f"{name}.png")
        color_mask(root / "masks" / f"{name}.png", (0, 0, 0), (255, 0, 0), (0, 0, 255), (0, 0, 0))


def stated(make: Callable[[Path], None], text: str) -> Callable[[Path], None]:
    """A dataset with a dataset file."""

    def both(root: Path) -> None:
        make(root)
        write(root / "dataset.yaml", text)

    return both


THIRDS = np.repeat(np.array([0, 1, 2], np.uint8), 1200).reshape(SIDE, SIDE)
WITH_STRAY = THIRDS.copy()
WITH_STRAY[0, 0] = 9
BINARY = {"background": 24, "foreground": 24}
NAMED = {"bg": 24, "crack": 24}
CLASS_0_AND_7 = {"class 0": 16, "class 7": 16, "ignored": 16}

PROPOSALS = {
    "0 and 255": (rows(0, 255), [BINARY]),
    "0 and 200": (rows(0, 200), [BINARY, BINARY]),
    "0 and 2": (rows(0, 2), [BINARY, BINARY]),
    "0 and 255, two names by position": (stated(rows(0, 255), "classes: [bg, crack]\n"), [NAMED]),
    "0 and 255, two names by value": (stated(rows(0, 255), "classes: {bg: 0, crack: 1}\n"), [NAMED]),
    "0 and 255, names in lines": (
        stated(rows(0, 255), "classes:\n- {name: bg, value: 0}\n- name: crack\n  value: 1\n"),
        [NAMED],
    ),
    "0 and 255, three names": (stated(rows(0, 255), "classes: [bg, crack, hole]\n"), [NAMED]),
    "0 and 255, background second": (stated(rows(0, 255), "classes: {crack: 1, bg: 0}\n"), [{"crack": 24, "bg": 24}]),
    "stray values": (
        drawn(square(255, 3, 7)),
        [{"background": 2 * 2698, "foreground": 1800, "ignored": 4}, {"background": 5400, "foreground": 1800}],
    ),
    "stray values and one that is ignored": (
        stated(drawn(square(255, 3, 7)), "ignore: [3]\n"),
        [{"background": 2 * 2698, "foreground": 1800, "ignored": 4}, {"background": 5400, "foreground": 1800}],
    ),
    "values with a gap": (
        rows(0, 1, 2, 7),
        [{f"class {value}": 12 for value in (0, 1, 2, 7)}, {**{f"class {v}": 12 for v in (0, 1, 2)}, "ignored": 12}],
    ),
    "a rare value after a gap": (
        drawn(WITH_STRAY),
        [
            {"class 0": 2398, "class 1": 2400, "class 2": 2400, "ignored": 2},
            {"class 0": 2398, "class 1": 2400, "class 2": 2400, "class 9": 2},
        ],
    ),
    "from 1 on": (rows(1, 2, 3), [{"class 1": 16, "class 2": 16, "class 3": 16}]),
    "0, 7 and 255": (rows(0, 7, 255), [CLASS_0_AND_7]),
    "1 and 255": (rows(1, 255), [{"class 1": 24, "class 255": 24}]),
    "grey levels of classes": (rows(0, 85, 170, 255), [{f"class {value}": 12 for value in (0, 85, 170, 255)}]),
    "16 bits": (rows(0, 1000, 2000), [{"class 0": 16, "class 1000": 16, "class 2000": 16}]),
    "grey levels": (
        drawn(np.arange(3600, dtype=np.uint16).reshape(SIDE, SIDE).astype(np.uint8)),
        [{"background": 2 * 1808, "foreground": 2 * 1792}, *[{"background": 30, "foreground": 7170}] * 2],
    ),
    "instance numbers": (
        drawn(np.arange(3600, dtype=np.uint16).reshape(SIDE, SIDE)),
        [{"background": 2, "foreground": 7198}] * 2,
    ),
    "colours": (colors, [{"class 0": 24, "class 1": 12, "class 2": 12}]),
    "black and white as RGB": (
        lambda root: [
            (image(root / "images" / f"{n}.png"), color_mask(root / "masks" / f"{n}.png", (0, 0, 0), (255, 255, 255)))
            for n in "abcd"
        ],
        [BINARY],
    ),
}


@pytest.mark.parametrize("name", PROPOSALS)
def test_every_proposal_gives_the_pixels_that_it_promises(tmp_path: Path, name: str) -> None:
    make, expected = PROPOSALS[name]
    make(tmp_path)
    text = message(lambda: opened(tmp_path))
    before = (tmp_path / "dataset.yaml").read_text() if (tmp_path / "dataset.yaml").exists() else None
    heads = [line for line in text.splitlines() if line.startswith("# ") and line.endswith(":")]
    for choice, pixels in enumerate(expected):
        file = paste(text, choice)
        assert counted(opened(tmp_path)) == counted(opened(file)) == pixels
        file.unlink() if before is None else file.write_text(before)
        if flags := settings_in(heads[choice]):
            assert counted(with_settings(tmp_path, flags)) == pixels
    assert len(alternatives(text)) - len(expected) == text.count("255 is ignored (")  # would leave a single class


def smooth_colors(extension: str, **options: int) -> Callable[[Path], None]:
    """A red square in black, enlarged or compressed, so that there are hundreds of colours."""
    picture = np.zeros((128, 128, 3), np.uint8)
    picture[32:96, 32:96] = (200, 30, 30)
    blue = picture.copy()
    blue[100:120] = (20, 40, 180)
    return drawn(blue, extension=extension, **options)


def test_jpeg_masks_of_colours_are_read_by_the_proposed_colours_and_tolerance(tmp_path: Path) -> None:
    smooth_colors("jpg", quality=90, subsampling=0)(tmp_path)
    paste(message(lambda: opened(tmp_path)))
    dataset = opened(tmp_path)
    black, red, blue = dataset.classes.colors[:3]
    assert max(black) <= 3 and np.abs(np.subtract(red, (200, 30, 30))).max() <= 5
    assert np.abs(np.subtract(blue, (20, 40, 180))).max() <= 5
    found = list(counted(dataset).values())
    assert found[:3] == pytest.approx([2 * (128 * 128 - 64 * 64 - 20 * 128), 2 * 64 * 64, 2 * 20 * 128], rel=0.03)


def test_jpeg_masks_of_black_and_white_are_read_by_the_threshold(tmp_path: Path) -> None:
    drawn(square(255), extension="jpg", quality=60)(tmp_path)
    threshold = settings_in(message(lambda: opened(tmp_path)))[0]
    assert counted(with_settings(tmp_path, [threshold])) == {"background": 5400, "foreground": 1800}


def test_jpeg_masks_that_are_saved_as_png_get_the_threshold_proposed(tmp_path: Path) -> None:
    drawn(square(255), extension="jpg", quality=60)(tmp_path)
    assert "save it as PNG" in message(lambda: opened(tmp_path))
    for file in (tmp_path / "masks").iterdir():
        Image.open(file).save(file.with_suffix(".png"))
        file.unlink()
    paste(message(lambda: opened(tmp_path)))
    assert counted(opened(tmp_path)) == {"background": 5400, "foreground": 1800}


def test_many_values_without_a_list_name_two_settings_that_both_work(tmp_path: Path) -> None:
    numbers = np.repeat(np.arange(40, dtype=np.uint8), 90).reshape(SIDE, SIDE)
    numbers[30] = 0
    drawn(numbers[:30], times=2)(tmp_path)
    Image.fromarray(numbers[30:]).save(tmp_path / "masks" / "1.png")
    note = next(note for note in opened(tmp_path).notes if "number instances" in note)
    assert counted(with_settings(tmp_path, settings_in(note))) == {"background": 150, "foreground": 3450}
    assert "from: '*'" in note
    write(tmp_path / "dataset.yaml", "classes: [{name: none, value: 0}, {name: cell, from: '*'}]")
    assert counted(opened(tmp_path)) == {"none": 150, "cell": 3450}


@pytest.mark.parametrize(
    ("make", "settings", "leave_out", "pixels"),
    [
        (rows(0, 255), ["data.binary=true", "data.classes=[a,b,c]"], "data.classes", BINARY),
        (rows(0, 1), ["data.inverted=true"], "data.inverted", {"class 0": 24, "class 1": 24}),
        (rows(0, 1), ["data.tolerance=5"], "data.tolerance", {"class 0": 24, "class 1": 24}),
        (rows(0, 255), ["data.threshold=128", "data.ignore=[3]"], "data.ignore", BINARY),
        (rows(0, 255), ["data.binary=true", "data.ignore=[void]"], "data.ignore", BINARY),
        (rows(0, 255), ["data.binary=true", "data.tolerance=3"], "data.tolerance", BINARY),
        (rows(0, 1), ["data.class_property=kind"], "data.class_property", {"class 0": 24, "class 1": 24}),
    ],
)
def test_settings_without_effect_can_be_left_out(
    tmp_path: Path, make: Callable[[Path], None], settings: list[str], leave_out: str, pixels: dict[str, int]
) -> None:
    make(tmp_path)
    text = message(lambda: with_settings(tmp_path, settings))
    assert leave_out.removeprefix("data.").rstrip("e") in text or "leave out binary, or the class list" in text
    left = [setting for setting in settings if not setting.startswith(leave_out)]
    assert counted(with_settings(tmp_path, left)) == pixels


def test_inverted_becomes_possible_by_binary(tmp_path: Path) -> None:
    rows(0, 255, 255)(tmp_path)
    assert "add binary or threshold" in message(lambda: opened(tmp_path, inverted=True))
    assert counted(opened(tmp_path, inverted=True, binary=True)) == {"background": 32, "foreground": 16}
    assert counted(opened(tmp_path, inverted=True, threshold=128)) == {"background": 32, "foreground": 16}


@pytest.mark.parametrize("checks", [False, True])
@pytest.mark.parametrize("images", ["d", "cd"])
def test_a_value_between_those_of_binary_masks(tmp_path: Path, images: str, checks: bool) -> None:
    """It cannot be added to the classes, of which binary masks have two."""
    rows(0, 255)(tmp_path)
    pairs(tmp_path / "images", tmp_path / "masks", images, 0, 255, 128, 255)
    given = ["data.binary=true"]
    read = (
        (lambda: check_dataset(with_settings(tmp_path, given)))
        if checks
        else (lambda: counted(with_settings(tmp_path, given)))
    )
    text = message(read)
    assert "classes, or" not in text and "under ignore, or set data.threshold to the lowest value" in text
    value = re.search(r"(\d+) \(", text)[1]
    n = len(images)
    rest = {"background": 24 - 3 * n, "foreground": 24}
    assert counted(with_settings(tmp_path, [*given, f"data.ignore=[{value}]"])) == {**rest, "ignored": 3 * n}
    for lowest, more in ((value, {"foreground": 24 + 3 * n}), (255, {"background": 24})):
        assert counted(with_settings(tmp_path, [*given, f"data.threshold={lowest}"])) == rest | more


@pytest.mark.parametrize("dtype", [np.uint16, np.int32, np.float32])
@pytest.mark.parametrize("choice", [0, 1])
def test_both_readings_of_instance_numbers(tmp_path: Path, dtype: type, choice: int) -> None:
    (tmp_path / "masks").mkdir()
    for number in range(2):
        values = np.arange(SIDE * SIDE).reshape(SIDE, SIDE) // 30 * (np.arange(SIDE) < 30)
        image(tmp_path / "images" / f"{number}.png", height=SIDE, width=SIDE)
        Image.fromarray(values.astype(dtype)).save(tmp_path / "masks" / f"{number}.tif")
    text = message(lambda: opened(tmp_path))
    assert "like grey levels or instance numbers" in text and len(alternatives(text)) == 2
    paste(text, choice)
    foreground = 2 * int((values > 0).sum())
    assert counted(opened(tmp_path)) == {"background": 7200 - foreground, "foreground": foreground}
