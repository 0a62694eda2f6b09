"""A list, an annotation file or a folder that cannot be used is reported, and the rest is still inspected."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from made_files import HEIGHT, WIDTH, image
from planted_pairs import CLASSES, Layout
from planting import coco, labelme, paired, segnet, unlisted, voc, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset

Expected = tuple[DefectKind, str]


def second_file(root: Path) -> Expected:
    shutil.copy(root / "train" / "_annotations.coco.json", root / "train" / "_annotations_2.coco.json")
    return DefectKind.RIVAL_ANNOTATION, "_annotations_2.coco.json"


def file_without_images(root: Path) -> Expected:
    (root / "val" / "_annotations.coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    return DefectKind.BAD_ANNOTATION, "_annotations.coco.json"


def empty_list(root: Path) -> Expected:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n# none\n")
    return DefectKind.EMPTY, "val.txt"


def empty_list_next_to_folders(root: Path) -> Expected:
    for side in ("images", "masks"):
        for split in ("train", "val"):
            shutil.copytree(root / split / side, root / side, dirs_exist_ok=True)
    for split in ("train", "val"):
        shutil.rmtree(root / split)
    (root / "train.txt").write_text("# none")
    return DefectKind.EMPTY, "train.txt"


def binary_list(root: Path) -> Expected:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"\xff\xfe\x00")
    return DefectKind.BAD_ANNOTATION, "val.txt"


def damaged_classes(root: Path) -> Expected:
    (root / "class_names.txt").write_bytes(b"\xff\xfe\x00")
    return DefectKind.BAD_ANNOTATION, "class_names.txt"


def damaged_table(root: Path) -> Expected:
    (root / "class_dict.csv").write_text("name,r,g,b\nground,1,2\n")
    return DefectKind.BAD_ANNOTATION, "class_dict.csv"


def no_mask_folder_of_val(root: Path) -> Expected:
    shutil.rmtree(root / "val" / "masks")
    return DefectKind.ABSENT, "images"


def empty_mask_folder_of_val(root: Path) -> Expected:
    for file in (root / "val" / "masks").iterdir():
        file.unlink()
    return DefectKind.ABSENT, "masks"


def no_images_of_val(root: Path) -> Expected:
    shutil.rmtree(root / "val" / "images")
    return DefectKind.ABSENT, "val"


def empty_val(root: Path) -> Expected:
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    return DefectKind.ABSENT, "val"


def no_file_of_val(root: Path) -> Expected:
    (root / "val" / "_annotations.coco.json").unlink()
    return DefectKind.ABSENT, "val"


def no_outlines_of_val(root: Path) -> Expected:
    for file in (root / "val").glob("*.json"):
        file.write_text("{}")
    return DefectKind.ABSENT, "val"


def damaged_extra_file(root: Path) -> Expected:
    (root / "val" / "other.json").write_text('{"images": [')
    return DefectKind.BAD_ANNOTATION, "other.json"


def dangling_list(root: Path) -> Expected:
    file = root / "ImageSets" / "Segmentation" / "val.txt"
    file.unlink()
    file.symlink_to("nowhere.txt")
    return DefectKind.ABSENT, "val.txt"


def repeated_names(root: Path) -> Expected:
    file = root / "ImageSets" / "Segmentation" / "val.txt"
    file.write_text(file.read_text() * 2)
    return DefectKind.REPEATED_ID, "val.txt"


def damaged_colors(root: Path) -> Expected:
    (root / "dataset.yaml").unlink()
    (root / "label_colors.txt").write_text("1 2 ground\n")
    return DefectKind.BAD_ANNOTATION, "label_colors.txt"


def missing_folder_in_yaml(root: Path) -> Expected:
    (root / "dataset.yaml").write_text(f"train: train\nval: vla\nclasses: [{', '.join(CLASSES)}]\n")
    return DefectKind.ABSENT, "dataset.yaml"


def missing_masks_in_yaml(root: Path) -> Expected:
    sides = "train: {images: train/images, masks: train/masks}\nval: {images: val/images, masks: val/truth}\n"
    (root / "dataset.yaml").write_text(f"{sides}classes: [{', '.join(CLASSES)}]\n")
    return DefectKind.ABSENT, "dataset.yaml"


def list_of_other_names(root: Path) -> Expected:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("one\n")
    return DefectKind.ABSENT, "val.txt"


def no_annotation_folder_of_val(root: Path) -> Expected:
    shutil.rmtree(root / "valannot")
    return DefectKind.ABSENT, "val"


@pytest.mark.parametrize(
    ("layout", "damage"),
    [
        (coco, second_file),
        (coco, file_without_images),
        (voc, empty_list),
        (paired, empty_list_next_to_folders),
        (voc, binary_list),
        (voc, damaged_classes),
        (unlisted, damaged_table),
        (paired, no_mask_folder_of_val),
        (paired, empty_mask_folder_of_val),
        (segnet, no_annotation_folder_of_val),
        (segnet, damaged_colors),
        (paired, no_images_of_val),
        (paired, empty_val),
        (voc, list_of_other_names),
        (paired, missing_folder_in_yaml),
        (paired, missing_masks_in_yaml),
        (coco, no_file_of_val),
        (coco, damaged_extra_file),
        (labelme, empty_val),
        (labelme, no_outlines_of_val),
        (voc, dangling_list),
        (voc, repeated_names),
    ],
)
def test_the_rest_of_the_dataset_is_still_inspected(
    tmp_path: Path, layout: Callable[[Path], Layout], damage: Callable[[Path], Expected]
) -> None:
    made = layout(tmp_path / "data")
    write_dataset(made, seed=0, good=24)
    damaged = made.image("train", "good_001")
    damaged.write_bytes(damaged.read_bytes()[:100])
    kind, name = damage(made.source)
    found = [(defect.kind, defect.file.name) for defect in inspect_dataset(made.source).defects]
    assert found.count((kind, name)) == 1
    assert (DefectKind.DAMAGED, damaged.name) in found
    assert len([defect for defect in found if defect[0] is not DefectKind.UNCLEAR_CLASSES]) == 2
    with pytest.raises(DataError, match=name) as caught:
        open_dataset(made.source, DataConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "expected"),
    [
        ("a.tif", np.full((HEIGHT, WIDTH), -2, np.int32), "-2"),
        ("a.tif", np.full((HEIGHT, WIDTH), 65536, np.int32), "65536"),
        ("a.tif", np.full((HEIGHT, WIDTH), 0.5, np.float32), "not a whole number"),
        ("a.png", np.full((HEIGHT, WIDTH, 3), 999, np.uint16), "Pillow mode RGB with 16 bits"),
    ],
)
def test_each_unreadable_mask_is_reported(tmp_path: Path, name: str, values: np.ndarray, expected: str) -> None:
    for number in range(3):
        image(tmp_path / "images" / f"{number}.jpg")
        file = tmp_path / "masks" / f"{number}{Path(name).suffix}"
        file.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(file), values)
    image(tmp_path / "images" / "alone.jpg")
    found = inspect_dataset(tmp_path).defects
    unreadable = [defect for defect in found if defect.kind is DefectKind.UNREADABLE_MASK]
    assert sorted(defect.file.stem for defect in unreadable) == ["0", "1", "2"]
    assert all(expected in defect.detail for defect in unreadable)
    assert (DefectKind.MISSING_MASK, "alone.jpg") in [(defect.kind, defect.file.name) for defect in found]


def test_settings_that_refer_to_a_damaged_file_do_not_hide_it(tmp_path: Path) -> None:
    made = voc(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    damaged_classes(made.source)
    found = inspect_dataset(made.source, data=DataConfig(ignore=("other",)))
    assert [defect.file.name for defect in found.defects] == ["class_names.txt"]
    assert any("the settings do not fit what could be read" in note for note in found.dataset.notes)
    with pytest.raises(DataError, match=r"class_names\.txt: is not UTF-8 text"):
        open_dataset(made.source, DataConfig(ignore=("other",)))


def test_wrong_settings_are_refused_even_if_there_are_defects(tmp_path: Path) -> None:
    made = voc(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    made.mask("train", "good_001").unlink()
    with pytest.raises(ConfigError, match="otter"):
        inspect_dataset(made.source, data=DataConfig(ignore=("otter",)))


def test_unlabelled_test_split_is_left_out_with_a_note(tmp_path: Path) -> None:
    made = paired(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    shutil.copytree(made.source / "val" / "images", made.source / "test")
    found = inspect_dataset(made.source)
    assert not found.defects
    assert any(str(made.source / "test") in note for note in found.dataset.notes)


def test_each_split_without_a_usable_image_is_reported(tmp_path: Path) -> None:
    made = coco(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    for split in ("train", "val"):
        file = made.mask(split, "")
        file.write_text(file.read_text().replace(".png", ".tif"))
    found = inspect_dataset(made.source)
    assert [(defect.kind, defect.file.parent.name) for defect in found.defects] == [
        (DefectKind.ABSENT, "train"),
        (DefectKind.ABSENT, "val"),
    ]
