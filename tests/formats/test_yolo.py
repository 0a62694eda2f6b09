"""YOLO outlines: layouts that are recognised, and pixels that lines of labels become."""

from pathlib import Path

import numpy as np
import pytest

from made_files import all_ids, has_note, ids, image, mask, opened, write
from made_yolo import HEIGHT, NAMES, SQUARE, WIDTH, add, read, ultralytics
from pyramidseg.base.errors import DataError


class TestLayouts:
    def test_ultralytics(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path))
        assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}
        assert dataset.layout == "YOLO outlines (data.yaml)"
        assert dataset.classes.names == ("background", "car", "bus")

    def test_roboflow(self, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            add(tmp_path, f"{split}/images", "a_jpg.rf.012")
        paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        write(tmp_path / "data.yaml", f"{paths}\nnc: 2\nnames: ['car', 'bus']\nroboflow:\n  version: 1\n")
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a_jpg.rf.012"], "val": ["a_jpg.rf.012"]}
        assert has_note(dataset, "data.yaml names test images that are not there")

    @pytest.mark.parametrize("prefix", ["", "./", "data/"])
    def test_cvat_lists_images_in_text_files(self, tmp_path: Path, prefix: str) -> None:
        add(tmp_path, "images/train", "a", "b", "c")
        write(tmp_path / "train.txt", "".join(f"{prefix}images/train/{name}.jpg\n" for name in ("a", "b")))
        write(tmp_path / "data.yaml", "path: .\ntrain: train.txt\nnames:\n  0: car\n  1: bus\n")
        dataset = opened(tmp_path)
        assert all_ids(dataset) == ["images/train/a", "images/train/b"]

    @pytest.mark.parametrize(
        ("file", "prefix"),
        [
            ("train.txt", "{root}/"),
            ("train.txt", "./"),
            ("splits/train.txt", "./../"),
            ("splits/train.txt", ".\\..\\"),
            ("splits/train.txt", "../"),
            ("splits/train.txt", ""),
            ("splits/train.txt", "./"),
        ],
    )
    def test_lists_name_images_relative_to_the_list_or_to_the_root(
        self, tmp_path: Path, file: str, prefix: str
    ) -> None:
        add(tmp_path, "images/train", "a", "b")
        write(tmp_path / file, "".join(f"{prefix.format(root=tmp_path)}images/train/{name}.jpg\n" for name in "ab"))
        write(tmp_path / "data.yaml", f"train: {file}\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["images/train/a", "images/train/b"]

    def test_line_that_begins_with_a_dot_means_the_folder_of_its_list_first(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a")
        add(tmp_path, "splits/images", "a", "b")
        write(tmp_path / "splits/train.txt", "./images/a.jpg\n./images/b.jpg\n")
        write(tmp_path / "data.yaml", f"train: splits/train.txt\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["splits/images/a", "splits/images/b"]

    def test_sources_may_be_absolute(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "data.yaml", f"train: {tmp_path}/images/train\nval: {tmp_path}/images/val\n{NAMES}")
        assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_path_may_name_a_folder_next_to_the_description(self, tmp_path: Path) -> None:
        add(tmp_path / "mine", "images/train", "a", "b")
        add(tmp_path, "other/images", "c")
        write(tmp_path / "data.yaml", f"path: mine\ntrain: images/train\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["a", "b"]

    def test_several_folders_of_one_split(self, tmp_path: Path) -> None:
        add(tmp_path, "one/images", "a")
        add(tmp_path, "two/images", "a", "b")
        write(tmp_path / "data.yaml", f"train: [one/images, two/images]\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["one/images/a", "two/images/a", "two/images/b"]

    @pytest.mark.parametrize("images", ["images/{}", "{}/images"])
    def test_folders_alone_are_recognised(self, tmp_path: Path, images: str) -> None:
        add(tmp_path, images.format("train"), "a", "deep/b")
        add(tmp_path, images.format("valid"), "c", label=f"1 {SQUARE}")
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a", "deep/b"], "val": ["c"]}
        assert dataset.classes.names == ("background", "class 0", "class 1")
        assert has_note(dataset, "there is no data.yaml with names", "2 classes")

    def test_label_studio_lists_names_in_classes_txt(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a", "b")
        write(tmp_path / "classes.txt", "car\nbus\n")
        write(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "car"}]}')
        assert opened(tmp_path, format="yolo").classes.names == ("background", "car", "bus")

    def test_description_may_have_another_name(self, tmp_path: Path) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").rename(tmp_path / "coco8-seg.yaml")
        assert opened(tmp_path).classes.names == ("background", "car", "bus")

    @pytest.mark.parametrize("name", ["data.yaml", "dataset.yaml", "coco8-seg.yaml"])
    def test_description_itself_can_be_named(self, tmp_path: Path, name: str) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").rename(tmp_path / name)
        assert ids(opened(tmp_path / name)) == ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_splits_can_be_named_in_a_yaml_file(self, tmp_path: Path) -> None:
        add(tmp_path, "images/train2017", "a", "b")
        add(tmp_path, "images/val2017", "c")
        write(tmp_path / "dataset.yaml", "format: yolo\ntrain: train2017\nval: val2017\n")
        assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_masks_called_labels_are_not_outlines(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "labels" / f"{name}.png")
        assert opened(tmp_path).layout.startswith("paired folders")

    def test_other_text_files_are_not_outlines(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a", "b", label="Pedestrian 0.00 0 -0.20\n")
        with pytest.raises(DataError, match="not recognised as a dataset"):
            opened(tmp_path)

    def test_data_yaml_next_to_masks_does_not_make_them_outlines(self, tmp_path: Path) -> None:
        """As in Ultralytics' format for semantic segmentation."""
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "masks" / f"{name}.png")
        write(tmp_path / "data.yaml", f"train: images\nmasks_dir: masks\n{NAMES}")
        assert opened(tmp_path).layout.startswith("paired folders")
        write(tmp_path / "data.yaml", "model: large\n")
        assert opened(tmp_path).layout.startswith("paired folders")

    def test_data_yaml_without_labels_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"data\.yaml names classes, but no image has a label file"):
            opened(ultralytics(tmp_path, label=None))


class TestOutlines:
    def test_shares_of_the_image_become_pixels(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"0 {SQUARE}\n\n1 0.9 0.875 1.0 0.875 1.0 1.0 0.9 1.0\n"))
        expected = np.zeros((HEIGHT, WIDTH))
        expected[:4, :4] = 1
        expected[7, 9] = 2
        assert np.array_equal(read(dataset), expected)

    def test_smaller_of_overlapping_objects_is_on_top(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"1 {SQUARE}\n0 0 0 1 0 1 1 0 1\n"))
        assert (read(dataset)[0, 0], read(dataset)[7, 9]) == (2, 1)
        assert has_note(dataset, "where objects overlap, the smaller is on top")

    def test_image_without_label_file_is_background_with_a_note(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        (tmp_path / "labels/train/a.txt").unlink()
        dataset = opened(tmp_path)
        assert read(dataset).shape == (HEIGHT, WIDTH)
        assert not read(dataset).any()
        assert has_note(dataset, "1 of the 2 train images have no label file: all background")

    @pytest.mark.parametrize("source", ["images/train", "train.txt"])
    def test_label_file_may_have_its_extension_in_capitals(self, tmp_path: Path, source: str) -> None:
        ultralytics(tmp_path, yaml=f"{NAMES}train: {source}\n")
        write(tmp_path / "train.txt", "images/train/a.jpg\nimages/train/b.jpg\n")
        (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/train/a.TXT")
        dataset = opened(tmp_path)
        assert read(dataset).any()
        assert not has_note(dataset, "have no label file")

    def test_empty_label_file_is_background(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "labels/train/a.txt", "")
        assert not read(opened(tmp_path)).any()

    def test_class_called_background_is_background(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"1 {SQUARE}", yaml="names: {0: background, 1: car}\n"))
        assert dataset.classes.names == ("background", "car")
        assert read(dataset)[0, 0] == 1

    def test_classes_of_one_name_are_one_with_a_note(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"2 {SQUARE}", yaml="names: [car, bus, car]\n"))
        assert dataset.classes.names == ("background", "car", "bus")
        assert read(dataset)[0, 0] == 1
        assert has_note(dataset, "several classes are called car: they are one class")
