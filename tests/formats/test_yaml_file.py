from pathlib import Path

import pytest

from made_files import first_row, ids, labels, opened, pairs, write
from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.overrides import load_config
from pyramidseg.formats.open_dataset import open_dataset


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for split in ("train", "val"):
        pairs(tmp_path / split / "images", tmp_path / split / "masks", ["a", "b"], 0, 1)
    return tmp_path


def test_class_entries_give_names_colours_and_values(folder: Path) -> None:
    text = "format: paired\nclasses:\n- {name: y, color: [1, 2, 3], value: 1}\n- {name: x, value: 0}\n"
    dataset = opened(write(folder / "d.yml", text))
    assert dataset.classes.names == ("y", "x")
    assert dataset.classes.colors[0] == (1, 2, 3)
    assert first_row(dataset)[:2] == [1, 0]


def test_mapping_gives_values_by_name(folder: Path) -> None:
    dataset = opened(write(folder / "d.yaml", "classes: {second: 1, first: 0}"))
    assert dataset.classes.names == ("second", "first")
    assert first_row(dataset)[:2] == [1, 0]


def test_binary_masks_have_background_and_foreground(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 255)
    dataset = opened(write(tmp_path / "d.yaml", "binary: true"))
    assert dataset.classes.names == ("background", "foreground")
    assert labels(dataset) == [0, 1]


def test_path_is_relative_to_the_file(folder: Path) -> None:
    (folder / "about").mkdir()
    file = write(folder / "about" / "d.yaml", "path: ..\nclasses: [x, y]")
    assert ids(opened(file)) == {"train": ["a", "b"], "val": ["a", "b"]}


def test_splits_can_have_names_of_their_own(folder: Path) -> None:
    (folder / "train").rename(folder / "Summer")
    dataset = opened(write(folder / "d.yaml", "train: Summer\nval: val\nclasses: [x, y]"))
    assert set(dataset.splits) == {"train", "val"}


def test_splits_can_be_two_folders(tmp_path: Path) -> None:
    pairs(tmp_path / "pictures", tmp_path / "truth", ["a", "b"])
    pairs(tmp_path / "val" / "images", tmp_path / "val" / "masks", ["c"])
    text = "train: {images: pictures, masks: truth}\nval: val\nclasses: [x, y]"
    assert ids(opened(write(tmp_path / "d.yaml", text))) == {"val": ["c"], "train": ["a", "b"]}


def test_dataset_yaml_in_a_folder_is_used_with_a_note(folder: Path) -> None:
    write(folder / "dataset.yaml", "classes: [x, y]")
    dataset = opened(folder)
    assert dataset.classes.names == ("x", "y")
    assert any("dataset.yaml" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clases: [a, b]", "d.yaml: unknown key 'clases'; did you mean 'classes'"),
        ("classes: [{name: a, colour: [1, 2, 3]}]", "unknown key 'colour' in classes.0; did you mean 'color'"),
        ("train: {images: a, mask: b}", "unknown key 'mask' in train; did you mean 'masks'"),
        ("train: {images: a}", "d.yaml: train: give the name of a folder, or both images and masks"),
        ("classes: [{name: a, color: [1, 2, 300]}]", "d.yaml: classes.0.color.2=300"),
        ("classes: [{name: a, value: 0}, {name: b}]", "d.yaml: class 'b' has no value"),
        ("classes: {a: 1, b: 1}", "d.yaml: value 1 is given to more than one class"),
        ("classes: [a, b]\nignore: 1", "d.yaml: mask value 1 is both a class and ignored"),
        ("classes: [a, b, c]\nbinary: true", "d.yaml: binary masks have two classes"),
        ("classes: {0: a}", "d.yaml: classes.0.name=0"),
        ("ignore: -3000000000", "d.yaml: ignore.0=-3000000000"),
        ("val_share: 1.5", "d.yaml: val_share=1.5"),
        ("format: piared", "d.yaml: unknown dataset format 'piared'; did you mean 'paired'"),
    ],
)
def test_wrong_content_is_a_config_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        opened(write(folder / "d.yaml", text))
    assert message in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("classes: [a", "d.yaml: not readable as YAML"),
        ("- a", "d.yaml: a mapping with the keys ignore, binary"),
        ("path: elsewhere", "d.yaml: path: folder "),
        ("train: summer", "not recognised as a dataset with the folders 'summer': found train/, val/"),
        ("train: summer\nval: val", "d.yaml: train: no images with masks in a folder 'summer'"),
        ("train: {images: a, masks: b}", "d.yaml: train.images: folder "),
        ("format: segnet", "not recognised as a dataset of format segnet: found train/, val/"),
    ],
)
def test_wrong_places_are_a_data_error(folder: Path, text: str, message: str) -> None:
    with pytest.raises(DataError) as caught:
        opened(write(folder / "d.yaml", text))
    assert message in str(caught.value).splitlines()[0]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("path: ..", "path: '..'"),
        ("path: {outside}", "path: '"),
        ("path: inner\ntrain: {{images: ../../other/images, masks: masks}}", "train.images: '../../other/images'"),
        ("train: {{images: train/images, masks: '{outside}/masks'}}", "train.masks: '"),
        ("val: {{images: val/images, masks: '..\\other\\masks'}}", "val.masks: '"),
    ],
)
def test_a_file_that_comes_with_a_folder_stays_inside_it(folder: Path, text: str, shown: str) -> None:
    outside = folder / "other"
    pairs(outside / "images", outside / "masks", ["a", "b"], 0, 1)
    inside = folder / "data"
    for split in ("train", "val"):
        pairs(inside / split / "images", inside / split / "masks", ["a", "b"], 0, 1)
    (inside / "inner").mkdir()
    file = write(inside / "dataset.yaml", text.format(outside=outside))
    with pytest.raises(DataError) as caught:
        opened(inside)
    assert f"{file}: {shown}" in str(caught.value)
    assert str(caught.value).endswith(f"is outside of {inside}; if it is meant, give the file itself: {file}")


def test_a_file_that_the_user_names_may_lead_anywhere(tmp_path: Path) -> None:
    pairs(tmp_path / "other" / "images", tmp_path / "other" / "masks", ["a", "b"], 0, 1)
    (tmp_path / "mine").mkdir()
    text = "train: {images: ../other/images, masks: ../other/masks}\nclasses: [x, y]"
    assert set(ids(opened(write(tmp_path / "mine" / "dataset.yaml", text)))) == {"train", "val"}


def test_folders_by_way_of_dots_that_stay_inside_are_taken(folder: Path) -> None:
    text = "path: train/..\ntrain: {images: val/../train/images, masks: train/masks}\nclasses: [x, y]"
    write(folder / "dataset.yaml", text)
    assert "train" in ids(opened(folder))


def test_the_settings_that_a_run_has_saved_do_not_override_the_file_by_their_defaults(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b", "c", "d"], 0, 255)
    file = write(tmp_path / "d.yaml", "binary: true\nval_share: 0.5")
    saved = load_config(write(tmp_path / "config.yaml", Config().to_yaml()))
    dataset = open_dataset(file, saved.data)
    assert dataset.classes.names == ("background", "foreground")
    assert [len(records) for records in dataset.splits.values()] == [2, 2]
    assert (
        open_dataset(file, load_config(tmp_path / "config.yaml", {"data.inverted": True}).data).masks != dataset.masks
    )
