import itertools
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import first_row, has_note, ids, image, labels, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.formats.cityscapes import ENCODINGS, LABELS

IDS = np.arange(34, dtype=np.uint8)[None]
TRAIN_ID = itertools.count()
TRAIN_IDS = [255 if label.ignored else next(TRAIN_ID) for label in LABELS]


def city(folder: Path, *kinds: str, truth: str = "gtFine", splits: tuple[str, ...] = ("train", "val")) -> Path:
    """One image of each of two cities a split, with every label in the masks of each kind."""
    for split in splits:
        for name in ("aachen", "zurich"):
            stem = f"{name}_000000_000019"
            image(folder / "leftImg8bit" / split / name / f"{stem}_leftImg8bit.png", height=1, width=34)
            place = folder / truth / split / name
            place.mkdir(parents=True, exist_ok=True)
            made = {
                "labelIds": IDS,
                "labelTrainIds": np.array([TRAIN_IDS], np.uint8),
                "instanceIds": IDS.astype(np.uint16) * 1000,
                "color": np.array([[(*label.color, 255) for label in LABELS]], np.uint8),
            }
            for kind in kinds:
                Image.fromarray(made[kind]).save(place / f"{stem}_{truth}_{kind}.png")
            write(place / f"{stem}_{truth}_polygons.json", "{}")
    return folder


def test_label_ids_become_the_19_classes(tmp_path: Path) -> None:
    dataset = opened(city(tmp_path, "labelIds", "instanceIds", "color"))
    assert dataset.layout == "Cityscapes (leftImg8bit, gtFine labelIds)"
    assert ids(dataset)["train"] == ["aachen/aachen_000000_000019", "zurich/zurich_000000_000019"]
    assert len(dataset.classes) == 19
    assert (dataset.classes.names[0], dataset.classes.names[18]) == ("road", "bicycle")
    assert dataset.classes.colors[13] == (0, 0, 142)
    assert first_row(dataset) == TRAIN_IDS


def test_train_ids_are_read_as_they_are(tmp_path: Path) -> None:
    dataset = opened(city(tmp_path, "labelTrainIds", "instanceIds"))
    assert dataset.layout.endswith("gtFine labelTrainIds)")
    assert first_row(dataset) == TRAIN_IDS


def test_colours_agree_with_label_ids_but_for_the_polegroup(tmp_path: Path) -> None:
    dataset = opened(city(tmp_path, "color"))
    expected = [5 if label.name == "polegroup" else index for label, index in zip(LABELS, TRAIN_IDS, strict=True)]
    assert first_row(dataset) == expected
    assert has_note(dataset, "polegroup")


def test_all_encodings_have_the_same_classes() -> None:
    names = [[label.name for label in encoding.labels if not label.ignored] for encoding in ENCODINGS]
    assert names[0] == names[1] == names[2]
    assert len(names[0]) == 19


def test_ignored_labels_can_be_made_classes(tmp_path: Path) -> None:
    file = write(city(tmp_path, "labelIds") / "d.yaml", "classes: [{name: ground, from: [road, parking]}]\nignore: '*'")
    assert [index for index, label in enumerate(first_row(opened(file))) if label == 0] == [7, 9]


def test_test_split_is_left_out_with_a_note(tmp_path: Path) -> None:
    dataset = opened(city(tmp_path, "labelIds", splits=("train", "val", "test")))
    assert set(dataset.splits) == {"train", "val"}
    assert has_note(dataset, "Cityscapes does not publish its labels")


def test_coarse_masks_are_read_where_they_are_alone(tmp_path: Path) -> None:
    assert labels(opened(city(tmp_path, "labelIds", truth="gtCoarse"))) == [*range(19), 255]
    assert has_note(opened(city(tmp_path, "labelIds")), "gtCoarse is not read")


def test_extra_split_can_be_named(tmp_path: Path) -> None:
    city(tmp_path, "labelIds", truth="gtCoarse", splits=("train", "train_extra", "val"))
    dataset = opened(write(tmp_path / "d.yaml", "train: train_extra\nval: val"))
    assert "train_extra" in str(dataset.split("train")[0].image)


@pytest.mark.parametrize(("folder", "other"), [("leftImg8bit", "gtFine"), ("gtFine", "leftImg8bit")])
def test_one_archive_of_two_is_named(tmp_path: Path, folder: str, other: str) -> None:
    image(tmp_path / folder / "train" / "aachen" / "a.png")
    with pytest.raises(DataError, match=f"{folder} is there but no {other}: unpack both archives"):
        opened(tmp_path)


def test_image_without_a_mask_is_named(tmp_path: Path) -> None:
    (city(tmp_path, "labelIds") / "gtFine/train/aachen/aachen_000000_000019_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=r"aachen_000000_000019_leftImg8bit\.png: no mask of this name"):
        opened(tmp_path)


def test_names_that_differ_in_case_are_paired_with_a_note(tmp_path: Path) -> None:
    folder = city(tmp_path, "labelIds") / "gtFine" / "train"
    (folder / "aachen").rename(folder / "Aachen")
    dataset = opened(tmp_path)
    assert len(dataset.split("train")) == 2
    assert has_note(dataset, "names of images and masks differ in upper and lower case")


def test_polygons_alone_are_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gtFine holds no \*_labelIds\.png"):
        opened(city(tmp_path))


def test_frames_of_a_drive_stay_together(tmp_path: Path) -> None:
    dataset = opened(city(tmp_path, "labelIds", splits=("train",)), group="^[^/]+")
    assert {len(records) for records in dataset.splits.values()} == {1}


def test_colours_can_be_off_by_a_tolerance(tmp_path: Path) -> None:
    for path in city(tmp_path, "color").rglob("*_color.png"):
        with Image.open(path) as made:
            shaken = np.asarray(made.convert("RGB")).astype(int) + 2
        Image.fromarray(shaken.clip(0, 255).astype(np.uint8)).save(path)
    dataset = opened(tmp_path, tolerance=2)
    assert first_row(dataset)[7:9] == [0, 1]
    assert has_note(dataset, "compared to 2 in each channel")
