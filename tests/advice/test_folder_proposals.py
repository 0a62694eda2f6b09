"""Lines of YAML and settings that messages about folders, formats and lists propose."""

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from followed import alternatives, counted, message, paste, sizes
from made_files import color_mask, ids, image, mask, opened, pairs, write

HALVES = {"class 0": 24, "class 1": 24}


def splits(*names: str, images: str = "{}/foto", masks: str = "{}/truth") -> Callable[[Path], None]:
    """Two pairs of the same names in each split."""

    def make(root: Path) -> None:
        for name in names:
            pairs(root / images.format(name), root / masks.format(name), "ab")

    return make


def truth_before_image(root: Path) -> None:
    """Colour masks, and RGB images in a folder whose name comes later."""
    random = np.random.default_rng(0)
    for name in "ab":
        color_mask(root / "annot" / f"{name}.png", (0, 0, 0), (255, 0, 0))
        (root / "views").mkdir(exist_ok=True)
        Image.fromarray(random.integers(0, 256, (3, 4, 3), np.uint8)).save(root / "views" / f"{name}.png")


def with_suffix(root: Path) -> None:
    for name in "ab":
        image(root / "foto" / f"{name}.jpg")
        mask(root / "truth" / f"{name}_gt.png")


def two_kinds_of_masks(root: Path) -> None:
    """One folder of masks, and one of depths with many levels."""
    pairs(root / "foto", root / "truth", "ab")
    for name in "ab":
        mask(root / "depth" / f"{name}.png", *range(12))


FOLDERS: dict[str, tuple[Callable[[Path], None], dict[str, int], dict[str, int]]] = {
    "two folders": (splits("", images="foto", masks="truth"), {"train": 1, "val": 1}, {"class 0": 12, "class 1": 12}),
    "splits above": (splits("train", "val"), {"train": 2, "val": 2}, HALVES),
    "splits below": (splits("train", "val", images="foto/{}", masks="truth/{}"), {"train": 2, "val": 2}, HALVES),
    "three splits": (
        splits("Training", "valid", "test"),
        {"train": 2, "val": 2, "test": 2},
        {"class 0": 36, "class 1": 36},
    ),
    "splits in names": (
        splits("train", "val", images="{}", masks="truth_{}"),
        {"train": 2, "val": 2},
        HALVES,
    ),
    "masks below the images": (
        splits("train", "val", "test", images="{}", masks="{}/truth"),
        {"train": 2, "val": 2, "test": 2},
        {"class 0": 36, "class 1": 36},
    ),
    "suffix of the masks": (with_suffix, {"train": 1, "val": 1}, {"class 0": 12, "class 1": 12}),
    "depths next to masks": (two_kinds_of_masks, {"train": 1, "val": 1}, {"class 0": 12, "class 1": 12}),
}


@pytest.mark.parametrize("name", FOLDERS)
def test_the_first_folders_proposed_are_the_right_ones(tmp_path: Path, name: str) -> None:
    make, found, pixels = FOLDERS[name]
    make(tmp_path)
    paste(message(lambda: opened(tmp_path)))
    dataset = opened(tmp_path)
    assert sizes(dataset) == found and counted(dataset) == pixels
    for split, records in dataset.splits.items():
        files = [str(file and file.relative_to(tmp_path)).lower() for file in (records[0].image, records[0].mask)]
        assert "truth" in files[1] and "truth" not in files[0]
        assert found == {"train": 1, "val": 1} or all(split[:3] in file for file in files)


def test_images_of_many_colours_are_proposed_as_images_whatever_the_names(tmp_path: Path) -> None:
    truth_before_image(tmp_path)
    paste(message(lambda: opened(tmp_path)))
    paste(message(lambda: opened(tmp_path)))  # the colours of the masks
    assert counted(opened(tmp_path)) == {"class 0": 12, "class 1": 12}
    assert opened(tmp_path).split("train")[0].image.parent.name == "views"


@pytest.mark.parametrize("choice", [0, 1])
def test_two_folders_of_masks_in_every_split(tmp_path: Path, choice: int) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / split / "images", tmp_path / split / "masks", "ab", 0, 1)
        pairs(tmp_path / split / "images", tmp_path / split / "labels", "ab", 0, 1, 2)
    paste(message(lambda: opened(tmp_path)), choice)
    dataset = opened(tmp_path)
    assert sizes(dataset) == {"train": 2, "val": 2}
    assert len(dataset.classes) == 3 - ("/masks/" in str(dataset.split("val")[0].mask))


def vessels(root: Path, truth: str) -> None:
    """Images with labels of 4 pixels of class 1, and next to them the field of view, of 8."""
    for number in (21, 22):
        image(root / "images" / f"{number}_training.tif")
        mask(root / truth / f"{number}_manual1.png", 1, 0, 0)
        mask(root / "mask" / f"{number}_training_mask.png", 1, 1, 0)


@pytest.mark.parametrize("places", [(), ("training",), ("training", "test")])
@pytest.mark.parametrize(
    ("truth", "choice"), [("1st_manual", 0), ("manual", 0), ("manual1", 0), ("labels", 0), ("manual", 1)]
)
def test_labels_next_to_a_mask_of_the_field_of_view(
    tmp_path: Path, places: tuple[str, ...], truth: str, choice: int
) -> None:
    for place in places or (".",):
        vessels(tmp_path / place, truth)
    paste(message(lambda: opened(tmp_path)), choice)
    images = 2 * max(1, len(places))
    ones = images * (8 if choice else 4)
    assert counted(opened(tmp_path)) == {"class 0": 12 * images - ones, "class 1": ones}
    assert sizes(opened(tmp_path)) == {"train": 1, "val": 1} | ({"test": 2} if "test" in places else {})


def test_only_the_splits_with_labels_are_read_next_to_a_field_of_view(tmp_path: Path) -> None:
    for place in ("training", "test"):
        vessels(tmp_path / place, "manual")
    for file in (tmp_path / "test" / "manual").iterdir():
        file.unlink()
    (tmp_path / "test" / "manual").rmdir()
    paste(message(lambda: opened(tmp_path)))
    assert sizes(opened(tmp_path)) == {"train": 1, "val": 1}
    assert counted(opened(tmp_path)) == {"class 0": 16, "class 1": 8}


@pytest.mark.parametrize(
    ("picture", "truth"),
    [("im{}", "truth{}"), ("{}_photo", "{}_truth"), ("photo_{}", "truth_{}"), ("{}", "{}_L"), ("{}-a", "{}-b")],
)
@pytest.mark.parametrize("names", [("001", "002", "010"), ("cat", "dog", "eel")])
def test_one_folder_of_images_and_masks_of_unknown_words(
    tmp_path: Path, picture: str, truth: str, names: tuple[str, ...]
) -> None:
    for count, name in enumerate(names, 1):
        image(tmp_path / f"{picture.format(name)}.png")
        mask(tmp_path / f"{truth.format(name)}.png", *[1] * count, *[0] * (12 - count))
    text = message(lambda: opened(tmp_path))
    if (picture, names[0]) == ("im{}", "cat"):  # neither a number nor a separator shows where the name begins
        assert "for one folder, and mask_name: ..." in text
        write(tmp_path / "dataset.yaml", "train: {images: ., masks: .}\nmask_name: truth{stem}\n")
        assert "lines such as images/a.jpg masks/b.png to train.txt" in message(lambda: opened(tmp_path))
        (tmp_path / "dataset.yaml").unlink()
        write(tmp_path / "train.txt", "imcat.png truthcat.png\nimdog.png truthdog.png\n")
        write(tmp_path / "val.txt", "imeel.png trutheel.png\n")
    else:
        paste(text)
    assert counted(opened(tmp_path)) == {"class 0": 30, "class 1": 6}


@pytest.mark.parametrize("stated", ["setting", "file"])
@pytest.mark.parametrize("format", ["segnet", "voc", "coco", "cityscapes"])
def test_a_format_that_does_not_fit_is_left_out(tmp_path: Path, format: str, stated: str) -> None:
    splits("train", "val", images="{}/images", masks="{}/masks")(tmp_path)
    if stated == "file":
        write(tmp_path / "dataset.yaml", f"format: {format}\n")
    text = message(lambda: opened(tmp_path, **({"format": format} if stated == "setting" else {})))
    assert "leave the format out (data.format)" in text and "paste" not in text
    (tmp_path / "dataset.yaml").unlink(missing_ok=True)
    assert sizes(opened(tmp_path)) == {"train": 2, "val": 2} and counted(opened(tmp_path)) == HALVES


def test_a_format_next_to_named_folders_is_left_out(tmp_path: Path) -> None:
    pairs(tmp_path / "a", tmp_path / "b", "ab")
    lines = "train: {images: a, masks: b}\n"
    file = write(tmp_path / "d.yaml", f"{lines}format: paired\n")
    assert "leave the format out" in message(lambda: opened(file))
    assert counted(opened(write(file, lines))) == {"class 0": 12, "class 1": 12}


def test_datasets_in_a_folder_are_named_but_not_its_splits(tmp_path: Path) -> None:
    for name in ("north", "south"):
        pairs(tmp_path / name / "images", tmp_path / name / "masks", name)
    text = message(lambda: opened(tmp_path))
    named = text.partition("datasets themselves: name ")[2].partition("; known")[0].split(", ")
    assert [sum(sizes(opened(Path(name))).values()) for name in named] == [5, 5]
    assert "datasets themselves" not in text.replace(named[0], "").partition("paste")[2]


def test_either_format_of_a_folder_can_be_pasted(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / split, tmp_path / f"{split}annot", "ab", 0, 1)
        mask(tmp_path / f"{split}_masks" / "a.png", 0, 1, 2)
        mask(tmp_path / f"{split}_masks" / "b.png", 0, 1, 2)
    text = message(lambda: opened(tmp_path))
    layouts = []
    for choice in range(len(alternatives(text))):
        file = paste(text, choice)
        layouts.append((opened(tmp_path).classes.names[0], sum(counted(opened(tmp_path)).values())))
        file.unlink()
    assert sorted(layouts) == [("class 0", 48), ("sky", 48)]


def test_files_next_to_each_other_that_are_moved_apart(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / f"{name}.png")
        mask(tmp_path / f"{name}.tif")
    assert "move the masks into a folder masks next to a folder images" in message(lambda: opened(tmp_path))
    for name, end in (("images", "png"), ("masks", "tif")):
        (tmp_path / name).mkdir()
        for file in tmp_path.glob(f"*.{end}"):
            file.rename(tmp_path / name / file.name)
    assert counted(opened(tmp_path)) == HALVES


def test_masks_of_two_suffixes_are_chosen_by_the_line_that_is_pasted(tmp_path: Path) -> None:
    for name in "abcd":
        image(tmp_path / "d" / f"{name}.png")
        mask(tmp_path / "d" / f"{name}_mask.png")
        mask(tmp_path / "d" / f"{name}_label.png", 0, 1, 2)
    text = message(lambda: opened(tmp_path / "d"))
    for choice, expected in enumerate((HALVES, {"class 0": 16, "class 1": 16, "class 2": 16})):
        file = paste(text, choice)
        assert counted(opened(tmp_path / "d")) == expected
        file.unlink()


def test_names_that_do_not_agree_are_listed_in_the_form_that_is_shown(tmp_path: Path) -> None:
    for number, name in enumerate("abcd"):
        image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / f"x{number}y.png")
    text = message(lambda: opened(tmp_path))
    example = text.partition("write lines such as ")[2].partition(" to train.txt and val.txt")[0]
    assert example == "images/a.jpg masks/b.png"
    for split, places in (("train", (0, 1, 2)), ("val", (3,))):
        form = example.replace("a.jpg", "{}.jpg").replace("b.png", "x{}y.png")
        lines = [form.format("abcd"[at], at) for at in places]
        write(tmp_path / f"{split}.txt", "\n".join(lines))
    dataset = opened(tmp_path)
    assert sizes(dataset) == {"train": 3, "val": 1} and counted(dataset) == HALVES
    assert dataset.split("val")[0].mask == tmp_path / "masks" / "x3y.png"


def test_a_split_below_the_layout_is_read_by_naming_the_folder_above_it(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / "data" / split / "images", tmp_path / "data" / split / "masks", split)
    (tmp_path / "docs").mkdir()
    text = message(lambda: opened(tmp_path))
    named = text.partition("name ")[2].split()[0].rstrip(",;")
    assert ids(opened(Path(named)))["val"] == ["a", "l", "v"]


@pytest.mark.parametrize("remedy", ["add samples", "rename it", "remove it"])
def test_a_split_that_is_empty(tmp_path: Path, remedy: str) -> None:
    pairs(tmp_path / "train" / "images", tmp_path / "train" / "masks", "abcd")
    (tmp_path / "val").mkdir()
    text = message(lambda: opened(tmp_path))
    assert remedy in text
    if remedy == "add samples":
        pairs(tmp_path / "val" / "images", tmp_path / "val" / "masks", "e")
    elif remedy == "rename it":
        (tmp_path / "val").rename(tmp_path / "empty")
    else:
        (tmp_path / "val").rmdir()
    assert sum(sizes(opened(tmp_path)).values()) == (5 if remedy == "add samples" else 4)


@pytest.mark.parametrize("remedy", ["add", "remove"])
def test_an_image_without_a_mask(tmp_path: Path, remedy: str) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", "abc")
    lone = image(tmp_path / "images" / "d.jpg")
    assert "add it, or remove this file" in message(lambda: opened(tmp_path))
    mask(tmp_path / "masks" / "d.png") if remedy == "add" else lone.unlink()
    assert sum(sizes(opened(tmp_path)).values()) == (4 if remedy == "add" else 3)


@pytest.mark.parametrize("other", ["Train", "training"])
def test_two_folders_of_one_split_are_named_whatever_the_format(tmp_path: Path, other: str) -> None:
    for place in ("train", other):
        pairs(tmp_path / place / "images", tmp_path / place / "masks", f"{place[0]}bc")
    if len(list(tmp_path.iterdir())) == 1:
        pytest.skip("the file system ignores case")
    text = message(lambda: opened(tmp_path))
    assert "hold images; name the right one in a YAML file" in text and "data.format" not in text
    form = re.search(r"\((train: \{images: \.\.\., masks: \.\.\.\})\)", text)[1]
    write(tmp_path / "dataset.yaml", form.replace("images: ...", "images: train/images").replace("...", "train/masks"))
    assert sizes(opened(tmp_path)) == {"train": 2, "val": 1}


@pytest.mark.parametrize("remedy", ["add it", "name the splits that have masks"])
def test_a_split_without_masks(tmp_path: Path, remedy: str) -> None:
    splits("train", images="{}/images", masks="{}/masks")(tmp_path)
    for name in "cd":
        image(tmp_path / "val" / "images" / f"{name}.jpg")
    text = message(lambda: opened(tmp_path))
    assert remedy in text
    if remedy == "add it":
        pairs(tmp_path / "val" / "images", tmp_path / "val" / "masks", "cd")
        assert sizes(opened(tmp_path)) == {"train": 2, "val": 2}
    else:
        write(tmp_path / "dataset.yaml", re.search(r"\((train: train)\)", text)[1])
        assert sizes(opened(tmp_path)) == {"train": 1, "val": 1}


def test_a_second_folder_in_one_split_only_is_not_proposed_first(tmp_path: Path) -> None:
    for split in ("train", "val"):
        for name in "abc":
            image(tmp_path / split / "images" / f"{name}.jpg")
            mask(tmp_path / split / "masks" / f"{name}.png")
    for name in "abc":
        mask(tmp_path / "val" / "labels" / f"{name}.png", 0, 1, 2)
    paste(message(lambda: opened(tmp_path)), 0)
    assert len(opened(tmp_path).classes) == 2 and [*opened(tmp_path).splits] == ["train", "val"]
