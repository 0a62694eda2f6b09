"""Masks of one class or object each: united, asked where names have two readings, and checked file by file."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import image, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.records import Dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 20, 24
CAR, TREE = (slice(2, 8), slice(0, 10)), (slice(6, 18), slice(5, 20))
"""The tree, which is larger, is behind the car where they overlap."""

EXPECTED = {"background": HEIGHT * WIDTH - 60 - 180 + 10, "car": 60, "tree": 170}


def save(path: Path, *areas: tuple[slice, slice], value: int = 255, mode: str = "L") -> Path:
    pixels = np.zeros((HEIGHT, WIDTH), np.uint8)
    for area in areas:
        pixels[area] = value
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).convert(mode).save(path)
    return path


def counts(dataset: Dataset, split: str = "train") -> dict[str, dict[str, int]]:
    found = {}
    for record in dataset.split(split):
        pixels = np.bincount(dataset.masks.read(record).ravel(), minlength=len(dataset.classes.names))
        found[record.id] = dict(zip(dataset.classes.names, pixels.tolist(), strict=True))
    return found


NAMES = {
    "{stem}_{class}": "masks/{}_{}.png",
    "{class}/{stem}": "masks/{1}/{0}.png",
    "{stem}/{class}": "masks/{}/{}.png",
    "{stem}_class_{class}_1": "masks/{}_class_{}_1.png",
    "mask-{class}-{stem}": "masks/mask-{1}-{0}.png",
}


def layout(root: Path, name: str) -> None:
    for stem in ("a_1", "a_2", "b"):
        image(root / "images" / f"{stem}.jpg", height=HEIGHT, width=WIDTH)
        save(root / NAMES[name].format(stem, "car"), CAR)
        save(root / NAMES[name].format(stem, "tree"), TREE)
    image(root / "images" / "road.jpg", height=HEIGHT, width=WIDTH)
    save(root / NAMES[name].format("road", "tree"), TREE)


@pytest.mark.parametrize("name", NAMES)
def test_a_mask_of_each_class_is_read_by_its_name(tmp_path: Path, name: str) -> None:
    layout(tmp_path, name)
    dataset = opened(tmp_path, mask_name=name, val_share=0.01)
    found = counts(dataset) | counts(dataset, "val")
    tree_alone = {"background": HEIGHT * WIDTH - 180, "car": 0, "tree": 180}
    assert found == {"a_1": EXPECTED, "a_2": EXPECTED, "b": EXPECTED, "road": tree_alone}


def test_the_inspection_counts_the_pixels_in_which_masks_of_several_classes_overlap(tmp_path: Path) -> None:
    layout(tmp_path, "{stem}_{class}")
    found = inspect_dataset(tmp_path, data=DataConfig(mask_name="{stem}_{class}", val_share=0.01))
    (remark,) = [remark for remark in found.remarks if "overlap" in remark]
    assert "overlap in 3 images, in 30 pixels, of which 10 are in" in remark


@pytest.mark.parametrize("name", ["{stem}_{class}", "{class}/{stem}"])
def test_the_question_offers_the_pattern_and_the_pasted_line_is_right(tmp_path: Path, name: str) -> None:
    for stem in ("a_1", "a_2", "b"):
        image(tmp_path / "images" / f"{stem}.jpg", height=HEIGHT, width=WIDTH)
        save(tmp_path / NAMES[name].format(stem, "car"), CAR)
        save(tmp_path / NAMES[name].format(stem, "tree"), TREE)
    with pytest.raises(DataError, match="each class has its own mask") as caught:
        opened(tmp_path)
    (line,) = [line for line in str(caught.value).splitlines() if "{class}" in line]
    write(tmp_path / "mine.yaml", "train: {images: images, masks: masks}\n" + line.removeprefix("# "))
    assert opened(tmp_path / "mine.yaml").classes.names == ("background", "car", "tree")
    write(tmp_path / "dataset.yaml", line.removeprefix("# "))
    dataset = opened(tmp_path)
    assert (counts(dataset) | counts(dataset, "val")) == dict.fromkeys(("a_1", "a_2", "b"), EXPECTED)


@pytest.mark.parametrize("everywhere", [("tree",), ()])
@pytest.mark.parametrize("name", NAMES)
def test_classes_that_some_images_lack_are_offered_as_classes_too(
    tmp_path: Path, name: str, everywhere: tuple[str, ...]
) -> None:
    expected = {}
    for number in range(8):
        stem, there = f"img_{number}", {"car": number % 2 == 0, "tree": bool(everywhere) or number % 4 > 0}
        image(tmp_path / "images" / f"{stem}.jpg", height=HEIGHT, width=WIDTH)
        for label, area in (("car", CAR), ("tree", TREE)):
            if there[label]:
                save(tmp_path / NAMES[name].format(stem, label), area)
        expected[stem] = [label for label in there if there[label]]
    with pytest.raises(DataError, match="images have several masks by their names") as caught:
        opened(tmp_path)
    (line,) = [line for line in str(caught.value).splitlines() if "{class}" in line]
    write(tmp_path / "dataset.yaml", line.removeprefix("# "))
    dataset = opened(tmp_path)
    found = counts(dataset) | counts(dataset, "val")
    assert {id: [label for label in ("car", "tree") if pixels[label]] for id, pixels in found.items()} == expected


def test_names_of_masks_of_classes_are_in_the_advice(tmp_path: Path) -> None:
    for number, label in enumerate(("car", "tree", "sky")):
        image(tmp_path / "images" / f"{label}.jpg", height=HEIGHT, width=WIDTH)
        save(tmp_path / "masks" / f"{number}.png", CAR)
    with pytest.raises(DataError, match=r'"\{stem\}_\{class\}", "\{class\}/\{stem\}" or "\{stem\}/\{class\}"'):
        opened(tmp_path)


def objects(root: Path, *names: str, inner: str = "images/{}.png") -> None:
    for number, id in enumerate(("3f2a", "77b0", "c1d9")):
        image(root / id / inner.format(id), height=HEIGHT, width=WIDTH)
        for name, area in zip(names, (CAR, TREE), strict=True):
            save(root / id / "masks" / f"{name.format(number)}.png", area)


UNITED = {"background": HEIGHT * WIDTH - 230, "foreground": 230}


def test_objects_with_names_of_their_own_are_one_class(tmp_path: Path) -> None:
    objects(tmp_path, "x{}", "y{}")
    dataset = opened(tmp_path)
    assert (counts(dataset) | counts(dataset, "val")) == dict.fromkeys(("3f2a", "77b0", "c1d9"), UNITED)


def test_folders_of_splits_hold_the_folders_of_images(tmp_path: Path) -> None:
    objects(tmp_path / "train", "x{}", "y{}")
    objects(tmp_path / "val", "v{}", "w{}")
    dataset = opened(tmp_path)
    assert counts(dataset) == counts(dataset, "val") == dict.fromkeys(("3f2a", "77b0", "c1d9"), UNITED)


@pytest.mark.parametrize("inner", ["images/{}.png", "image.png"])
def test_names_that_repeat_are_asked_and_each_pasted_line_is_right(tmp_path: Path, inner: str) -> None:
    objects(tmp_path, "car", "tree", inner=inner)
    with pytest.raises(DataError, match="'car', which may be the name of a class or of an object") as caught:
        opened(tmp_path)
    lines = [line.removeprefix("# ") for line in str(caught.value).splitlines() if "mask_name" in line]
    for line, expected in zip(lines, (EXPECTED, UNITED), strict=True):
        write(tmp_path / "dataset.yaml", line)
        dataset = opened(tmp_path)
        assert (counts(dataset) | counts(dataset, "val")) == dict.fromkeys(("3f2a", "77b0", "c1d9"), expected)


def test_folders_that_lack_something_are_named(tmp_path: Path) -> None:
    objects(tmp_path, "x{}", "y{}")
    image(tmp_path / "previews" / "a.png")
    assert any("folders without a folder masks were left out: previews" in note for note in opened(tmp_path).notes)
    (tmp_path / "77b0" / "images" / "77b0.png").rename(tmp_path / "77b0" / "images" / "77b0.dcm")
    with pytest.raises(DataError, match=r"mask without an image \(1\): 77b0"):
        opened(tmp_path)


def test_palette_and_one_bit_masks_count_by_their_numbers(tmp_path: Path) -> None:
    layout(tmp_path, "{stem}_{class}")
    save(tmp_path / "masks" / "b_car.png", CAR, mode="1")
    file = Image.fromarray(np.where(np.indices((HEIGHT, WIDTH))[0] < 3, 1, 0).astype(np.uint8), "P")
    file.putpalette([255, 255, 255, 0, 0, 0])  # 0 is white
    file.save(tmp_path / "masks" / "b_tree.png")
    dataset = opened(tmp_path, mask_name="{stem}_{class}")
    found = (counts(dataset) | counts(dataset, "val"))["b"]
    assert found["car"] + found["tree"] == 60 + 3 * WIDTH - 10


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda file: save(file, CAR, TREE, value=255) and _grey(file), "has the values .*0 and another one"),
        (lambda file: Image.new("L", (5, 4)).save(file), r"its size is \(4, 5\)"),
        (lambda file: file.write_bytes(b"no image"), "b_car.png"),
    ],
)
def test_a_mask_that_cannot_be_one_object_is_named(tmp_path: Path, damage: object, message: str) -> None:
    layout(tmp_path, "{stem}_{class}")
    damage(tmp_path / "masks" / "b_car.png")  # type: ignore[operator]
    with pytest.raises(DataError, match=message) as caught:
        check_dataset(opened(tmp_path, mask_name="{stem}_{class}"))
    assert "b_car.png" in str(caught.value)


def _grey(file: Path) -> None:
    Image.fromarray(np.arange(HEIGHT * WIDTH, dtype=np.uint16).reshape(HEIGHT, WIDTH).astype(np.uint8)).save(file)


def test_an_image_without_any_mask_is_a_defect_and_other_files_are_counted(tmp_path: Path) -> None:
    layout(tmp_path, "{stem}_{class}")
    save(tmp_path / "masks" / "preview.png", CAR)
    dataset = opened(tmp_path, mask_name="{stem}_{class}")
    assert any("1 files in" in note and "preview.png" in note for note in dataset.notes)
    image(tmp_path / "images" / "lone.jpg", height=HEIGHT, width=WIDTH)
    with pytest.raises(DataError, match=r"lone\.jpg: no mask in .*named '\{stem\}_\{class\}'"):
        opened(tmp_path, mask_name="{stem}_{class}")


def test_patterns_without_effect_are_refused(tmp_path: Path) -> None:
    layout(tmp_path, "{stem}_{class}")
    for name in ("{class}", "*"):
        with pytest.raises(ConfigError, match=r"has to contain \{stem\}"):
            opened(tmp_path, mask_name=name)
    for name in ("{stem}{class}", "{class}_x", "{stem}_{class}_{class}"):
        with pytest.raises(ConfigError, match=r"has to contain \{stem\} once"):
            opened(write(tmp_path / "mine.yaml", f'mask_name: "{name}"\n'))
    objects(tmp_path / "other", "x{}", "y{}")
    with pytest.raises(ConfigError, match=r"allowed: \{class\} or \*"):
        opened(tmp_path / "other", mask_name="{stem}_x")
