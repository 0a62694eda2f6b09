"""Datasets with what tools and people leave in them: nothing legitimate is refused or read as another split."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from made_files import all_ids, has_note, ids, image, mask, opened, pairs, write
from pyramidseg.base.errors import DataError

OUTLINE = [0, 0, 4, 0, 4, 4, 0, 4]


def coco(path: Path, *names: str, labelled: bool = True) -> Path:
    content: dict[str, Any] = {
        "images": [{"id": index, "file_name": name, "height": 8, "width": 10} for index, name in enumerate(names)],
        "categories": [{"id": 1, "name": "car"}],
        "annotations": [
            {"id": index, "image_id": index, "category_id": 1, "iscrowd": 0, "segmentation": [OUTLINE]}
            for index in range(len(names) if labelled else 0)
        ],
    }
    return write(path, json.dumps(content))


def images(folder: Path, *names: str) -> None:
    for name in names:
        image(folder / name, height=8, width=10)


def splits(root: Path, *names: str) -> Path:
    """`{split}/images`, `{split}/masks`."""
    for name in names:
        pairs(root / name / "images", root / name / "masks", ["a", "b"], 0, 1)
    return root


class TestCoco:
    def test_cvat_writes_subsets_with_a_capital(self, tmp_path: Path) -> None:
        for split in ("Train", "Validation"):
            images(tmp_path / "images" / split, "a.jpg")
            coco(tmp_path / "annotations" / f"instances_{split}.json", "a.jpg")
        assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["a"]}

    def test_results_and_tables_next_to_it_are_not_annotations(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            images(tmp_path / split, "a.jpg")
            coco(tmp_path / split / "_annotations.coco.json", "a.jpg")
            write(tmp_path / split / f"{split}_results.json", '[{"image_id": 0, "score": 0.5}]')
            write(tmp_path / split / "metadata.json", '{"file_name": "a.jpg"}\n{"file_name": "b.jpg"}\n')
        assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["a"]}

    def test_image_info_of_lvis_is_passed_over(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            images(tmp_path / split, "a.jpg")
            coco(tmp_path / "annotations" / f"instances_{split}.json", "a.jpg")
        write(tmp_path / "annotations" / "lvis_v1_image_info_test_dev.json", '{"images": [{"id": 1}]}')
        assert set(ids(opened(tmp_path))) == {"train", "val"}

    @pytest.mark.parametrize(("names", "there"), [((), True), (("a.jpg",), True), (("a.jpg",), False)])
    def test_test_split_without_labels_is_left_out_with_a_note(
        self, tmp_path: Path, names: tuple[str, ...], there: bool
    ) -> None:
        for split in ("train", "val"):
            images(tmp_path / split, "a.jpg")
            coco(tmp_path / split / "_annotations.coco.json", "a.jpg")
        images(tmp_path / "test", *names if there else ())
        coco(tmp_path / "test" / "_annotations.coco.json", *names, labelled=not there)
        dataset = opened(tmp_path)
        assert set(ids(dataset)) == {"train", "val"}
        assert has_note(dataset, "the test split", "left out")


def test_label_studio_keeps_categories_next_to_yolos_labels(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        image(tmp_path / "images" / f"{name}.jpg", height=8, width=10)
        write(tmp_path / "labels" / f"{name}.txt", "0 0.0 0.0 0.4 0.0 0.4 0.5\n")
    write(tmp_path / "classes.txt", "car\nbus\n")
    write(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "car"}], "info": {"year": 2024}}')
    assert opened(tmp_path).layout.startswith("YOLO")


def test_yolo_test_split_without_labels_is_left_out_with_a_note(tmp_path: Path) -> None:
    for split in ("train", "val"):
        image(tmp_path / "images" / split / "a.jpg", height=8, width=10)
        write(tmp_path / "labels" / split / "a.txt", "0 0.0 0.0 0.4 0.0 0.4 0.5\n")
    image(tmp_path / "images" / "test" / "a.jpg", height=8, width=10)
    write(tmp_path / "data.yaml", "train: images/train\nval: images/val\ntest: images/test\nnames: [car]\n")
    dataset = opened(tmp_path)
    assert set(ids(dataset)) == {"train", "val"}
    assert has_note(dataset, "the test split", "no labels")


class TestLists:
    @pytest.mark.parametrize(
        ("train", "val"),
        [
            ("a 0\n", "b 1\n"),
            ("a 0.jpg\n", "b 1.jpg\n"),
            ("JPEGImages/a 0.jpg\n", "./JPEGImages/b 1.jpg\n"),
            ('"a 0"\n', '"b 1"\n'),
        ],
    )
    def test_names_in_vocs_lists_may_have_spaces_extensions_and_folders(
        self, tmp_path: Path, train: str, val: str
    ) -> None:
        pairs(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", ["a 0", "b 1"], 0, 1)
        for split, text in (("train", train), ("val", val), ("test", "")):
            write(tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt", text)
        assert ids(opened(tmp_path)) == {"train": ["a 0"], "val": ["b 1"]}

    def test_image_and_mask_in_a_line(self, tmp_path: Path) -> None:
        pairs(tmp_path / "JPEGImages", tmp_path / "SegmentationClass", ["a", "b"], 0, 1)
        for split, name in (("train", "a"), ("val", "b")):
            line = f"JPEGImages/{name}.jpg SegmentationClass/{name}.png\n"
            write(tmp_path / "ImageSets" / "Segmentation" / f"{split}.txt", line)
        assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["b"]}

    @pytest.mark.parametrize("lines", ["", "t0\nt1\n"])
    def test_test_list_without_masks_is_left_out_with_a_note(self, tmp_path: Path, lines: str) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["photo 0", "b"], 0, 1)
        for name in ("t0", "t1"):
            if lines:
                image(tmp_path / "images" / f"{name}.jpg")
        for split, text in (("train", "photo 0.jpg\n"), ("val", "b\n"), ("test", lines)):
            write(tmp_path / f"{split}.txt", text)
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["photo 0"], "val": ["b"]}
        assert has_note(dataset, "the test split", "left out")


class TestFolders:
    @pytest.mark.parametrize("gone", ["images/*", "masks/*", "*/*", "masks"])
    def test_test_split_without_masks_or_images_is_left_out_with_a_note(self, tmp_path: Path, gone: str) -> None:
        splits(tmp_path, "train", "val", "test")
        for path in (tmp_path / "test").glob(gone):
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        dataset = opened(tmp_path)
        assert set(ids(dataset)) == {"train", "val"}
        assert has_note(dataset, "the test split", "left out")

    @pytest.mark.parametrize("folder", ["runs/val/exp", "logs/validation", "runs/train/exp"])
    def test_what_training_leaves_behind_is_no_split(self, tmp_path: Path, folder: str) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b", "c"], 0, 1)
        write(tmp_path / folder / "events.out.tfevents", "x")
        image(tmp_path / folder / "val_batch0_labels.jpg")
        assert set(ids(opened(tmp_path))) == {"train", "val"}

    def test_splits_below_a_folder_that_is_read_whole_are_named(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            for name in ("a", "b"):
                image(tmp_path / "images" / "10k" / split / f"{split}{name}.jpg")
                mask(tmp_path / "labels" / "masks" / split / f"{split}{name}.png", 0, 1)
        with pytest.raises(DataError, match=r"images/10k/val: is named like split 'val'"):
            opened(tmp_path)

    def test_training_and_validation_in_one_folder_is_named_next_to_a_test_split(self, tmp_path: Path) -> None:
        splits(tmp_path, "train_val", "TEST")
        with pytest.raises(DataError, match=r"train_val: is named like split 'train'"):
            opened(tmp_path)


def test_labelme_files_that_were_moved_with_their_images(tmp_path: Path) -> None:
    shapes = [{"label": "fig", "points": [[0, 0], [4, 0], [4, 4]], "shape_type": "polygon"}]
    for name, path in (("a", "..\\images\\a.jpg"), ("b", "C:\\Users\\me\\b.jpg"), ("c", "/home/me/c.jpg")):
        image(tmp_path / f"{name}.jpg", height=8, width=10)
        write(
            tmp_path / f"{name}.json",
            json.dumps({"imagePath": path, "imageHeight": 8, "imageWidth": 10, "shapes": shapes}),
        )
    assert sorted(all_ids(opened(tmp_path))) == ["a", "b", "c"]


def test_cvats_camvid_export_has_no_masks_where_nothing_is_labelled(tmp_path: Path) -> None:
    pairs(tmp_path / "default", tmp_path / "defaultannot", ["a", "b", "c"], 0, 1)
    image(tmp_path / "default" / "d.jpg")
    write(tmp_path / "label_colors.txt", "0 0 0 background\n1 1 1 fig\n")
    with pytest.raises(DataError, match=r"d\.jpg: no mask of this name"):  # it might be anybody's
        opened(tmp_path)
    write(tmp_path / "default.txt", "/default/a.jpg /defaultannot/a.png\n")
    dataset = opened(tmp_path)
    assert sorted(all_ids(dataset)) == ["a", "b", "c"]
    assert has_note(dataset, "1 images", "d.jpg", "left out")


@pytest.mark.parametrize(
    "text",
    [
        "name,r,g,b\nground,0,0,0\nfig,1,1,1\n,,,\n",
        "name,r,g,b\nground,0,0,0,\nfig,1,1,1,\n",
        "name;r;g;b\nground;0;0;0\nfig;1;1;1\n",
        "name\tr\tg\tb\nground\t0\t0\t0\nfig\t1\t1\t1\n",
        "name,r,g,b\nunlabeled,9,9,9\nvoid,9,9,9\nground,0,0,0\nfig,1,1,1\n",
    ],
)
def test_class_tables_as_spreadsheets_write_them(tmp_path: Path, text: str) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 1)
    write(tmp_path / "class_dict.csv", text)
    assert list(opened(tmp_path).classes.names) == ["ground", "fig"]


def test_names_may_be_commented_and_not_skipped(tmp_path: Path) -> None:
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 1)
    write(tmp_path / "classes.txt", "# mine\nground\nfig\n")
    assert opened(tmp_path).classes.names == ("ground", "fig")
    write(tmp_path / "classes.txt", "ground\n\nfig\n")
    with pytest.raises(DataError, match="line 2: is empty, but a class is known by its line"):
        opened(tmp_path)
