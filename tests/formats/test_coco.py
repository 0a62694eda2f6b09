import json
import pickle
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_files import all_ids, has_note, ids, image, mask, opened, write
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.coco.coco_json import parse_coco_json
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10

CATEGORIES = [
    {"id": 3, "name": "car", "supercategory": "vehicle"},
    {"id": 44, "name": "bottle", "supercategory": "kitchen"},
]


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    """The outline of a rectangle."""
    return [left, top, right, top, right, bottom, left, bottom]


def objects(*entries: dict[str, Any]) -> list[dict[str, Any]]:
    """Annotations with what they need: of image 0, category 3, numbered from 100 on."""
    needed = {
        "image_id": 0,
        "category_id": 3,
        "iscrowd": 0,
        "segmentation": [box(0, 0, 4, 4)],
        "area": 16,
        "bbox": [0, 0, 4, 4],
    }
    return [{"id": 100 + index, **needed, **entry} for index, entry in enumerate(entries)]


def coco(path: Path, names: list[str], annotations: list[dict[str, Any]], **changes: Any) -> Path:
    """An annotation file, in the order of COCO's own members."""
    content = {
        "info": {"year": 2017},
        "licenses": [{"id": 1}],
        "images": [
            {"id": index, "file_name": name, "height": HEIGHT, "width": WIDTH} for index, name in enumerate(names)
        ],
        "annotations": annotations,
        "categories": CATEGORIES,
        **changes,
    }
    return write(path, json.dumps({key: value for key, value in content.items() if value is not None}))


def images(folder: Path, *names: str) -> None:
    for name in names:
        image(folder / name, height=HEIGHT, width=WIDTH)


def single(root: Path, annotations: list[dict[str, Any]], **changes: Any) -> Dataset:
    """A dataset of one file, with two images for training and one for validation in a folder beside it."""
    images(root / "images", "a.jpg", "b.jpg")
    coco(root / "annotations.json", ["a.jpg", "b.jpg"], annotations, **changes)
    return opened(root)


def mask_of(dataset: Dataset, id: str) -> "np.ndarray[Any, np.dtype[np.uint8]]":
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def errors(dataset: Dataset) -> list[str]:
    found = []
    for records in dataset.splits.values():
        for record in records:
            try:
                dataset.masks.read(record)
            except DataError as error:
                found.append(str(error))
    return found


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


class TestObjects:
    def test_polygons_and_both_kinds_of_run_lengths_are_drawn(self, tmp_path: Path) -> None:
        lengths = [8, 3, 69]  # the first three pixels of column 1
        dataset = single(
            tmp_path,
            objects(
                {"segmentation": [box(4, 4, 7, 6), box(8, 0, 10, 1)]},
                {"segmentation": {"size": [HEIGHT, WIDTH], "counts": lengths}, "category_id": 44},
                {"segmentation": {"size": [HEIGHT, WIDTH], "counts": "32c20;2"}, "image_id": 1},
            ),
        )
        expected = np.zeros((HEIGHT, WIDTH))
        expected[4:6, 4:7] = 1
        expected[0, 8:] = 1
        expected[0:3, 1] = 2
        assert np.array_equal(mask_of(dataset, "a"), expected)

    def test_compressed_run_lengths_are_those_of_pycocotools(self, tmp_path: Path) -> None:
        encoder = pytest.importorskip("pycocotools.mask")
        pixels = np.random.default_rng(0).random((HEIGHT, WIDTH)) < 0.5
        counts = encoder.encode(np.asfortranarray(pixels, np.uint8))["counts"].decode()
        dataset = single(tmp_path, objects({"segmentation": {"size": [HEIGHT, WIDTH], "counts": counts}}))
        assert np.array_equal(mask_of(dataset, "a"), pixels)

    def test_smaller_of_overlapping_objects_is_on_top(self, tmp_path: Path) -> None:
        small, large = {"segmentation": [box(1, 1, 3, 3)], "category_id": 44}, {"segmentation": [box(0, 0, 6, 6)]}
        dataset = single(tmp_path, objects(small, large))
        assert (mask_of(dataset, "a")[2, 2], mask_of(dataset, "a")[4, 4]) == (2, 1)
        assert has_note(dataset, "where objects overlap, the smaller is on top")

    def test_image_without_objects_is_background_with_a_note(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({}))
        assert not mask_of(dataset, "b").any()
        assert has_note(dataset, "1 of the 2 train images have no object")

    def test_corners_a_little_outside_are_cut_off(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({"segmentation": [box(-0.05 * WIDTH, 0, 2, 1.05 * HEIGHT)]}))
        assert mask_of(dataset, "a").sum(axis=0).tolist() == [HEIGHT, HEIGHT] + [0] * (WIDTH - 2)

    def test_order_of_annotations_of_many_images_does_not_matter(self, tmp_path: Path) -> None:
        names = [f"{index}.jpg" for index in range(9)]
        images(tmp_path / "images", *names)
        annotations = objects(*({"image_id": index, "segmentation": [box(0, 0, index + 1, 1)]} for index in range(9)))
        random.Random(0).shuffle(annotations)
        coco(tmp_path / "annotations.json", names, annotations)
        dataset = opened(tmp_path)
        assert [int(mask_of(dataset, str(index)).sum()) for index in range(9)] == list(range(1, 10))

    def test_members_may_come_in_any_order(self, tmp_path: Path) -> None:
        images(tmp_path, "a.jpg", "b.jpg")
        file = coco(tmp_path / "annotations.json", ["a.jpg", "b.jpg"], objects({"image_id": 1}))
        content = json.loads(file.read_text())
        write(
            file, json.dumps({key: content[key] for key in ("categories", "annotations", "images", "info")}, indent=1)
        )
        assert mask_of(opened(tmp_path), "b").sum() == 16

    def test_the_source_of_masks_is_small_and_can_be_pickled(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects(*({"segmentation": [box(0, 0, 4, 4) * 500]} for _ in range(50))))
        packed = pickle.dumps(dataset.masks)
        assert len(packed) < 10_000 < (tmp_path / "annotations.json").stat().st_size / 50
        assert pickle.loads(packed).read(dataset.split("train")[0]).shape == (HEIGHT, WIDTH)

    def test_index_of_many_annotations_needs_little_memory(self, tmp_path: Path) -> None:
        """Only byte offsets are kept: the file has more than 30 MB."""
        outline = {"size": [HEIGHT, WIDTH], "counts": "0" * 1500}
        annotations = objects(*({"image_id": index // 2, "segmentation": outline} for index in range(20_000)))
        file = coco(tmp_path / "a.json", [f"{index:012d}.jpg" for index in range(10_000)], annotations)
        assert file.stat().st_size > 30e6
        del annotations
        tracemalloc.start()
        try:
            index = parse_coco_json(file)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert len(index.image_positions) == 20_000
        assert peak < 15e6
        assert len(pickle.dumps(index.slices)) < 500_000

    def test_changed_annotations_are_refused(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({}))
        coco(tmp_path / "annotations.json", ["a.jpg"], objects({}, {}))
        assert all("has changed since the dataset was opened" in error for error in errors(dataset))


class TestCrowds:
    def crowded(self, root: Path, **settings: Any) -> Dataset:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 40, 40]}}
        images(root / "images", "a.jpg", "b.jpg")
        coco(
            root / "annotations.json",
            ["a.jpg", "b.jpg"],
            objects({"segmentation": [box(0, 0, 5, 8)]}, crowd, {"image_id": 1, "category_id": 44}),
        )
        return opened(root, **settings)

    def test_crowds_are_ignored_by_default_and_drawn_below_objects(self, tmp_path: Path) -> None:
        dataset = self.crowded(tmp_path)
        assert dataset.classes.names == ("background", "car", "bottle")
        assert mask_of(dataset, "a")[0].tolist() == [1] * 5 + [0] * 5
        assert has_note(dataset, "1 crowds (iscrowd)", "ignored", "{name: car, from: [car, car (crowd)]}")

    def test_pixels_of_a_crowd_alone_are_ignored(self, tmp_path: Path) -> None:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 16, 64]}}
        dataset = single(tmp_path, objects(crowd, {"segmentation": [box(8, 0, 10, 8)]}))
        assert mask_of(dataset, "a")[0].tolist() == [IGNORE] * 2 + [0] * 6 + [1] * 2

    def test_where_all_of_a_class_are_crowds_they_are_its_objects(self, tmp_path: Path) -> None:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 16, 64]}}
        dataset = single(tmp_path, objects(crowd, {"category_id": 44, "segmentation": [box(8, 0, 10, 8)]}))
        assert mask_of(dataset, "a")[0].tolist() == [1] * 2 + [0] * 6 + [2] * 2
        assert has_note(dataset, "all annotations of car are crowds (iscrowd): they are read as objects")
        assert not has_note(dataset, "ignored; to train on them")

    def test_where_all_of_a_file_are_crowds_they_are_its_objects(self, tmp_path: Path) -> None:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 16, 64]}}
        images(tmp_path / "images", "a.jpg", "b.jpg")
        coco(tmp_path / "annotations" / "train.json", ["a.jpg"], objects(crowd))
        coco(tmp_path / "annotations" / "val.json", ["b.jpg"], objects({"segmentation": [box(0, 0, 5, 8)]}))
        dataset = opened(tmp_path)
        assert mask_of(dataset, "a")[0].tolist() == [1] * 2 + [0] * 8
        assert mask_of(dataset, "b")[0].tolist() == [1] * 5 + [0] * 5
        assert has_note(dataset, "all annotations of train.json are crowds (iscrowd)")

    def test_crowds_read_as_objects_keep_their_name_for_older_dataset_files(self, tmp_path: Path) -> None:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 16, 64]}}
        single(tmp_path, objects(crowd, {"category_id": 44}))
        write(tmp_path / "dataset.yaml", "classes: [background, {name: car, from: [car, car (crowd)]}, bottle]")
        assert opened(tmp_path).classes.names == ("background", "car", "bottle")

    def test_user_can_make_crowds_their_class(self, tmp_path: Path) -> None:
        crowd = {"iscrowd": 1, "segmentation": {"size": [HEIGHT, WIDTH], "counts": [0, 16, 64]}}
        single(tmp_path, objects(crowd, {"image_id": 1, "category_id": 44}))
        write(tmp_path / "dataset.yaml", "classes: [background, {name: car, from: [car, car (crowd)]}, bottle]")
        assert mask_of(opened(tmp_path), "a")[0].tolist() == [1] * 2 + [0] * 8


class TestCategories:
    def test_ids_may_have_gaps_and_be_in_any_order(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({"category_id": 44}), categories=CATEGORIES[::-1])
        assert dataset.classes.names == ("background", "car", "bottle")
        assert mask_of(dataset, "a")[0, 0] == 2

    def test_id_0_can_be_a_category_like_any_other(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({"category_id": 0}), categories=[{"id": 0, "name": "car"}])
        assert dataset.classes.names == ("background", "car")
        assert mask_of(dataset, "a")[0, 0] == 1

    def test_unused_categories_stay_classes_with_a_note(self, tmp_path: Path) -> None:
        dataset = single(tmp_path, objects({}))
        assert dataset.classes.names == ("background", "car", "bottle")
        assert has_note(dataset, "the categories bottle have no object")

    def test_categories_of_one_name_are_one_class_with_a_note(self, tmp_path: Path) -> None:
        categories = [*CATEGORIES, {"id": 45, "name": "car"}]
        dataset = single(tmp_path, objects({}, {"category_id": 45, "image_id": 1}), categories=categories)
        assert dataset.classes.names == ("background", "car", "bottle")
        assert mask_of(dataset, "a")[0, 0] == mask_of(dataset, "b")[0, 0] == 1
        assert has_note(dataset, "several categories are called car")

    def test_category_called_background_is_background(self, tmp_path: Path) -> None:
        categories = [{"id": 1, "name": "Background"}, *CATEGORIES]
        dataset = single(
            tmp_path, objects({}, {"category_id": 1, "segmentation": [box(0, 0, 1, 1)]}), categories=categories
        )
        assert dataset.classes.names == ("background", "car", "bottle")
        assert mask_of(dataset, "a")[0, :3].tolist() == [0, 1, 1]

    def test_splits_are_joined_by_name_where_ids_differ(self, tmp_path: Path) -> None:
        for split, categories in (
            ("train", CATEGORIES),
            ("val", [{"id": 1, "name": "bottle"}, {"id": 2, "name": "car"}]),
        ):
            images(tmp_path / split, "a.jpg")
            coco(
                tmp_path / f"{split}.json",
                ["a.jpg"],
                objects({"category_id": categories[0]["id"]}),
                categories=categories,
            )
        dataset = opened(tmp_path)
        read = {split: dataset.masks.read(dataset.split(split)[0])[0, 0] for split in ("train", "val")}
        assert {split: dataset.classes.names[label] for split, label in read.items()} == {
            "train": "car",
            "val": "bottle",
        }

    def test_some_categories_can_be_chosen_by_name(self, tmp_path: Path) -> None:
        single(tmp_path, objects({}, {"category_id": 44, "segmentation": [box(5, 5, 9, 8)]}))
        dataset = opened(tmp_path, classes=["background", "bottle"], ignore=["car"])
        assert (mask_of(dataset, "a")[0, 0], mask_of(dataset, "a")[6, 6]) == (IGNORE, 1)

    def test_values_of_no_class_are_reported_by_name(self, tmp_path: Path) -> None:
        single(tmp_path, objects({}))
        (message,) = errors(opened(tmp_path, classes=["background", "bottle"]))
        assert "mask value car (16 pixels) is not a known class" in message

    def test_more_categories_than_classes_are_possible_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(
            ConfigError, match="class ids range from 0 to 300, but only 0 to 254 are supported; list fewer"
        ):
            single(tmp_path, objects({}), categories=[{"id": index, "name": f"c{index}"} for index in range(300)])


def defects(root: Path) -> list[Defect]:
    _, found = open_with_defects(root, DataConfig())
    return found


@pytest.mark.parametrize("name", [".", "..", "../images/.."])
def test_a_folder_in_place_of_an_image_is_a_missing_file(tmp_path: Path, name: str) -> None:
    images(tmp_path / "images", "a.jpg")
    coco(tmp_path / "annotations.json", ["a.jpg", name], objects({}))
    (defect,) = defects(tmp_path)
    assert defect.kind == DefectKind.ABSENT
    assert "there is no such file" in defect.detail


class TestDefects:
    def test_missing_images_are_all_named(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        coco(tmp_path / "annotations.json", ["a.jpg", "gone.jpg", "b.jpg", "lost.jpg"], objects({}))
        assert [(defect.kind, defect.file.name) for defect in defects(tmp_path)] == [
            (DefectKind.ABSENT, "gone.jpg"),
            (DefectKind.ABSENT, "lost.jpg"),
        ]
        with pytest.raises(
            DataError, match=r"images/gone\.jpg: .*, images/lost\.jpg: .* names it, but there is no such file"
        ):
            opened(tmp_path)

    def test_images_outside_the_dataset_are_never_opened(self, tmp_path: Path) -> None:
        outside = tmp_path / "outside.jpg"
        image(outside)
        root = tmp_path / "set"
        images(root / "images", "a.jpg", "b.jpg")
        names = ["a.jpg", "../../outside.jpg", str(outside), "C:\\a.jpg", "b.jpg"]
        coco(root / "annotations.json", names, objects({}))
        found = defects(root)
        assert [defect.kind for defect in found] == [DefectKind.OUTSIDE] * 3
        assert all(
            defect.file.name == "annotations.json" and "is outside the dataset" in defect.detail for defect in found
        )

    @pytest.mark.parametrize(
        "name",
        [
            "/home/me/{}",
            "C:\\me\\{}",
            "..\\..\\media\\upload\\4\\{}",
            "images\\1/{}",
            "https://host/x/{}?v=1",
            "/data/local-files/?d=x%2F{}&y=2",
            "pics/{}",
        ],
    )
    def test_names_of_another_place_take_the_only_image_of_the_name(self, tmp_path: Path, name: str) -> None:
        outside = tmp_path / "home/me"
        images(outside, "a b.jpg")
        root = tmp_path / "set"
        images(root / "images", "a b.jpg", "b.jpg")
        coco(root / "result.json", [name.format("a%20b.jpg"), name.format("b.jpg")], objects({}))
        dataset, found = open_with_defects(root, DataConfig())
        assert (found, sorted(all_ids(dataset))) == ([], ["images/a b", "images/b"])
        assert {record.image.parent for some in dataset.splits.values() for record in some} == {root / "images"}
        assert has_note(dataset, "2 names of images in result.json", "the only image of the same name was taken")
        first = next(record for some in dataset.splits.values() for record in some if record.id == "images/a b")
        single = tmp_path / "plain"
        images(single / "images", "a b.jpg", "b.jpg")
        coco(single / "result.json", ["a b.jpg", "b.jpg"], objects({}))
        assert np.array_equal(dataset.masks.read(first), mask_of(opened(single), "a b"))

    def test_same_names_of_another_split_are_not_taken(self, tmp_path: Path) -> None:
        images(tmp_path / "train", "b.jpg")
        images(tmp_path / "val", "a.jpg", "c.jpg")
        coco(tmp_path / "train.json", ["a.jpg", "b.jpg", "C:\\x\\c.jpg"], objects({}))
        coco(tmp_path / "val.json", ["a.jpg", "c.jpg"], objects({}))
        kinds = [defect.kind for defect in defects(tmp_path)]
        assert kinds == [DefectKind.ABSENT, DefectKind.OUTSIDE]

    def test_two_images_of_the_name_and_two_names_of_the_image_are_defects(self, tmp_path: Path) -> None:
        images(tmp_path / "images/x", "a.jpg")
        images(tmp_path / "images/y", "a.jpg", "b.jpg", "c.jpg")
        names = ["y/c.jpg", "/q/a.jpg", "/q/b.jpg", "/r/b.jpg"]
        coco(tmp_path / "annotations.json", names, objects({}))
        assert [defect.kind for defect in defects(tmp_path)] == [DefectKind.OUTSIDE] * 3

    @pytest.mark.parametrize("name", ["..", ".", "../images", "images/.."])
    def test_folders_are_not_images(self, tmp_path: Path, name: str) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        coco(tmp_path / "annotations.json", ["a.jpg", name, "b.jpg"], objects({}))
        (defect,) = defects(tmp_path)
        assert defect.kind in (DefectKind.ABSENT, DefectKind.OUTSIDE)

    def test_images_outside_do_not_hide_those_inside(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        names = [*(f"/home/me/{number}.jpg" for number in range(20)), str(tmp_path / "images/a.jpg"), "b.jpg"]
        coco(tmp_path / "annotations.json", names, objects({}))
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert all_ids(dataset) == ["a", "b"]
        assert [defect.kind for defect in found] == [DefectKind.OUTSIDE] * 20

    def test_file_without_any_of_its_images_is_reported(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        coco(tmp_path / "annotations.json", ["a.jpg"], objects({}))
        with pytest.raises(DataError, match=r"none of its 1 images, such as 'a\.jpg', is in the dataset"):
            opened(tmp_path)

    def test_images_that_no_file_lists_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg", "c.jpg", "d.jpg")
        coco(tmp_path / "annotations.json", ["a.jpg", "b.jpg"], objects({}))
        assert has_note(opened(tmp_path), "2 images, such as", "c.jpg", "are in no annotation file")

    @pytest.mark.parametrize("image_id", [77, "0"])
    def test_annotations_of_unlisted_images_are_named(self, tmp_path: Path, image_id: Any) -> None:
        """Their pixels would be background in silence."""
        with pytest.raises(DataError, match=r"annotation 101: is of image .* \(image_id\), which images does not list"):
            single(tmp_path, objects({}, {"image_id": image_id}))

    def test_very_many_annotations_without_an_image_are_counted(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        coco(tmp_path / "annotations.json", ["a.jpg", "b.jpg"], objects({}, *[{"image_id": 9}] * 250))
        found = defects(tmp_path)
        assert len(found) == 101
        assert found[-1].detail == "... and 150 more defects"

    def test_all_entries_that_cannot_be_used_are_named_and_the_rest_is_listed(self, tmp_path: Path) -> None:
        names = ["a.jpg", "b.jpg", "c.jpg"]
        images(tmp_path / "images", *names)
        coco(
            tmp_path / "annotations.json",
            [],
            [*objects({}, {"image_id": None}, {"image_id": 2}), 7],
            images=[
                *({"id": index, "file_name": name} for index, name in enumerate(names[:2])),
                {"id": 0, "file_name": "a.jpg"},
                {"id": 2, "file_name": 5},
            ],
            categories=[*CATEGORIES, {"id": 3, "name": "bus"}],
        )
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert sorted(ids(dataset)["train"] + ids(dataset)["val"]) == ["a", "b"]
        assert sorted((defect.kind.value, defect.detail.split(":")[0]) for defect in found) == [
            ("bad-annotation", "annotations"),
            ("bad-annotation", "annotations holds 7, where an object is needed"),
            ("bad-annotation", "categories"),
            ("bad-annotation", "images"),
            ("repeated-id", "images"),
        ]
        with pytest.raises(
            DataError, match=r"annotation or list that cannot be read or drawn \(4\): .* lacks image_id"
        ):
            opened(tmp_path)

    @pytest.mark.parametrize("kept", [0, 20, 400])
    def test_truncated_file_ends_its_split_alone(self, tmp_path: Path, kept: int) -> None:
        for split in ("train", "val"):
            images(tmp_path / split, *(f"{index}.jpg" for index in range(9)))
            file = coco(tmp_path / f"{split}.json", [f"{index}.jpg" for index in range(9)], objects({}))
        file.write_bytes(file.read_bytes()[:kept])
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.BAD_ANNOTATION, "val.json")]
        assert {split: len(records) for split, records in dataset.splits.items()} == {"train": 9}  # none becomes val
        with pytest.raises(DataError, match=r"val\.json: not readable as JSON"):
            opened(tmp_path)

    def test_missing_images_of_one_split_do_not_affect_the_others(self, tmp_path: Path) -> None:
        images(tmp_path / "train", "a.jpg", "b.jpg")
        coco(tmp_path / "train.json", ["a.jpg", "b.jpg"], objects({}))
        coco(tmp_path / "val.json", ["c.jpg"], objects({}))
        assert [(defect.kind, defect.file.name) for defect in defects(tmp_path)] == [(DefectKind.ABSENT, "val.json")]

    def test_all_annotations_of_an_image_that_cannot_be_drawn_are_named(self, tmp_path: Path) -> None:
        bad = [{"segmentation": [[1, 2, 3, 4, 5, float("nan")]]}, {"segmentation": [[1, 2]]}, {"category_id": 9}]
        dataset = single(tmp_path, objects(*bad, {}))
        record = next(record for records in dataset.splits.values() for record in records if record.id == "a")
        with pytest.raises(DefectError) as caught:
            dataset.masks.read(record)
        assert [defect.detail.split(":")[0] for defect in caught.value.defects] == [
            f"annotation {number} of a" for number in (100, 101, 102)
        ]

    def test_image_listed_twice(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg", "b.png", "c.jpg", "d.jpg")
        coco(tmp_path / "annotations.json", ["a.jpg", "a.jpg", "b.jpg", "b.png", "c.jpg", "d.jpg"], objects({}))
        found = [(defect.kind, defect.file.name) for defect in defects(tmp_path)]
        assert found == [(DefectKind.REPEATED_ID, "a.jpg"), (DefectKind.SAME_STEM, "b.png")]

    @pytest.mark.parametrize(
        ("segmentation", "message"),
        [
            ([[1, 2, 3, 4]], "a polygon needs at least 3 points, but has 2"),
            ([[1, 2, 3, 4, 5, 6, 7]], "every point needs an x and a y"),
            ([[1, 2, 3, 4, 5, float("nan")]], "not a finite number"),
            ([[1, 2, 3, 4, 5, float("-inf")]], "not a finite number"),
            ([[1, 2, 3, 4, 5, "six"]], "must be numbers"),
            ([[1, 2, 3, 4, 5, 10**400]], "must be numbers"),
            ([1, 2, 3, 4, 5, 6], "not in a list of their own"),
            ([box(-500, 0, 4, 4)], r"the point \(-500, 0\) is far outside the image of 8 x 10 pixels"),
            ([box(0, 0, 4, 4), box(0, 0, 4, 1e300)], r"the point \(4, 1e\+300\) is far outside"),
            ([], "has no outline"),
            (None, "has no outline"),
            ("abc", "has no outline"),
            ({"size": [HEIGHT, WIDTH], "counts": [1, 2]}, "must add up"),
            ({"size": [HEIGHT, WIDTH], "counts": "~~"}, "is not a COCO encoding"),
            ({"size": [WIDTH, HEIGHT], "counts": [80]}, r"are of an image of \[10, 8\] pixels"),
            ({"counts": [80]}, "are of an image of None pixels"),
            ({"size": [HEIGHT, WIDTH]}, "must be a list of whole numbers"),
        ],
    )
    def test_outlines_that_cannot_be_drawn_are_named(self, tmp_path: Path, segmentation: Any, message: str) -> None:
        dataset = single(tmp_path, objects({}, {"segmentation": segmentation, "image_id": 1}))
        record = next(record for records in dataset.splits.values() for record in records if record.id == "b")
        with pytest.raises(DefectError, match=rf"annotations\.json: annotation 101 of b: .*{message}") as caught:
            dataset.masks.read(record)
        assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION

    def test_boxes_alone_are_refused_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"none of its 2 annotations has an outline .*boxes are not masks"):
            single(tmp_path, objects({"segmentation": []}, {"segmentation": None}))

    def test_size_that_contradicts_the_image_is_a_defect(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        sizes = [
            {"id": 0, "file_name": "a.jpg", "height": HEIGHT, "width": WIDTH},
            {"id": 1, "file_name": "b.jpg", "height": WIDTH, "width": HEIGHT},
        ]
        coco(tmp_path / "annotations.json", [], objects({}), images=sizes)
        with pytest.raises(DataError, match=r"gives b a size of 10 x 8 pixels .*b\.jpg is 8 x 10; .*correct the size"):
            check_dataset(opened(tmp_path))

    def test_masks_of_another_size_are_resized_with_consent(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        double = [
            {"id": index, "file_name": name, "height": 2 * HEIGHT, "width": 2 * WIDTH}
            for index, name in enumerate(("a.jpg", "b.jpg"))
        ]
        coco(tmp_path / "annotations.json", [], objects({"segmentation": [box(0, 0, 8, 8)]}), images=double)
        assert mask_of(opened(tmp_path, resize_masks=True), "a").sum() == 16

    def test_size_that_is_not_given_is_that_of_the_image(self, tmp_path: Path) -> None:
        entries = [{"id": index, "file_name": name} for index, name in enumerate(("a.jpg", "b.jpg"))]
        assert mask_of(single(tmp_path, objects({}), images=entries), "a").shape == (HEIGHT, WIDTH)

    @pytest.mark.parametrize(
        ("height", "message"),
        [
            (-5, "whole numbers from 1"),
            (2.5, "whole numbers from 1"),
            ("8", "whole numbers"),
            (10**9, "limit of 250 million"),
            (10**400, "whole numbers"),
        ],
    )
    def test_invalid_sizes_are_refused_without_using_memory(self, tmp_path: Path, height: Any, message: str) -> None:
        entries = [
            {"id": index, "file_name": name, "height": height, "width": 9}
            for index, name in enumerate(("a.jpg", "b.jpg"))
        ]
        found = errors(single(tmp_path, objects({}), images=entries))
        assert len(found) == 2
        assert all(message in error for error in found)

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"images": [{"id": 0}]}, "images: .* lacks file_name"),
            ({"images": [{"file_name": "a.jpg"}]}, "images: .* lacks id"),
            ({"images": [{"id": 0, "file_name": 5}]}, r"has an unusable \(5\) file_name"),
            ({"images": [{"id": 0, "file_name": "a.jpg"}, {"id": 0, "file_name": "b.jpg"}]}, "id 0 is given twice"),
            ({"images": [5]}, "images holds 5"),
            ({"images": []}, "lists no images"),
            ({"images": None}, "lists no images"),
            ({"annotations": [{"id": 1}]}, "lacks image_id"),
            ({"annotations": [{"id": 1, "image_id": [], "category_id": 3}]}, "unusable"),
            ({"categories": [{"id": 3, "name": "car"}, {"id": 3, "name": "bus"}]}, "id 3 is given twice"),
            ({"categories": [{"id": 3, "name": " "}]}, "unusable"),
            ({"categories": [{"id": 3, "name": "\ud800"}]}, "unusable"),
            ({"categories": [{"id": 3, "name": "a\nb"}]}, "unusable"),
            ({"categories": None}, "lists no categories"),
        ],
    )
    def test_entries_without_what_they_need_are_refused(
        self, tmp_path: Path, changes: dict[str, Any], message: str
    ) -> None:
        with pytest.raises(DataError, match=rf"annotations\.json: .*{message}"):
            single(tmp_path, **{"annotations": objects({}), **changes})

    @pytest.mark.parametrize("category", [9, "3", None, [], True, 3.5])
    def test_categories_that_are_not_listed_are_named(self, tmp_path: Path, category: Any) -> None:
        (message,) = errors(single(tmp_path, objects({"category_id": category})))
        assert "annotation 100 of a: has category" in message
        assert "which categories does not list (3, 44)" in message

    def test_deep_nesting_and_truncation_are_refused(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg")
        text = coco(tmp_path / "annotations.json", ["a.jpg"], objects({})).read_text()
        write(tmp_path / "annotations.json", text[:-150])
        with pytest.raises(DataError, match="not readable as JSON"):
            opened(tmp_path)
        write(tmp_path / "annotations.json", text.replace("[[0,", "[" * 100_000))
        with pytest.raises(DataError, match="nested too deeply"):
            opened(tmp_path)

    def test_mutated_files_are_read_or_refused(self, tmp_path: Path) -> None:
        images(tmp_path / "images", "a.jpg", "b.jpg")
        lengths = {"size": [HEIGHT, WIDTH], "counts": [10, 5, 65]}
        file = coco(
            tmp_path / "annotations.json", ["a.jpg", "b.jpg"], objects({}, {"segmentation": lengths}, {"image_id": 1})
        )
        whole, rng = file.read_bytes(), random.Random(0)
        read = 0
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            file.write_bytes(damaged)
            try:
                read += not errors(opened(tmp_path))
            except DataError:
                continue
        assert 0 < read < 300


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
