"""COCO: objects, crowds and categories become the right pixels."""

import json
import pickle
import random
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_coco import CATEGORIES, HEIGHT, WIDTH, box, coco, errors, images, objects, single
from made_files import has_note, mask_of, opened, write
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.errors import ConfigError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.coco.coco_json import parse_coco_json


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
