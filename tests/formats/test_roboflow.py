from pathlib import Path

import pytest

from made_files import ids, image, labels, mask, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects

CLASSES = "Pixel Value, Class\n0, background\n1, leaf\n2, ripe fig\n"


def export(folder: Path, *splits: str, classes: str = CLASSES) -> Path:
    for split in splits:
        for name in ("a_jpg.rf.0123", "b_jpg.rf.4567"):
            image(folder / split / f"{name}.jpg")
            mask(folder / split / f"{name}_mask.png", 0, 1, 2)
        write(folder / split / "_classes.csv", classes)
    write(folder / "README.roboflow.txt", "")
    return folder


def test_splits_and_classes_are_the_exports(tmp_path: Path) -> None:
    dataset = opened(export(tmp_path, "train", "valid", "test"))
    names = ["a_jpg.rf.0123", "b_jpg.rf.4567"]
    assert ids(dataset) == {"train": names, "val": names, "test": names}
    assert dataset.classes.names == ("background", "leaf", "ripe fig")
    assert dataset.layout.startswith("Roboflow semantic masks")
    assert labels(dataset) == [0, 1, 2]


def test_one_folder_without_splits_is_read_too(tmp_path: Path) -> None:
    dataset = opened(export(tmp_path, "."))
    assert (len(dataset.split("train")), len(dataset.split("val"))) == (1, 1)


def test_values_are_those_of_the_list_and_not_positions(tmp_path: Path) -> None:
    export(tmp_path, "train", "valid", classes="Pixel Value,Class\n2,c\n0,a\n1,b\n")
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("c", "a", "b")
    assert dataset.masks.read(dataset.split("train")[0])[0, :3].tolist() == [1, 2, 0]


def test_lists_that_differ_between_splits_are_all_named(tmp_path: Path) -> None:
    export(tmp_path, "train", "valid", "test")
    for split in ("valid", "test"):
        write(tmp_path / split / "_classes.csv", "Pixel Value,Class\n0,leaf\n1,background\n")
    dataset, found = open_with_defects(tmp_path, DataConfig())
    assert [(defect.kind, defect.file.parent.name) for defect in found] == [
        (DefectKind.UNCLEAR_CLASSES, "valid"),
        (DefectKind.UNCLEAR_CLASSES, "test"),
    ]
    assert set(dataset.splits) == {"train", "val", "test"}


def test_list_that_cannot_be_read_is_named_and_another_serves(tmp_path: Path) -> None:
    export(tmp_path, "train", "valid")
    write(tmp_path / "train" / "_classes.csv", "Pixel Value, Class\n0, background\nx, leaf\n2\n")
    dataset, found = open_with_defects(tmp_path, DataConfig())
    assert [(defect.kind, defect.detail[:6]) for defect in found] == [
        (DefectKind.BAD_ANNOTATION, "line 3"),
        (DefectKind.BAD_ANNOTATION, "line 4"),
    ]
    assert dataset.classes.names == ("background", "leaf", "ripe fig")
    assert set(dataset.splits) == {"train", "val"}


def test_no_list_that_can_be_read_leaves_the_masks_values(tmp_path: Path) -> None:
    export(tmp_path, "train", "valid", classes="Pixel Value\n")
    dataset, found = open_with_defects(tmp_path, DataConfig())
    assert [defect.kind for defect in found] == [DefectKind.BAD_ANNOTATION] * 2
    assert labels(dataset) == [0, 1, 2]


def test_split_without_a_list_is_named_and_not_dropped(tmp_path: Path) -> None:
    (export(tmp_path, "train", "valid") / "valid" / "_classes.csv").unlink()
    dataset, found = open_with_defects(tmp_path, DataConfig())
    assert [(defect.kind, defect.file) for defect in found] == [
        (DefectKind.ABSENT, tmp_path / "valid" / "_classes.csv")
    ]
    assert {split: len(records) for split, records in dataset.splits.items()} == {"train": 2, "val": 2}
    with pytest.raises(DataError, match=r"valid/_classes\.csv: does not exist, .*; copy .*train/_classes\.csv"):
        opened(tmp_path)


def test_split_without_masks_is_named(tmp_path: Path) -> None:
    for file in (export(tmp_path, "train", "valid") / "valid").glob("*_mask.png"):
        file.unlink()
    _, found = open_with_defects(tmp_path, DataConfig())
    assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.ABSENT, "valid")]


def test_list_that_differs_is_refused(tmp_path: Path) -> None:
    write(export(tmp_path, "train", "valid") / "valid" / "_classes.csv", "Pixel Value,Class\n0,leaf\n1,background\n")
    with pytest.raises(DataError, match=r"valid/_classes\.csv: differs from .*train/_classes\.csv"):
        opened(tmp_path)


def test_export_for_classification_is_named(tmp_path: Path) -> None:
    for split in ("train", "valid"):
        image(tmp_path / split / "a.jpg")
        write(tmp_path / split / "_classes.csv", "filename, leaf\na.jpg, 1\n")
    with pytest.raises(DataError, match=r"but no name_mask\.png: export it as Semantic Segmentation Masks"):
        opened(tmp_path)


def test_image_without_a_mask_is_named(tmp_path: Path) -> None:
    image(export(tmp_path, "train", "valid") / "train" / "lone.jpg")
    with pytest.raises(DataError, match=r"train/lone\.jpg: no mask of this name"):
        opened(tmp_path)


def test_value_that_is_not_in_the_list_is_found(tmp_path: Path) -> None:
    mask(export(tmp_path, "train", "valid") / "train" / "a_jpg.rf.0123_mask.png", 0, 7)
    dataset = opened(tmp_path)
    with pytest.raises(DataError, match=r"mask value 7 \(6 pixels\) is not a known class"):
        dataset.masks.read(dataset.split("train")[0])
