from pathlib import Path

import pytest

from made_files import has_note, ids, image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b", "deep/c", "d"])
    return tmp_path


def test_lists_divide_a_folder_without_splits_with_a_note(folder: Path) -> None:
    write(folder / "train.txt", "a\nb\n")
    write(folder / "val.txt", "deep/c\n")
    dataset = opened(folder)
    assert ids(dataset) == {"train": ["a", "b"], "val": ["deep/c"]}
    assert has_note(dataset, "divided by train.txt, val.txt")
    assert has_note(dataset, "1 images are in none of these lists")


def test_what_is_in_no_list_is_for_training_where_there_is_none_for_it(folder: Path) -> None:
    write(folder / "valid.txt", "b.jpg\n")
    assert ids(opened(folder)) == {"train": ["a", "d", "deep/c"], "val": ["b"]}


def test_list_of_val_may_have_a_rare_name_next_to_one_for_training(folder: Path) -> None:
    write(folder / "evaluation.txt", "mIoU 0.7\n")
    assert not has_note(opened(folder), "divided by")
    write(folder / "train.txt", "a\nb\n")
    write(folder / "evaluation.txt", "d\n")
    assert ids(opened(folder)) == {"train": ["a", "b"], "val": ["d"]}


@pytest.mark.parametrize(
    "name",
    [
        "c",
        "c.jpg",
        "deep/c.jpg",
        "./images/deep/c.jpg",
        "/data/set/c.JPG",
        "images\\c.jpg",
        "https://h/%63.jpg?v=1",
        "/get/?d=up/c.jpg",
    ],
)
def test_images_are_found_by_the_names_that_people_write(folder: Path, name: str) -> None:
    write(folder / "splits" / "val.txt", f"{name} masks/c.png\n")
    assert ids(opened(folder))["val"] == ["deep/c"]


def test_list_of_other_images_is_one_defect(folder: Path) -> None:
    write(folder / "val.txt", "".join(f"M-33-{index}\n" for index in range(500)))
    with pytest.raises(DataError, match=r"val\.txt: none of its 500 names, such as 'M-33-0', is an image with a mask"):
        opened(folder)


def test_list_for_training_alone_leaves_the_rest_out(folder: Path) -> None:
    write(folder / "train.txt", "a\nb\n")
    assert sorted(sum((list(names) for names in ids(opened(folder)).values()), start=list[str]())) == ["a", "b"]


def test_lists_divide_masks_next_to_images_too(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / f"{name}_sat.jpg")
        mask(tmp_path / f"{name}_mask.png")
    write(tmp_path / "val.txt", "b_sat.jpg\n")
    assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["b"]}


def test_names_without_an_image_are_refused(folder: Path) -> None:
    write(folder / "val.txt", "a\nx\n")
    with pytest.raises(
        DataError, match=r"val\.txt: 'x' is not the name of an image with a mask; remove it from the list"
    ):
        opened(folder)


def test_name_of_two_images_is_refused(folder: Path) -> None:
    pairs(folder / "images", folder / "masks", ["other/c"])
    write(folder / "val.txt", "c\n")
    with pytest.raises(DataError, match="'c' is not the name of an image"):
        opened(folder)


@pytest.mark.parametrize("text", [b"", b"# none\n", b"\xff\xfe"])
def test_what_no_list_names_is_inspected_for_one_that_names_nothing(folder: Path, text: bytes) -> None:
    (folder / "train.txt").write_bytes(text)
    write(folder / "val.txt", "deep/c\n")
    dataset, found = open_with_defects(folder, DataConfig())
    assert ids(dataset) == {"train": ["a", "b", "d"], "val": ["deep/c"]}
    assert [defect.file.name for defect in found] == ["train.txt"]
    assert has_note(dataset, "3 images are in none of these lists and are inspected as train")
    with pytest.raises(DataError, match=r"train\.txt"):
        opened(folder)


def test_name_in_two_lists_is_named(folder: Path) -> None:
    write(folder / "train.txt", "a\ndeep/c\n")
    write(folder / "val.txt", "c\n")
    with pytest.raises(DataError, match=r"val\.txt: names 'deep/c', and so does train\.txt"):
        opened(folder)


@pytest.mark.parametrize("other", ["train_aug.txt", "train-extra.lst", "fold1_train.txt", "my_training.txt"])
def test_another_list_of_a_split_is_not_read_with_a_note_that_leads_to_it(folder: Path, other: str) -> None:
    write(folder / "train.txt", "a\n")
    write(folder / other, "a\nb\n")
    write(folder / "val.txt", "c\n")
    dataset = opened(folder)
    assert ids(dataset) == {"train": ["a"], "val": ["deep/c"]}
    assert has_note(dataset, f"{other} is not read, because there is train.txt; rename it train.txt to use it")
    (folder / other).rename(folder / "train.txt")
    assert ids(opened(folder)) == {"train": ["a", "b"], "val": ["deep/c"]}


@pytest.mark.parametrize("other", ["train_val.txt", "trainval.txt", "val_of_train.txt", "constraints.txt", "notes.txt"])
def test_lists_of_both_splits_and_other_files_are_not_noted(folder: Path, other: str) -> None:
    write(folder / "train.txt", "a\nb\n")
    write(folder / other, "a\nb\nc\n")
    write(folder / "val.txt", "c\n")
    assert not has_note(opened(folder), "is not read")


def test_the_augmented_list_of_pascal_voc_is_noted(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask(tmp_path / "SegmentationClass" / f"{name}.png")
    for name, lines in (("train", "a\n"), ("train_aug", "a\nb\n"), ("val", "c\n"), ("trainval", "a\nc\n")):
        write(tmp_path / "ImageSets" / "Segmentation" / f"{name}.txt", lines)
    dataset = opened(tmp_path)
    assert ids(dataset) == {"train": ["a"], "val": ["c"]}
    assert has_note(dataset, "train_aug.txt is not read", "rename it train.txt")
    assert not has_note(dataset, "trainval.txt is not read")
