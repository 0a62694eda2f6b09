"""Conversions of files and settings that messages about single masks and images ask for."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import tifffile
from PIL import Image

from followed import counted, message, settings_in, sizes, with_settings
from made_files import image, mask, opened, pairs, write
from made_geo import write_image
from pyramidseg.inspection.training_check import check_dataset

ORIENTATION = 0x0112
HALF = np.zeros((4, 8), np.uint8)
HALF[:, 4:] = 1
"""16 pixels of each class."""


def pair(root: Path, values: np.ndarray, *, name: str = "a", mode: str | None = None) -> Path:
    """One image of the size of its mask, and a mask of any content."""
    image(root / "images" / f"{name}.png", height=values.shape[0], width=values.shape[1])
    (root / "masks").mkdir(exist_ok=True)
    file = root / "masks" / f"{name}.png"
    Image.fromarray(values, mode).save(file)
    return file


def checked(root: Path, **settings: object) -> dict[str, int]:
    """Pixels by class after the check of `train`."""
    dataset = opened(root, **settings)
    check_dataset(dataset)
    return counted(dataset)


TWO = {"class 0": 32, "class 1": 32}


def half_size(root: Path) -> None:
    pair(root, HALF)
    file = pair(root, HALF, name="b")
    Image.fromarray(HALF).resize((4, 2), Image.Resampling.NEAREST).save(file)


def test_a_smaller_mask_is_resized_by_the_setting(tmp_path: Path) -> None:
    half_size(tmp_path)
    text = message(lambda: checked(tmp_path))
    assert "set resize_masks: true" in text
    write(tmp_path / "dataset.yaml", text.partition("or set ")[2].partition("true")[0] + "true\n")
    assert checked(tmp_path) == TWO


def test_a_smaller_mask_is_exported_at_the_size_of_its_image(tmp_path: Path) -> None:
    half_size(tmp_path)
    height, width = map(
        int, re.search(r"but its image \S+ is (\d+) x (\d+)", message(lambda: checked(tmp_path))).groups()
    )
    file = tmp_path / "masks" / "b.png"
    Image.open(file).resize((width, height), Image.Resampling.NEAREST).save(file)
    assert checked(tmp_path) == TWO


@pytest.mark.parametrize("follow", ["turn the mask too", "remove the tag from the image"])
def test_an_image_that_is_turned_by_its_tag(tmp_path: Path, follow: str) -> None:
    for name in "ab":
        file = pair(tmp_path, HALF, name=name)
        tagged = Image.new("RGB", (8, 4))
        tagged.getexif()[ORIENTATION] = 6
        tagged.save(tmp_path / "images" / f"{name}.png", exif=tagged.getexif())
    assert follow in message(lambda: checked(tmp_path))
    for name in "ab":
        if follow == "turn the mask too":  # as viewers do for orientation 6: a quarter clockwise
            file = tmp_path / "masks" / f"{name}.png"
            Image.open(file).transpose(Image.Transpose.ROTATE_270).save(file)
        else:
            Image.new("RGB", (8, 4)).save(tmp_path / "images" / f"{name}.png")
    assert checked(tmp_path) == TWO
    labels = opened(tmp_path).masks.read(opened(tmp_path).split("train")[0])
    assert labels.shape == ((8, 4) if follow == "turn the mask too" else (4, 8))
    assert labels[-1, -1] == 1 and labels[0, 0] == 0


@pytest.mark.parametrize("meaning", ["background", "ignore"])
def test_transparent_pixels_are_what_the_setting_says(tmp_path: Path, meaning: str) -> None:
    for name in "ab":
        alpha = np.full((4, 8), 255, np.uint8)
        alpha[0] = 0
        pair(tmp_path, np.dstack([HALF, alpha]), name=name)
    settings = settings_in(message(lambda: checked(tmp_path)))
    (setting,) = [setting for setting in settings if setting.endswith(meaning)]
    pixels = counted(with_settings(tmp_path, [setting]))
    assert pixels == (
        {"class 0": 40, "class 1": 24} if meaning == "background" else {"class 0": 24, "class 1": 24, "ignored": 16}
    )


@pytest.mark.parametrize("way", ["data.transparent=background", "data.transparent=ignore", "save it without alpha"])
def test_masks_that_are_transparent_everywhere(tmp_path: Path, way: str) -> None:
    """As raw labels of simulators, which leave the alpha channel at 0."""
    for name in "ab":
        pair(tmp_path, np.dstack([HALF, HALF, HALF, np.zeros_like(HALF)]), name=name)
    assert way in message(lambda: checked(tmp_path))
    if way == "save it without alpha":
        for file in (tmp_path / "masks").iterdir():
            with Image.open(file) as image:
                image.convert("RGB").save(file)
        assert checked(tmp_path) == TWO
    else:
        reason = "fewer than two classes" if "background" in way else "no pixel of split 'train' has a class"
        assert reason in message(lambda: check_dataset(with_settings(tmp_path, [way])))


def test_masks_of_fractions_and_of_bands_are_saved_as_indices(tmp_path: Path) -> None:
    for name in "ab":
        pair(tmp_path, HALF, name=name).unlink()
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", HALF.astype(np.float32) + 0.5)
    assert "not a whole number; save class indices" in message(lambda: checked(tmp_path))
    for name in "ab":
        bands = np.stack([1 - HALF, HALF], axis=-1).astype(np.float32)
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", bands, planarconfig="contig")
    assert "save the class index of each pixel instead" in message(lambda: checked(tmp_path))
    for name in "ab":
        found = tifffile.imread(tmp_path / "masks" / f"{name}.tif")
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", found.argmax(axis=-1).astype(np.uint8))
    assert checked(tmp_path) == TWO


@pytest.mark.parametrize(("value", "ignored"), [(-1.0, 2), (np.nan, 2)])
def test_values_that_are_not_indices_are_listed_under_ignore(tmp_path: Path, value: float, ignored: int) -> None:
    for name in "ab":
        pair(tmp_path, HALF, name=name).unlink()
        values = HALF.astype(np.float32)
        values[0, 0] = value
        tifffile.imwrite(tmp_path / "masks" / f"{name}.tif", values)
    settings = settings_in(message(lambda: checked(tmp_path)))
    assert counted(with_settings(tmp_path, settings)) == {"class 0": 30, "class 1": 32, "ignored": ignored}


def test_an_unknown_value_is_a_class_or_ignored(tmp_path: Path) -> None:
    write(tmp_path / "dataset.yaml", "classes: {sky: 0, road: 1}\n")
    values = HALF.copy()
    values[0, 0] = 7
    pair(tmp_path, values)
    pair(tmp_path, values, name="b")
    text = message(lambda: checked(tmp_path))
    assert "add them to classes, or list them under ignore" in text
    number = re.search(r"not known.*?: (\d+)", text)[1]
    write(tmp_path / "dataset.yaml", f"classes: {{sky: 0, road: 1, car: {number}}}\n")
    assert checked(tmp_path) == {"sky": 30, "road": 32, "car": 2}
    write(tmp_path / "dataset.yaml", f"classes: {{sky: 0, road: 1}}\nignore: [{number}]\n")
    assert checked(tmp_path) == {"sky": 30, "road": 32, "ignored": 2}


def rgb_channels(root: Path, channels: int) -> None:
    for name in "abc":
        write_image(root / "images" / f"{name}.tif", np.zeros((3, 4, channels), np.uint8) + 9)
        mask(root / "masks" / f"{name}.png")


@pytest.mark.parametrize("channels", [2, 5])
def test_images_of_other_channels_are_read_by_the_settings_that_are_shown(tmp_path: Path, channels: int) -> None:
    from pyramidseg.images.decode import read_image

    rgb_channels(tmp_path, channels)
    text = message(lambda: check_dataset(opened(tmp_path), channels=3))
    settings = list(dict.fromkeys(settings_in(text)))
    assert settings[0] == f"model.in_channels={channels}"
    check_dataset(opened(tmp_path), channels=channels)
    if channels > 3:
        assert settings[1] == "data.bands=[1,2,3]"
        dataset = with_settings(tmp_path, settings[1:])
        check_dataset(dataset, channels=dataset.bands)
        assert read_image(tmp_path / "images" / "a.tif", channels=dataset.bands or 0).shape == (3, 4, 3)


def test_image_types_that_are_mixed_are_converted(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "ab")
    Image.fromarray(np.zeros((3, 4), np.uint16)).save(tmp_path / "images" / "c.png")
    mask(tmp_path / "masks" / "c.png")
    assert re.search("convert one kind", message(lambda: check_dataset(opened(tmp_path))))
    image(tmp_path / "images" / "c.png")
    assert counted(opened(tmp_path)) == {"class 0": 18, "class 1": 18}
    check_dataset(opened(tmp_path), channels=3)


@pytest.mark.parametrize(
    ("break_it", "remedy", "repair"),
    [
        (lambda file: file.write_bytes(b"\x89PNG nothing"), "convert or remove it", lambda file: mask(file)),
        (
            lambda file: file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 3\n"),
            "git lfs pull",
            lambda file: mask(file),
        ),
    ],
)
def test_a_mask_that_cannot_be_read_is_replaced(
    tmp_path: Path, break_it: Callable[[Path], object], remedy: str, repair: Callable[[Path], object]
) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abc")
    break_it(tmp_path / "masks" / "c.png")
    assert remedy in message(lambda: checked(tmp_path))
    repair(tmp_path / "masks" / "c.png")
    assert checked(tmp_path) == {"class 0": 18, "class 1": 18}


def test_a_list_in_another_encoding_is_saved_in_utf_8(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["é", "ü", "ö"])
    listed = tmp_path / "train.txt"
    listed.write_bytes("é\nü\n".encode("utf-16"))
    text = message(lambda: opened(tmp_path))
    named = re.search(r"probably (\S+)\)", text)[1]
    assert "save it as UTF-8" in text
    listed.write_text(listed.read_bytes().decode(named), encoding="utf-8")
    write(tmp_path / "val.txt", "ö\n")
    assert sizes(opened(tmp_path)) == {"train": 2, "val": 1}


def test_one_class_is_refused_and_two_are_not(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abcd", 0, 200)
    write(tmp_path / "dataset.yaml", "ignore: [200]\n")
    assert "the masks' values may mean something else" in message(lambda: checked(tmp_path))
    (tmp_path / "dataset.yaml").unlink()
    write(tmp_path / "dataset.yaml", "classes: {background: 0, foreground: 200}\n")
    assert checked(tmp_path) == {"background": 24, "foreground": 24}
