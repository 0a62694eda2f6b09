"""PaddleSeg's and PaddleX's layouts: lists of pairs, with the classes in labels.txt."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from made_files import has_note, image, mask, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.data.pairs import read_labels
from pyramidseg.inspection.training_check import check_dataset

LAYOUTS = {
    "PaddleX 2": ("JPEGImages/{}.jpg", "Annotations/{}.png", "{}_list.txt"),
    "PaddleX 3": ("images/{}.jpg", "annotations/{}.png", "{}.txt"),
    "PaddleSeg": ("images/{split}/{}.jpg", "labels/{split}/{}.png", "{}.txt"),
    "PaddleSeg's quick start": ("JPEGImages/{}.jpg", "Annotations/{}.png", "{}_list.txt"),
    "names with spaces": ("Images/leaf ({}).jpg", "Labels/leaf ({}).png", "{}_list.txt"),
}


def paddle(root: Path, layout: str, *, before: str = "", separator: str = " ") -> Path:
    images, masks, lists = LAYOUTS[layout]
    for split, names in (("train", "abc"), ("val", "de"), ("test", "f")):
        lines = []
        for name in names:
            paths = images.format(name, split=split), masks.format(name, split=split)
            image(root / paths[0])
            mask(root / paths[1], 0, 1, 2, 255)
            lines.append(separator.join(f"{before}{path}" for path in paths))
        write(root / lists.format(split), "\n".join(lines))
    write(root / "labels.txt", "_background_\nweed\nsugar beet\n")
    return root


def counted(root: Path, split: str) -> list[int]:
    dataset = opened(root)
    assert dataset.classes.names == ("background", "weed", "sugar beet")
    labels = [read_labels(record, dataset.masks) for record in dataset.splits[split]]
    counts = np.bincount(np.concatenate([each.ravel() for each in labels]), minlength=256)
    return [*counts[:3].tolist(), int(counts[255])]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("before", ["", "optic_disc/", "//home//zoe//", "C:\\data\\optic_disc\\", "./"])
def test_every_pair_of_the_lists_is_read(layout: str, before: str, tmp_path: Path) -> None:
    root = paddle(tmp_path / "data", layout, before=before)
    assert [counted(root, split) for split in ("train", "val", "test")] == [[9] * 4, [6] * 4, [3] * 4]
    assert has_note(opened(root), "labels.txt names the classes")
    check_dataset(opened(root))


@pytest.mark.parametrize("separator", [" ", ",", "|", "\t", ";"])
def test_separators(separator: str, tmp_path: Path) -> None:
    assert counted(paddle(tmp_path, "PaddleX 2", separator=separator), "train") == [9] * 4


def test_without_lists_folders_are_paired(tmp_path: Path) -> None:
    root = paddle(tmp_path, "PaddleX 2")
    for file in root.glob("*_list.txt"):
        file.unlink()
    assert sum(len(records) for records in opened(root).splits.values()) == 6
    assert opened(root).layout == "paired folders (images, masks)"


def test_a_voc_detection_set_is_not_paired_with_its_boxes(tmp_path: Path) -> None:
    image(tmp_path / "JPEGImages" / "a.jpg")
    write(tmp_path / "Annotations" / "a.xml", "<annotation><object><bndbox></bndbox></object></annotation>")
    with pytest.raises(DataError, match=r"Pascal VOC with boxes, which is not read"):
        opened(tmp_path)


def test_empty_annotations_do_not_hide_masks_of_voc(tmp_path: Path) -> None:
    for name in "ab":
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        mask(tmp_path / "SegmentationClass" / f"{name}.png", 0, 1)
    (tmp_path / "Annotations").mkdir()
    assert opened(tmp_path).layout == "Pascal VOC (JPEGImages, SegmentationClass)"


def test_more_values_than_labels_are_named(tmp_path: Path) -> None:
    root = paddle(tmp_path, "PaddleX 2")
    write(root / "labels.txt", "_background_\nweed\n")
    with pytest.raises(DataError, match=r"2 .*\(known: 0-1; ignored: 255\)"):
        check_dataset(opened(root))


def test_a_missing_mask_is_named_with_its_list(tmp_path: Path) -> None:
    root = paddle(tmp_path, "PaddleX 3")
    shutil.move(root / "annotations" / "b.png", root / "b.png")
    with pytest.raises(DataError, match=r"train.txt: names 'annotations/b.png'"):
        opened(root)
