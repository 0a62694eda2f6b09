"""An inspection goes on where a list, an annotation file or a whole folder cannot be used: the rest is still read."""

import shutil
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest

from made_files import HEIGHT, WIDTH, image
from planting import CLASSES, Layout, coco, labelme, paired, segnet, unlisted, voc, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset

Spoilt = tuple[DefectKind, str]


def second_file(root: Path) -> Spoilt:
    shutil.copy(root / "train" / "_annotations.coco.json", root / "train" / "_annotations_2.coco.json")
    return DefectKind.RIVAL_ANNOTATION, "_annotations_2.coco.json"


def file_without_images(root: Path) -> Spoilt:
    (root / "val" / "_annotations.coco.json").write_text('{"images": [], "annotations": [], "categories": []}')
    return DefectKind.BAD_ANNOTATION, "_annotations.coco.json"


def empty_list(root: Path) -> Spoilt:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("\n# none\n")
    return DefectKind.EMPTY, "val.txt"


def empty_list_of_train(root: Path) -> Spoilt:
    (root / "ImageSets" / "Segmentation" / "train.txt").write_text("")
    return DefectKind.EMPTY, "train.txt"


def empty_list_beside_folders(root: Path) -> Spoilt:
    for side in ("images", "masks"):
        for split in ("train", "val"):
            shutil.copytree(root / split / side, root / side, dirs_exist_ok=True)
    for split in ("train", "val"):
        shutil.rmtree(root / split)
    (root / "train.txt").write_text("# none")
    return DefectKind.EMPTY, "train.txt"


def list_that_is_no_text(root: Path) -> Spoilt:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_bytes(b"\xff\xfe\x00")
    return DefectKind.BAD_ANNOTATION, "val.txt"


def damaged_classes(root: Path) -> Spoilt:
    (root / "class_names.txt").write_bytes(b"\xff\xfe\x00")
    return DefectKind.BAD_ANNOTATION, "class_names.txt"


def damaged_table(root: Path) -> Spoilt:
    (root / "class_dict.csv").write_text("name,r,g,b\nground,1,2\n")
    return DefectKind.BAD_ANNOTATION, "class_dict.csv"


def no_masks_of_val(root: Path) -> Spoilt:
    shutil.rmtree(root / "val" / "masks")
    return DefectKind.ABSENT, "images"


def masks_of_val_gone(root: Path) -> Spoilt:
    for file in (root / "val" / "masks").iterdir():
        file.unlink()
    return DefectKind.ABSENT, "masks"


def no_images_of_val(root: Path) -> Spoilt:
    shutil.rmtree(root / "val" / "images")
    return DefectKind.ABSENT, "val"


def empty_val(root: Path) -> Spoilt:
    shutil.rmtree(root / "val")
    (root / "val").mkdir()
    return DefectKind.ABSENT, "val"


def no_file_of_val(root: Path) -> Spoilt:
    (root / "val" / "_annotations.coco.json").unlink()
    return DefectKind.ABSENT, "val"


def no_outlines_of_val(root: Path) -> Spoilt:
    for file in (root / "val").glob("*.json"):
        file.write_text("{}")
    return DefectKind.ABSENT, "val"


def damaged_beside(root: Path) -> Spoilt:
    (root / "val" / "other.json").write_text('{"images": [')
    return DefectKind.BAD_ANNOTATION, "other.json"


def dangling_list(root: Path) -> Spoilt:
    file = root / "ImageSets" / "Segmentation" / "val.txt"
    file.unlink()
    file.symlink_to("nowhere.txt")
    return DefectKind.ABSENT, "val.txt"


def names_twice(root: Path) -> Spoilt:
    file = root / "ImageSets" / "Segmentation" / "val.txt"
    file.write_text(file.read_text() * 2)
    return DefectKind.REPEATED_ID, "val.txt"


def damaged_colors(root: Path) -> Spoilt:
    (root / "dataset.yaml").unlink()
    (root / "label_colors.txt").write_text("1 2 ground\n")
    return DefectKind.BAD_ANNOTATION, "label_colors.txt"


def named_folder_gone(root: Path) -> Spoilt:
    (root / "dataset.yaml").write_text(f"train: train\nval: vla\nclasses: [{', '.join(CLASSES)}]\n")
    return DefectKind.ABSENT, "dataset.yaml"


def named_masks_gone(root: Path) -> Spoilt:
    sides = "train: {images: train/images, masks: train/masks}\nval: {images: val/images, masks: val/truth}\n"
    (root / "dataset.yaml").write_text(f"{sides}classes: [{', '.join(CLASSES)}]\n")
    return DefectKind.ABSENT, "dataset.yaml"


def two_folders_of_masks(root: Path) -> Spoilt:
    shutil.copytree(root / "val" / "masks", root / "val" / "labels")
    return DefectKind.ABSENT, "val"


def list_of_others(root: Path) -> Spoilt:
    (root / "ImageSets" / "Segmentation" / "val.txt").write_text("one\n")
    return DefectKind.ABSENT, "val.txt"


def no_partner_of_val(root: Path) -> Spoilt:
    shutil.rmtree(root / "valannot")
    return DefectKind.ABSENT, "val"


@pytest.mark.parametrize(
    ("layout", "spoil"),
    [
        (coco, second_file),
        (coco, file_without_images),
        (voc, empty_list),
        (voc, empty_list_of_train),
        (paired, empty_list_beside_folders),
        (voc, list_that_is_no_text),
        (voc, damaged_classes),
        (unlisted, damaged_table),
        (paired, no_masks_of_val),
        (paired, masks_of_val_gone),
        (segnet, no_partner_of_val),
        (segnet, damaged_colors),
        (paired, no_images_of_val),
        (paired, empty_val),
        (paired, two_folders_of_masks),
        (voc, list_of_others),
        (paired, named_folder_gone),
        (paired, named_masks_gone),
        (coco, no_file_of_val),
        (coco, damaged_beside),
        (labelme, empty_val),
        (labelme, no_outlines_of_val),
        (voc, dangling_list),
        (voc, names_twice),
    ],
)
def test_other_files_are_inspected_still(
    tmp_path: Path, layout: Callable[[Path], Layout], spoil: Callable[[Path], Spoilt]
) -> None:
    made = layout(tmp_path / "data")
    write_dataset(made, seed=0, good=24)
    damaged = made.image("train", "good_001")
    damaged.write_bytes(damaged.read_bytes()[:100])
    kind, name = spoil(made.source)
    found = [(defect.kind, defect.file.name) for defect in inspect_dataset(made.source).defects]
    assert found.count((kind, name)) == 1
    assert (DefectKind.DAMAGED, damaged.name) in found
    assert len([defect for defect in found if defect[0] is not DefectKind.UNCLEAR_CLASSES]) == 2
    with pytest.raises(DataError, match=name) as caught:  # and nothing is trained on
        open_dataset(made.source, DataConfig())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("a.tif", np.full((HEIGHT, WIDTH), -2, np.int32), "-2"),
        ("a.tif", np.full((HEIGHT, WIDTH), 65536, np.int32), "65536"),
        ("a.tif", np.full((HEIGHT, WIDTH), 0.5, np.float32), "not a whole number"),
        ("a.png", np.full((HEIGHT, WIDTH, 3), 999, np.uint16), "Pillow mode RGB with 16 bits"),
    ],
)
def test_masks_none_of_which_can_be_read_are_told_one_by_one(
    tmp_path: Path, name: str, values: np.ndarray, words: str
) -> None:
    for number in range(3):
        image(tmp_path / "images" / f"{number}.jpg")
        file = tmp_path / "masks" / f"{number}{Path(name).suffix}"
        file.parent.mkdir(exist_ok=True)
        assert cv2.imwrite(str(file), values)
    image(tmp_path / "images" / "alone.jpg")
    found = inspect_dataset(tmp_path).defects
    unreadable = [defect for defect in found if defect.kind is DefectKind.UNREADABLE_MASK]
    assert sorted(defect.file.stem for defect in unreadable) == ["0", "1", "2"]
    assert all(words in defect.detail for defect in unreadable)
    assert (DefectKind.MISSING_MASK, "alone.jpg") in [(defect.kind, defect.file.name) for defect in found]


def test_settings_that_need_what_is_damaged_do_not_hide_it(tmp_path: Path) -> None:
    made = voc(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    damaged_classes(made.source)
    found = inspect_dataset(made.source, data=DataConfig(ignore=("other",)))
    assert [defect.file.name for defect in found.defects] == ["class_names.txt"]
    assert any("the settings do not fit what could be read" in note for note in found.dataset.notes)
    with pytest.raises(DataError, match=r"class_names\.txt: is not UTF-8 text"):
        open_dataset(made.source, DataConfig(ignore=("other",)))


def test_settings_that_are_wrong_by_themselves_are_told_beside_other_defects(tmp_path: Path) -> None:
    made = voc(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    made.mask("train", "good_001").unlink()
    with pytest.raises(ConfigError, match="otter"):
        inspect_dataset(made.source, data=DataConfig(ignore=("otter",)))


def test_test_split_without_labels_is_left_out_aloud(tmp_path: Path) -> None:
    made = paired(tmp_path / "data")
    write_dataset(made, seed=0, good=8)
    shutil.copytree(made.source / "val" / "images", made.source / "test")
    found = inspect_dataset(made.source)
    assert not found.defects
    assert any(str(made.source / "test") in note for note in found.dataset.notes)


def test_nothing_that_can_be_used_is_told_whole(tmp_path: Path) -> None:
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
