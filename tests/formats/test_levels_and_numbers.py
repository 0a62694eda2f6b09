"""Masks without a class list whose values are not classes: 0 and one value, grey levels, instance numbers."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from made_files import image, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError
from pyramidseg.inspection.inspect_dataset import inspect_dataset

SIDE = 40


def save_masks(root: Path, *masks: NDArray[np.generic]) -> Path:
    (root / "masks").mkdir(parents=True, exist_ok=True)
    for number, values in enumerate(masks):
        image(root / "images" / f"{number}.png", height=values.shape[0], width=values.shape[1])
        Image.fromarray(values).save(root / "masks" / f"{number}.png")
    return root


def square(foreground: int, *, side: int = 12) -> NDArray[np.uint8]:
    values = np.zeros((SIDE, SIDE), np.uint8)
    values[5 : 5 + side, 5 : 5 + side] = foreground
    return values


def pixels(dataset: Dataset) -> list[int]:
    """Pixels of each class over all splits."""
    read = [dataset.masks.read(record) for records in dataset.splits.values() for record in records]
    return np.bincount(np.concatenate([labels.ravel() for labels in read]), minlength=len(dataset.classes)).tolist()


def ways_out(root: Path) -> tuple[AmbiguousDatasetError, list[Dataset]]:
    """The refusal of a dataset, and what every proposal in it leads to if it is pasted."""
    with pytest.raises(AmbiguousDatasetError) as caught:
        opened(root)
    first, *others = caught.value.suggestion.split("# or ")
    texts = ["\n".join(line for line in first.splitlines() if not line.startswith("# "))]
    texts += ["\n".join(line.removeprefix("# ") for line in text.splitlines()[1:]) for text in others]
    datasets = []
    for text in texts:
        write(root / "dataset.yaml", text)
        datasets.append(opened(root))
    (root / "dataset.yaml").unlink()
    return caught.value, datasets


@pytest.mark.parametrize("value", [2, 128, 200, 254])
def test_every_way_out_of_0_and_another_value_gives_two_classes(tmp_path: Path, value: int) -> None:
    error, datasets = ways_out(save_masks(tmp_path, *[square(value)] * 3))
    assert f"foreground, value: {value}" in error.suggestion.split("# or")[0]
    assert "ignore" not in error.suggestion
    assert len(datasets) == 2
    for dataset in datasets:
        assert pixels(dataset) == [3 * (SIDE * SIDE - 144), 3 * 144]


def smoothed(radius: float, *, low: int = 0, high: int = 255) -> NDArray[np.uint8]:
    picture = Image.fromarray(square(255, side=20)).filter(ImageFilter.GaussianBlur(radius))
    return (np.asarray(picture) / 255 * (high - low) + low).astype(np.uint8)


def gradient(levels: int) -> NDArray[np.uint8]:
    return np.resize(np.arange(levels, dtype=np.uint8), (SIDE, SIDE))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: smoothed(0.8), id="slightly smoothed, 1 among the values"),
        pytest.param(lambda: smoothed(4), id="soft"),
        pytest.param(lambda: smoothed(4, high=240), id="soft, never white"),
        pytest.param(lambda: gradient(255), id="all levels but white"),
        pytest.param(lambda: gradient(256), id="all levels"),
    ],
)
def test_grey_masks_are_refused_and_read_from_128_on(tmp_path: Path, make: Callable[[], NDArray[np.uint8]]) -> None:
    mask = make()
    error, datasets = ways_out(save_masks(tmp_path, mask, mask))
    assert "data.threshold=128" in error.suggestion.split("# or")[0]
    foreground = 2 * int((mask >= 128).sum())
    assert pixels(datasets[0]) == [2 * mask.size - foreground, foreground]
    inspection = inspect_dataset(tmp_path)
    assert inspection.classes_unclear
    assert sum(sum(summary.pixels[1:]) for summary in inspection.summaries.values()) in (foreground, 0)


def test_rare_strays_are_ignored_and_the_foreground_is_kept(tmp_path: Path) -> None:
    strays = [square(255) for _ in range(4)]
    strays[0][0, 0], strays[1][0, 0] = 3, 4
    error, datasets = ways_out(save_masks(tmp_path, *strays))
    assert "data.binary=true data.ignore=[3,4]" in error.suggestion
    read = [datasets[0].masks.read(record) for some in datasets[0].splits.values() for record in some]
    assert np.bincount(np.concatenate(read).ravel(), minlength=256)[[0, 1, 255]].tolist() == [5822, 576, 2]


@pytest.mark.parametrize("value", [192, 200, 254])
def test_one_mask_with_another_foreground_value_keeps_it(tmp_path: Path, value: int) -> None:
    masks = [square(255) for _ in range(12)]
    masks[5][0, 0] = value  # a rare one: the others are those of the square
    error, datasets = ways_out(save_masks(tmp_path, *masks))
    assert "data.threshold=128" in error.suggestion and f"data.binary=true data.ignore={value}" in error.suggestion
    for dataset, counts in zip(datasets, ([0, 1, 0], [0, 0, 1]), strict=True):
        read = [dataset.masks.read(record) for some in dataset.splits.values() for record in some]
        found = np.bincount(np.concatenate(read).ravel(), minlength=256)[[0, 1, 255]]
        squares = 12 * int((square(255) > 0).sum())
        assert found.tolist() == [12 * SIDE * SIDE - squares - 1, squares + counts[1], counts[2]]


def test_150_classes_without_gaps_stay_classes(tmp_path: Path) -> None:
    masks = [np.full((SIDE, SIDE), value, np.uint8) for value in range(150)]
    for mask in masks:
        mask[0] = 0
    dataset = opened(save_masks(tmp_path, *masks))
    assert len(dataset.classes) == 150
    assert any("instances" in note and "data.threshold=1" in note for note in dataset.notes)


def instances(count: int, dtype: type[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    values = np.zeros((SIDE, SIDE), dtype)
    values.ravel()[: 2 * count] = np.repeat(np.arange(1, count + 1, dtype=dtype), 2)
    return values


@pytest.mark.parametrize(("count", "dtype"), [(40, np.uint8), (60, np.uint16), (300, np.uint16), (700, np.uint16)])
def test_instance_numbers_become_one_class(tmp_path: Path, count: int, dtype: type[np.unsignedinteger]) -> None:
    mask = instances(count, dtype)
    error, datasets = ways_out(save_masks(tmp_path, mask, mask))
    assert "from: ['*']" in error.suggestion
    assert "data.threshold=1" in error.suggestion
    for dataset in datasets[:2]:
        assert pixels(dataset) == [2 * (mask.size - 2 * count), 4 * count]


class TestRest:
    """`from: "*"`: one class takes all values that are not listed."""

    def described(self, root: Path, text: str) -> Dataset:
        write(root / "dataset.yaml", text)
        return opened(root)

    def test_255_belongs_to_the_rest_unless_it_is_ignored(self, tmp_path: Path) -> None:
        mask = np.array([[0, 1, 2, 255], [0, 1, 7, 300]], np.uint16)
        save_masks(tmp_path, mask, mask)
        text = "classes: [{name: a, value: 0}, {name: b, from: '*'}]"
        assert pixels(self.described(tmp_path, text)) == [4, 12]
        dataset = self.described(tmp_path, f"{text}\nignore: [255, 7]")
        assert np.bincount(dataset.masks.read(dataset.split("train")[0]).ravel())[[0, 1, 255]].tolist() == [2, 4, 2]

    def test_values_may_be_listed_next_to_the_star(self, tmp_path: Path) -> None:
        mask = np.array([[0, 1, 2, 9]], np.uint8)
        text = "classes: [{name: a, from: [0, '*']}, {name: b, value: 9}]"
        dataset = self.described(save_masks(tmp_path, mask, mask), text)
        assert pixels(dataset) == [6, 2]
        write(tmp_path / "dataset.yaml", yaml.safe_dump(dict(dataset.description)))
        assert pixels(opened(tmp_path)) == [6, 2]  # as RUN/dataset.yaml opens it again

    def test_colors(self, tmp_path: Path) -> None:
        mask = np.zeros((2, 4, 3), np.uint8)
        mask[0, 0], mask[0, 1], mask[1, 3] = (255, 0, 0), (0, 9, 0), (1, 2, 3)
        text = "classes: [{name: red, color: [255, 0, 0]}, {name: other, from: '*'}]"
        assert pixels(self.described(save_masks(tmp_path, mask, mask), text)) == [2, 14]

    @pytest.mark.parametrize(
        "text",
        [
            "classes: [{name: a, from: '*'}, {name: b, from: '*'}]",
            "classes: [{name: a, value: 0}, {name: b, from: '*'}]\nignore: ['*']",
        ],
    )
    def test_only_one_may_take_the_rest(self, tmp_path: Path, text: str) -> None:
        with pytest.raises(ConfigError, match=r"'\*'"):
            self.described(save_masks(tmp_path, square(9), square(9)), text)


@pytest.mark.parametrize("mode", ["I;16", "I", "L", "F"])
def test_threshold_takes_integers_of_any_width(tmp_path: Path, mode: str) -> None:
    top = 255 if mode == "L" else 40000
    values = np.array([[0, 99, 100, top]], {"L": np.uint8, "I;16": np.uint16, "I": np.int32, "F": np.float32}[mode])
    (tmp_path / "masks").mkdir()
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.png", height=1, width=4)
        Image.fromarray(values).save(tmp_path / "masks" / f"{name}.tif")
    assert pixels(opened(tmp_path, threshold=100)) == [4, 4]
    if top > 255:
        assert pixels(opened(tmp_path, threshold=40000)) == [6, 2]


def test_one_class_is_a_defect_of_an_inspection(tmp_path: Path) -> None:
    save_masks(tmp_path, square(0), square(0), square(0))
    (defect,) = (one for one in inspect_dataset(tmp_path).defects if one.kind == "empty-class")
    assert "every labelled pixel of split 'train' is of class 'class 0'" in defect.detail
    save_masks(tmp_path, square(200), square(200), square(200))
    found = inspect_dataset(tmp_path, data=DataConfig(ignore=(200,))).defects
    assert "fewer than two classes" in "".join(one.detail for one in found)
