"""COCO: layouts that are read, and images turned by EXIF."""

from pathlib import Path

import pytest
from PIL import Image

from made_coco import HEIGHT, WIDTH, coco, images, objects
from made_files import has_note, ids, mask, opened, write
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.inspection.training_check import check_dataset


class TestLayouts:
    def test_coco_2017(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            images(tmp_path / f"{split}2017", "000000000009.jpg", "000000000025.jpg")
            names = ["000000000009.jpg", "000000000025.jpg"]
            coco(tmp_path / "annotations" / f"instances_{split}2017.json", names, objects({}))
            write(
                tmp_path / "annotations" / f"captions_{split}2017.json",
                '{"images": [], "annotations": [{"id": 1, "image_id": 2}]}',
            )
            coco(tmp_path / "annotations" / f"person_keypoints_{split}2017.json", names, objects({}))
        dataset = opened(tmp_path)
        assert ids(dataset) == {split: ["000000000009", "000000000025"] for split in ("train", "val")}
        assert dataset.layout == "COCO (annotations/instances_train2017.json, annotations/instances_val2017.json)"
        assert dataset.classes.names == ("background", "car", "bottle")

    def test_roboflow(self, tmp_path: Path) -> None:
        grouping = {"id": 0, "name": "things", "supercategory": "none"}
        categories = [
            grouping,
            *({"id": index, "name": name, "supercategory": "things"} for index, name in ((1, "cat"), (2, "dog"))),
        ]
        for split in ("train", "valid", "test"):
            images(tmp_path / split, "a_jpg.rf.0123.jpg")
            annotations = objects({"category_id": 1}, {"category_id": 2})
            coco(tmp_path / split / "_annotations.coco.json", ["a_jpg.rf.0123.jpg"], annotations, categories=categories)
        write(tmp_path / "README.roboflow.txt", "Exported by Roboflow")
        dataset = opened(tmp_path)
        assert ids(dataset) == {split: ["a_jpg.rf.0123"] for split in ("train", "val", "test")}
        assert dataset.classes.names == ("background", "cat", "dog")
        assert has_note(dataset, "categories things only group others", "left out")

    @pytest.mark.parametrize(
        ("file", "folder"),
        [
            ("annotations/instances_default.json", "images"),  # CVAT
            ("annotations/instances_default.json", "images/default"),  # CVAT of 2024
            ("result.json", "images"),  # Label Studio
            ("labels.json", "data"),  # FiftyOne
            ("annotations.json", "JPEGImages"),  # labelme2coco
            ("annotations.json", ""),
        ],
    )
    def test_single_file_is_divided_by_name(self, tmp_path: Path, file: str, folder: str) -> None:
        names = [f"{index:03d}.jpg" for index in range(10)]
        images(tmp_path / folder, *names)
        coco(tmp_path / file, names, objects({}))
        dataset = opened(tmp_path, val_share=0.3)
        assert {split: len(records) for split, records in dataset.splits.items()} == {"train": 7, "val": 3}

    @pytest.mark.parametrize("folder", ["images/{}", "{}", "{}/images", "images"])
    def test_files_of_several_splits_next_to_each_other(self, tmp_path: Path, folder: str) -> None:
        for split in ("train", "val"):
            images(tmp_path / folder.format(split), f"{split}.jpg")
            coco(tmp_path / f"{split}.json", [f"{split}.jpg"], objects({}))
        assert ids(opened(tmp_path)) == {"train": ["train"], "val": ["val"]}

    def test_names_with_folders_are_followed(self, tmp_path: Path) -> None:
        """Windows programs write backslashes."""
        images(tmp_path, "images/deep/a.jpg", "images/b.jpg")
        coco(tmp_path / "annotations" / "instances.json", ["images\\deep\\a.jpg", "images/b.jpg"], objects({}))
        assert sorted(name for names in ids(opened(tmp_path)).values() for name in names) == [
            "images/b",
            "images/deep/a",
        ]

    def test_splits_can_be_named_in_a_yaml_file(self, tmp_path: Path) -> None:
        for split in ("train2014", "minival2014"):
            images(tmp_path / split, "a.jpg")
            coco(tmp_path / "annotations" / f"instances_{split}.json", ["a.jpg"], objects({}))
        write(tmp_path / "dataset.yaml", "format: coco\ntrain: train2014\nval: minival2014\n")
        dataset = opened(tmp_path)
        assert [record.image.parent.name for split in ("train", "val") for record in dataset.split(split)] == [
            "train2014",
            "minival2014",
        ]

    def test_masks_in_the_folder_of_annotations_leave_two_readings(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        coco(tmp_path / "annotations" / "instances.json", ["a.jpg", "b.jpg"], objects({}))
        for name in ("a", "b"):
            mask(tmp_path / "annotations" / f"{name}.png")
        with pytest.raises(DataError, match=r"could be of format paired or coco; set data\.format"):
            opened(tmp_path)
        assert opened(tmp_path, format="coco").layout.startswith("COCO")

    def test_two_files_of_one_split_are_refused(self, tmp_path: Path) -> None:
        images(tmp_path / "train", "a.jpg")
        for name in ("train.json", "train_v2.json"):
            coco(tmp_path / name, ["a.jpg"], objects({}))
        with pytest.raises(DataError, match=r"train_v2\.json: holds annotations of the same split as .*train\.json"):
            opened(tmp_path)

    @pytest.mark.parametrize("name", ["train.json", "train_fixed.json", "lvis_v1_train.json"])
    def test_a_file_next_to_instances_of_the_same_split_is_refused_until_one_is_chosen(
        self, tmp_path: Path, name: str
    ) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        folder = tmp_path / "annotations"
        for file, side in (("instances_train.json", 2), (name, 4)):
            square = [[0, 0, side, 0, side, side, 0, side]]
            coco(folder / file, ["a.jpg", "b.jpg"], objects({"segmentation": square}))
        with pytest.raises(
            DataError, match=rf"{name}: holds annotations of the same split as .*keep only one"
        ) as refusal:
            opened(tmp_path)
        assert "train: train2017" in str(refusal.value)
        word = {"train_fixed.json": "fixed", "lvis_v1_train.json": "lvis"}.get(name)
        if word:
            write(tmp_path / "dataset.yaml", f"format: coco\ntrain: {word}\n")
            assert self.pixels(opened(tmp_path)) == 16
            (tmp_path / "dataset.yaml").unlink()
        (folder / name).unlink()
        assert self.pixels(opened(tmp_path)) == 4

    @staticmethod
    def pixels(dataset: Dataset) -> int:
        return sum(int((dataset.masks.read(r) > 0).sum()) for records in dataset.splits.values() for r in records)

    def test_files_of_no_split_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        for name in ("instances_train.json", "stuff_train.json", "extra.json"):
            coco(tmp_path / "annotations" / name, ["a.jpg", "b.jpg"], objects({}))
        assert has_note(opened(tmp_path), "2 annotation files are not read", "extra.json", "stuff_train.json")

    def test_other_json_is_not_coco(self, tmp_path: Path) -> None:
        images(tmp_path, "a.jpg")
        write(tmp_path / "package.json", '{"name": "a", "images": ["a.jpg"], "annotations": [{"label": 1}]}')
        with pytest.raises(DataError, match="not recognised as a dataset"):
            opened(tmp_path)


def test_exif_turned_image_is_of_the_size_that_viewers_show(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    (tmp_path / "images").mkdir()
    for name in ("a.jpg", "b.jpg"):
        Image.new("RGB", (HEIGHT, WIDTH)).save(tmp_path / "images" / name, exif=exif)
    coco(tmp_path / "annotations.json", ["a.jpg", "b.jpg"], objects({}))
    dataset = opened(tmp_path)
    check_dataset(dataset)
    assert {dataset.masks.read(r).shape for records in dataset.splits.values() for r in records} == {(HEIGHT, WIDTH)}
