"""COCO: every defect is named."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_coco import CATEGORIES, HEIGHT, WIDTH, box, coco, errors, images, objects, single
from made_files import all_ids, defects, has_note, ids, image, mask_of, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.training_check import check_dataset


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
