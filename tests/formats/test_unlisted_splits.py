"""Folders called like a split that nothing is listed from, and those that only look like it."""

import re
import shutil
from pathlib import Path

import pytest

from made_files import has_note, ids, image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects


def unread(root: Path) -> list[str]:
    _, found = open_with_defects(root, DataConfig())
    assert {defect.kind for defect in found} <= {DefectKind.ABSENT}
    return [str(defect.file.relative_to(root)) for defect in found]


@pytest.fixture
def train(tmp_path: Path) -> Path:
    """`train/images`, `train/masks`."""
    pairs(tmp_path / "train" / "images", tmp_path / "train" / "masks", ["a", "b", "c"], 0, 1)
    return tmp_path


@pytest.mark.parametrize("name", ["val", "Valid", "validation", "val2017", "val_masks", "val-images", "valannot"])
def test_split_that_lacks_its_partner_is_named(train: Path, name: str) -> None:
    image(train / name / "d.jpg")
    assert unread(train) == [name]


def test_empty_folder_is_named(train: Path) -> None:
    (train / "val").mkdir()
    assert unread(train) == ["val"]


def test_sides_with_the_splits_below_them(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / "images" / split, tmp_path / "masks" / split, ["a", "b"], 0, 1)
    shutil.rmtree(tmp_path / "images" / "val")
    assert unread(tmp_path) == ["masks/val"]


@pytest.mark.parametrize("name", ["train_logs", "validate.py.d", "vals", "runs", "trainer"])
def test_other_folders_are_nobodys_split(train: Path, name: str) -> None:
    image(train / name / "d.jpg")
    assert unread(train) == []


def test_yaml_file_says_which_splits_count(train: Path) -> None:
    image(train / "val" / "d.jpg")
    write(train / "dataset.yaml", "train: train\n")
    assert set(ids(opened(train))) == {"train", "val"}  # val is made


def test_folder_whose_images_are_listed_otherwise_is_read(tmp_path: Path) -> None:
    pairs(tmp_path / "images" / "valid", tmp_path / "masks" / "valid", ["a", "b"], 0, 1)
    pairs(tmp_path / "images" / "train", tmp_path / "masks" / "train", ["c", "d"], 0, 1)
    assert unread(tmp_path) == []


def test_test_split_is_left_out_with_a_note(train: Path) -> None:
    pairs(train / "val" / "images", train / "val" / "masks", ["d"], 0, 1)
    image(train / "test" / "e.jpg")
    assert has_note(opened(train), str(train / "test"), "left out")


@pytest.mark.parametrize("name", ["test", "val"])
def test_split_among_training_images_is_named_with_the_folder_to_name(tmp_path: Path, name: str) -> None:
    for split in ("train", name):
        for stem in ("a", "b"):
            image(tmp_path / "data" / split / f"{stem}.jpg")
            mask(tmp_path / "data" / split / f"{stem}_mask.png")
    write(tmp_path / "docs" / "readme.md", "")
    with pytest.raises(DataError, match=f"data/{name}: .* listed as train .* name {tmp_path}/data as the dataset"):
        opened(tmp_path)
    assert set(ids(opened(tmp_path / "data"))) >= {"train", name}


def test_test_split_below_each_site_is_named_once(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / "images" / "site" / split, tmp_path / "annotations" / "site" / split, ["a", "b"], 0, 1)
    assert unread(tmp_path) == ["images/site/test"]


def test_folder_called_test_that_lists_put_into_train_is_noted(tmp_path: Path) -> None:
    for split in ("train", "test"):
        pairs(tmp_path / "images" / "site" / split, tmp_path / "masks" / "site" / split, [f"{split}1"], 0, 1)
    write(tmp_path / "train.txt", "test1\n")
    write(tmp_path / "val.txt", "train1\n")
    assert has_note(opened(tmp_path), str(tmp_path / "images" / "site" / "test"), "are listed as train")


def test_dev_is_val(train: Path) -> None:
    pairs(train / "dev" / "images", train / "dev" / "masks", ["d"], 0, 1)
    assert ids(opened(train)) == {"train": ["a", "b", "c"], "val": ["d"]}


@pytest.mark.parametrize("name", ["validate", "Eval", "evaluation"])
@pytest.mark.parametrize("is_below", [False, True], ids=["above", "below"])
def test_val_of_a_rare_name_is_read_once_the_yaml_of_the_message_names_it(
    tmp_path: Path, name: str, is_below: bool
) -> None:
    for split, ids_of in (("train", ["a", "b", "c"]), (name, ["d"])):
        sides = [tmp_path / side / split if is_below else tmp_path / split / side for side in ("images", "masks")]
        pairs(*sides, ids_of, 0, 1)
    with pytest.raises(DataError, match=f"named like split 'val'.*val: {name}") as refused:
        opened(tmp_path)
    advice = re.search(r"YAML file \((.*?)\)", str(refused.value))
    assert advice
    write(tmp_path / "dataset.yaml", advice[1].replace(", ", "\n"))
    assert ids(opened(tmp_path)) == {"train": ["a", "b", "c"], "val": ["d"]}


def test_usual_name_takes_precedence_over_a_rare_one(train: Path) -> None:
    for name in ("val", "eval"):
        pairs(train / name / "images", train / name / "masks", [name], 0, 1)
    assert ids(opened(train))["val"] == ["val"]


def test_folders_of_rare_names_without_images_are_not_splits(train: Path) -> None:
    write(train / "dev" / "notes.txt", "")
    write(train / "eval" / "metrics.csv", "")
    assert set(ids(opened(train))) == {"train", "val"}  # val is made


def test_folders_next_to_the_splits_are_not_read(train: Path) -> None:
    pairs(train / "holdout" / "images", train / "holdout" / "masks", ["d"], 0, 1)
    image(train / "overlays" / "d.jpg")
    assert sorted(sum((list(names) for names in ids(opened(train)).values()), start=list[str]())) == ["a", "b", "c"]
