"""Datasets in which no image has a mask that is read, and datasets of which a part is not read."""

from pathlib import Path

import pytest

from made_files import image, mask, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.inspection.inspect_dataset import inspect_dataset


def voc(root: Path, *, pngs: int = 0) -> Path:
    (root / "SegmentationClass").mkdir(parents=True)
    for number in range(6):
        image(root / "JPEGImages" / f"{number}.jpg")
    for number in range(pngs):
        mask(root / "SegmentationClass" / f"{number}.png", 0, 1, 2)
    return root


def found(root: Path) -> list[tuple[str, str]]:
    return [(defect.kind.value, defect.detail) for defect in inspect_dataset(root).defects]


def test_masks_of_another_type_are_named_if_no_mask_is_read(tmp_path: Path) -> None:
    root = voc(tmp_path)
    for number in range(6):
        (root / "SegmentationClass" / f"{number}.dcm").write_bytes(b"x")
    ((kind, detail),) = found(root)
    assert kind == "absent"
    assert "no image with a mask was found" in detail
    assert "JPEGImages: 6 .jpg" in detail
    assert "SegmentationClass: 6 .dcm" in detail
    with pytest.raises(DataError, match=r"no image with a mask .*SegmentationClass: 6 \.dcm"):
        opened(root)


def test_an_empty_folder_of_masks_is_named(tmp_path: Path) -> None:
    ((kind, detail),) = found(voc(tmp_path))
    assert kind == "absent"
    assert "SegmentationClass: nothing" in detail


@pytest.mark.parametrize("ending", [".npy", ".nii.gz", ".MAT"])
def test_part_of_the_masks_of_another_type_is_a_defect(tmp_path: Path, ending: str) -> None:
    root = voc(tmp_path, pngs=2)
    for number in range(2, 6):
        (root / "SegmentationClass" / f"{number}{ending}").write_bytes(b"x")
    details = [detail for kind, detail in found(root) if kind == "unreadable-mask"]
    assert len(details) == 1
    assert f"4 masks, such as 2{ending}, are of a type that is not read" in details[0]
    with pytest.raises(DataError, match="4 masks, such as"):
        opened(root)


@pytest.mark.parametrize("name", ["4.json", "4.txt", "5.xml", "Thumbs.db", "0.npy", "unrelated.npy"])
def test_files_beside_the_masks_that_take_no_image_are_no_defect(tmp_path: Path, name: str) -> None:
    root = voc(tmp_path, pngs=4)
    (root / "SegmentationClass" / name).write_bytes(b"x")
    assert not [kind for kind, _ in found(root) if kind == "unreadable-mask"]


def empty(root: Path, layout: str) -> Path:
    """A dataset of a layout in which nothing has a mask."""
    if layout == "coco":
        write(root / "annotations" / "instances_default.json", '{"images": [], "annotations": [], "categories": []}')
    if layout == "labelme":
        image(root / "a.jpg")
        write(root / "a.json", '{"shapes": [], "imagePath": "b.jpg", "imageHeight": 8, "imageWidth": 10}')
    if layout == "paired":
        image(root / "images" / "a.png")
        (root / "masks").mkdir()
    if layout == "camvid":
        image(root / "train" / "a.png")
        (root / "trainannot").mkdir()
    if layout == "yolo":
        image(root / "images" / "a.jpg")
        write(root / "data.yaml", "train: images\nnames: [a]\n")
    if layout == "cityscapes":
        image(root / "leftImg8bit" / "train" / "a" / "a_leftImg8bit.png")
        (root / "gtFine" / "train" / "a").mkdir(parents=True)
    return root


@pytest.mark.parametrize("layout", ["coco", "labelme", "paired", "camvid", "yolo", "cityscapes"])
def test_no_reader_calls_an_empty_dataset_free_of_defects(tmp_path: Path, layout: str) -> None:
    try:
        defects = inspect_dataset(empty(tmp_path, layout)).defects
    except DataError:  # not recognised
        return
    assert defects
