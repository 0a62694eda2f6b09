from pathlib import Path
from typing import Any

import pytest

from made_files import has_note, ids, image, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record
from pyramidseg.formats.open_dataset import FORMATS, open_dataset
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError


def test_wrong_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"absent: no such file or folder; a dataset is a folder or a YAML file"):
        opened(tmp_path / "absent")


@pytest.mark.parametrize("source", ["", [], ["data", ""]])
def test_an_empty_name_is_not_the_current_folder(source: Any) -> None:
    with pytest.raises(DataError, match="names no dataset; give a folder"):
        open_dataset(source)


def test_file_that_is_no_description(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"a\.zip: is not a dataset"):
        opened(write(tmp_path / "a.zip", ""))


def test_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="found nothing; known layouts: "):
        opened(tmp_path)


def test_unknown_layout_says_what_was_found_and_what_is_known(tmp_path: Path) -> None:
    for index in range(3):
        image(tmp_path / f"{index}.jpg")
    (tmp_path / "json").mkdir()
    write(tmp_path / ".DS_Store", "")
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert "found json/, 3 .jpg in all;" in str(caught.value)
    assert all(name in str(caught.value) for name in FORMATS)
    assert "\n" not in str(caught.value)


def test_format_that_was_asked_for_and_is_not_there_says_what_it_needs(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    with pytest.raises(
        DataError,
        match=r"not recognised as a dataset of format voc: found images/, masks/, 2 .jpg, 2 .png in all; expected JPEG",
    ):
        opened(tmp_path, format="voc")


def test_unknown_format_is_refused_with_the_nearest(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
    with pytest.raises(
        ConfigError, match=r"data\.format: unknown dataset format 'citiscapes'; did you mean 'cityscapes'"
    ):
        opened(tmp_path, format="citiscapes")


def test_format_without_effect_is_refused(tmp_path: Path) -> None:
    pairs(tmp_path / "a", tmp_path / "b", ["1", "2"])
    file = write(tmp_path / "d.yaml", "train: {images: a, masks: b}\nformat: paired")
    with pytest.raises(ConfigError, match="every split names its own folders, so leave the format out"):
        opened(file)


@pytest.mark.parametrize("depth", [1, 2, 3])
def test_folder_that_holds_nothing_but_the_dataset_is_entered_with_a_note(tmp_path: Path, depth: int) -> None:
    inner = tmp_path.joinpath(*["inner"] * depth)
    pairs(inner / "images", inner / "masks", ["a", "b"])
    write(tmp_path / "README.txt", "")
    dataset = opened(tmp_path)
    assert has_note(dataset, f"the dataset is in {inner}")


def test_link_to_a_folder_above_ends_the_search(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    (tmp_path / "inner" / "loop").symlink_to(tmp_path)
    with pytest.raises(DataError, match="not recognised"):
        opened(tmp_path)


def test_datasets_next_to_each_other_are_pointed_out(tmp_path: Path) -> None:
    for name in ("VOC2007", "VOC2012"):
        image(tmp_path / name / "JPEGImages" / "a.jpg")
        mask(tmp_path / name / "SegmentationClass" / "a.png")
    with pytest.raises(DataError, match=r"are datasets themselves: name .*/VOC2007, .*/VOC2012; known layouts"):
        opened(tmp_path)


def test_folder_of_two_formats_is_refused_until_one_is_chosen(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / split, tmp_path / f"{split}annot", ["a"])
        mask(tmp_path / f"{split}_masks" / "a.png")
    with pytest.raises(DataError, match=r"could be of format paired or segnet; set data\.format"):
        opened(tmp_path)
    with pytest.raises(AmbiguousDatasetError) as caught:
        opened(tmp_path)
    assert opened(tmp_path, format="segnet").classes.names[0] == "sky"
    write(tmp_path / "dataset.yaml", caught.value.suggestion)
    assert opened(tmp_path).layout.startswith("paired")
    (tmp_path / "dataset.yaml").unlink()
    assert opened(write(tmp_path / "d.yaml", "format: paired")).classes.names == ("class 0", "class 1")


def test_error_lists_the_defects_of_each_format_that_fits(tmp_path: Path) -> None:
    for split in ("train", "val"):
        pairs(tmp_path / split, tmp_path / f"{split}annot", ["a"])
    mask(tmp_path / "train_masks" / "a.png")
    with pytest.raises(DataError, match=r"paired or segnet \(as paired, .*val: there is no folder masks or labels"):
        opened(tmp_path)


def test_format_that_covers_another_takes_precedence_over_it(tmp_path: Path) -> None:
    for split in ("training", "validation"):
        pairs(tmp_path / "images" / split, tmp_path / "annotations" / split, ["a"], 0, 1)
    assert opened(tmp_path).layout.startswith("paired")
    write(tmp_path / "objectInfo150.txt", "")
    assert opened(tmp_path).layout.startswith("ADE20K")
    assert opened(tmp_path, format="paired").layout.startswith("paired")


def test_dataset_from_python_is_taken_as_it_is() -> None:
    records = [Record("a", Path("a.jpg"), Path("a.png"))]
    dataset = dataset_from_records(train=records, val=records, classes=["x", "y"])
    assert open_dataset(dataset, DataConfig()) == dataset


@pytest.mark.parametrize(
    "settings",
    [
        {"ignore": (3,)},
        {"binary": True},
        {"threshold": 128},
        {"inverted": True},
        {"tolerance": 2},
        {"resize_masks": True},
        {"class_property": "kind"},
        {"vector_crs": "image"},
        {"format": "voc"},
        {"classes": ("x", "y")},
    ],
)
def test_settings_that_say_nothing_of_a_dataset_from_python_are_refused(settings: dict[str, Any]) -> None:
    records = [Record("a", Path("a.jpg"), Path("a.png"))]
    dataset = dataset_from_records(train=records, val=records, classes=["x", "y"])
    with pytest.raises(ConfigError, match=rf"records: data\.{next(iter(settings))}=.*no effect.*data\.bands"):
        open_dataset(dataset, DataConfig(**settings))


def test_settings_that_hold_for_a_dataset_from_python_are_taken() -> None:
    records = [Record(f"{name}{index}", Path(f"{name}{index}.jpg")) for name in "ab" for index in range(4)]
    dataset = dataset_from_records(train=records, classes=["x", "y"])
    defaults = DataConfig().model_dump()  # as a run's config.yaml has them
    opened = open_dataset(dataset, DataConfig(**{**defaults, "bands": 2, "val_share": 0.4, "group": "^."}))
    assert opened.bands == (2,)
    assert {record.id[0] for record in opened.split("val")} in ({"a"}, {"b"})


def test_split_of_a_format_can_have_another_name(tmp_path: Path) -> None:
    for split in ("summer", "winter"):
        pairs(tmp_path / split, tmp_path / f"{split}annot", [split])
    dataset = opened(write(tmp_path / "d.yaml", "train: summer\nval: winter"))
    assert ids(dataset) == {"train": ["summer"], "val": ["winter"]}


@pytest.mark.parametrize("where", [".", "scans", "a/b"])
def test_files_of_types_that_are_not_read_are_named_and_counted(tmp_path: Path, where: str) -> None:
    for name in ("1.dcm", "2.DCM", "3.nii.gz", "4.tga", "notes.txt"):
        write(tmp_path / where / name, "x")
    with pytest.raises(DataError, match="not recognised as a dataset") as refusal:
        opened(tmp_path)
    assert "2 .dcm, 1 .nii.gz, 1 .tga are not read" in str(refusal.value)
    assert "1 .txt" in str(refusal.value)
