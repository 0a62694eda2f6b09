"""Masks with an alpha channel: transparent pixels are refused until the user says what they are."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import opened, write
from pyramidseg.base.errors import DataError, PyramidSegError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError

SIDE, HIDDEN = 20, 60
"""Each mask of 20 x 20 pixels hides its first 3 rows, below which are arbitrary values."""


def save(root: Path, values: list[np.ndarray], mode: str) -> Path:
    """Masks with the given colours, (H, W, 3), and images for them."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(exist_ok=True)
    alpha = np.full((SIDE, SIDE), 255, np.uint8)
    alpha[:3] = 0
    alpha[5, 5] = 130  # a smoothed edge of the alpha channel
    for index, colors in enumerate(values):
        colors = colors.copy()
        colors[:3] = np.random.default_rng(index).integers(0, 256, (3, SIDE, 3))
        image = Image.fromarray(colors).convert("RGB" if mode == "RGBA" else "L")
        image.putalpha(Image.fromarray(alpha))
        assert image.mode == mode
        image.save(root / "masks" / f"{index}.png")
        Image.new("RGB", (SIDE, SIDE), (index, 2, 3)).save(root / "images" / f"{index}.png")
    return root


def grey(value: int, pixels: int = 100) -> np.ndarray:
    """Background, and the last `pixels` pixels with a value."""
    values = np.zeros((SIDE * SIDE, 3), np.uint8)
    values[-pixels:] = value
    return values.reshape(SIDE, SIDE, 3)


def pixels(dataset: Dataset) -> list[int]:
    """Pixels by label over all splits: classes 0 and 1, and ignored."""
    labels = [dataset.masks.read(record) for records in dataset.splits.values() for record in records]
    return np.bincount(np.concatenate(labels).ravel(), minlength=256)[[0, 1, 255]].tolist()


@pytest.mark.parametrize("mode", ["LA", "RGBA"])
@pytest.mark.parametrize(
    ("foreground", "settings"),
    [(1, {}), (255, {"binary": True}), (255, {"threshold": 128})],
    ids=["indices", "binary", "threshold"],
)
def test_both_ways_out_of_the_message(tmp_path, mode, foreground, settings):
    save(tmp_path, [grey(foreground)] * 4, mode)
    with pytest.raises(PyramidSegError) as caught:
        pixels(opened(tmp_path, **settings))
    for meaning, counts in (
        ("background", [4 * (SIDE * SIDE - 100), 400, 0]),
        ("ignore", [4 * (SIDE * SIDE - 100 - HIDDEN), 400, 4 * HIDDEN]),
    ):
        assert f"data.transparent={meaning}" in str(caught.value)
        assert pixels(opened(tmp_path, transparent=meaning, **settings)) == counts


def test_colours_with_a_list(tmp_path):
    red = grey(0)
    red[-5:] = (200, 10, 10)
    save(tmp_path, [red] * 3, "RGBA")
    text = "classes: [{name: sky, color: [0, 0, 0]}, {name: road, color: [200, 10, 10]}]\n"
    write(tmp_path / "dataset.yaml", text + "transparent: ignore")
    assert pixels(opened(tmp_path)) == [3 * 240, 3 * 100, 3 * HIDDEN]
    write(tmp_path / "dataset.yaml", text + "transparent: background\ntolerance: 20")
    assert pixels(opened(tmp_path)) == [3 * 300, 3 * 100, 0]
    write(tmp_path / "dataset.yaml", text + "transparent: ignore\ntolerance: 20")
    assert pixels(opened(tmp_path)) == [3 * 240, 3 * 100, 3 * HIDDEN]


def test_colours_without_a_list_are_proposed_without_those_that_are_hidden(tmp_path):
    red = grey(0)
    red[-5:] = (200, 10, 10)
    save(tmp_path, [red] * 3, "RGBA")
    with pytest.raises(AmbiguousDatasetError, match="2 colours") as caught:
        opened(tmp_path, transparent="ignore")
    write(tmp_path / "dataset.yaml", caught.value.suggestion)
    assert pixels(opened(tmp_path, transparent="ignore")) == [3 * 240, 3 * 100, 3 * HIDDEN]


def test_opaque_alpha_needs_no_setting_and_the_setting_changes_no_other_mask(tmp_path):
    save(tmp_path, [grey(1)] * 3, "LA")
    for path in (tmp_path / "masks").iterdir():
        Image.open(path).convert("L").point(lambda value: min(value, 1)).convert("LA").save(path)
    before = pixels(opened(tmp_path))
    assert before == pixels(opened(tmp_path, transparent="ignore"))
    assert before[2] == 0


def test_a_dataset_of_such_masks_alone_is_refused(tmp_path):
    save(tmp_path, [grey(1)] * 3, "LA")
    with pytest.raises(DataError, match="transparent pixels; if they are background, set"):
        opened(tmp_path)
