"""LabelMe files that cannot be used as they are."""

import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from made_files import all_ids, defects, has_note, image, mask_of, opened, write
from made_labelme import HEIGHT, WIDTH, add, drawn, labelme, png, shape, square
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.training_check import check_dataset


class TestDefects:
    @pytest.mark.parametrize(
        ("bad", "message"),
        [
            (shape("fig", (0, 0), (4, 4)), "a polygon needs at least 3 points, but has 2"),
            (shape("fig"), "a polygon needs at least 3 points, but has 0"),
            ({"label": "fig"}, "list of their own|finite"),
            (shape("fig", (0, 0), (4, 4), (0, float("nan"))), "not a finite number"),
            (shape("fig", (0, 0), (4, 4), (0, float("inf"))), "not a finite number"),
            (shape("fig", (0, 0), (4, 4), (0, 10**400)), "must be numbers"),
            (shape("fig", (0, 0), (4, 4), (0,)), "must be numbers"),
            (shape("fig", (0, 0), kind="rectangle"), "a rectangle of 1 points: 2 are needed"),
            (shape("fig", (0, 0), (1, 1), (2, 2), kind="circle"), "a circle of 3 points: 2 are needed"),
            (
                shape("fig", (0, 0), (1, 1), kind="spiral"),
                "has the shape_type 'spiral'; allowed are polygon, .*circle, mask",
            ),
            (shape("fig", (0, 0), (1, 1), kind="mask"), "its mask cannot be read"),
            (shape("fig", (0, 0), (1, 1), kind="mask", mask="%%%"), "its mask cannot be read"),
            (
                shape("fig", (0, 0), (1, 1), kind="mask", mask=png(np.ones((2, 2), bool))[:40]),
                "its mask cannot be read",
            ),
            (
                shape("fig", (0, 0), (1, 1), kind="mask", mask=png(np.ones((2, 3), bool))),
                "points are those of another size",
            ),
            (
                shape("fig", (-0.4, 0), (10.4, 7), kind="mask", mask=png(np.ones((8, 11), bool))),
                "is larger than the image",
            ),
            (square("fig", -1e9, 0, 3, 3), "is far outside the image of 8 x 10 pixels"),
            (shape("fig", (0, 0), (1e308, 0), kind="circle"), "its centre and radii have to be finite"),
            (shape("fig", (0, 0), (4, 9), kind="rectangle"), r"the point \(4, 9\) is far outside"),
            ({"points": [[0, 0], [1, 1], [2, 0]]}, "has no label"),
            ({"label": 7, "points": []}, "has the label 7, where text on one line is needed"),
            ({"label": "a\nb", "points": []}, "has the label .*, where text on one line is needed"),
            (5, "has no label"),
        ],
    )
    def test_shapes_that_cannot_be_drawn_are_named(self, tmp_path: Path, bad: Any, message: str) -> None:
        with pytest.raises(DefectError, match=rf"a\.json: shape 1: .*({message})") as caught:
            drawn(tmp_path, square("fig", 0, 0, 4, 4), bad)
        assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION

    def test_all_flaws_of_a_file_are_named(self, tmp_path: Path) -> None:
        bad = [shape("fig", (0, 0), (4, 4)), square("fig", 0, 0, 4, 4), {"points": []}]
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a.json", *bad)
        dataset = opened(tmp_path)
        with pytest.raises(DefectError) as caught:
            mask_of(dataset, "a")
        corners, label = (defect.detail for defect in caught.value.defects)
        assert "shape 0: a polygon needs at least 3 points, but has 2" in corners
        assert "shape 2: has no label" in label

    def test_size_that_is_no_whole_number_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DefectError, match="imageHeight and imageWidth have to be whole numbers from 1"):
            drawn(tmp_path, imageHeight=7.5)
        with pytest.raises(DefectError, match="imageHeight and imageWidth have to be whole numbers from 1"):
            drawn(tmp_path, imageWidth=True)

    def test_size_that_contradicts_the_image_names_the_json_file(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a.json", square("fig", 0, 0, WIDTH, 4), imageWidth=4)
        with pytest.raises(DataError, match=r"a\.json: gives a a size of 8 x 4 pixels .*a\.jpg is 8 x 10; corr"):
            check_dataset(opened(tmp_path))

    def test_labels_that_differ_in_case_alone_are_noted(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a.json", square("Fig", 0, 0, 4, 4))
        dataset = opened(tmp_path)
        assert dataset.classes.names == ("background", "Fig", "fig")
        assert has_note(dataset, "only in upper and lower case: 'Fig' and 'fig'", "{name: fig, from: [Fig, fig]}")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            ({"imagePath": 7}, "7 is not a file name"),
            ({"imagePath": ""}, "'' is not a file name"),
        ],
    )
    def test_files_that_make_no_mask_are_all_named(self, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
        add(tmp_path, "a", "b", "c", "d")
        for name in ("a", "b"):
            labelme(tmp_path / f"{name}.json", **changes)
        found = defects(tmp_path)
        assert [(defect.kind, defect.file.name) for defect in found] == [
            (DefectKind.BAD_ANNOTATION, "a.json"),
            (DefectKind.BAD_ANNOTATION, "b.json"),
        ]
        assert all(message in defect.detail for defect in found)

    @pytest.mark.parametrize(
        "text",
        ['{"shapes": ' + "[" * 100_000, '{"shapes": [{"label": "fig", "points": [[0,', '{"shapes": [' + "9" * 5000],
    )
    def test_damaged_json_is_named_and_the_rest_is_listed(self, tmp_path: Path, text: str) -> None:
        add(tmp_path, "a", "b", "c")
        write(tmp_path / "b.json", text)
        (defect,) = defects(tmp_path)
        assert (defect.kind, defect.file.name) == (DefectKind.BAD_ANNOTATION, "b.json")
        assert all_ids(open_with_defects(tmp_path, DataConfig())[0]) == ["a", "c"]

    @pytest.mark.parametrize("name", ["../outside.jpg", "..\\outside.jpg", "/etc/passwd", "C:\\Users\\me\\a.jpg"])
    def test_images_outside_are_never_opened(self, tmp_path: Path, name: str) -> None:
        root = tmp_path / "set"
        image(tmp_path / "outside.jpg")
        add(root, "a", "b", "c")
        labelme(root / "b.json", imagePath=name)
        (defect,) = defects(root)
        assert (defect.kind, defect.file.name) == (DefectKind.OUTSIDE, "b.json")

    def test_missing_image_is_a_defect(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b", "c")
        (tmp_path / "b.jpg").unlink()
        (defect,) = defects(tmp_path)
        assert (defect.kind, defect.file.name) == (DefectKind.MISSING_IMAGE, "b.json")

    def test_renamed_image_is_found_by_the_name_of_the_file_with_a_note(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a.json", imagePath="IMG_0001.jpg")
        dataset = opened(tmp_path)
        assert all_ids(dataset) == ["a", "b"]
        assert has_note(dataset, "1 images, such as 'IMG_0001.jpg', are not in the dataset")

    def test_file_of_two_images_is_a_defect(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b", "c")
        labelme(tmp_path / "a.json", imagePath="c.jpg")
        found = defects(tmp_path)
        assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.BAD_ANNOTATION, "a.json")]

    def test_two_files_of_one_image_are_a_defect(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a2.json", imagePath="a.jpg")
        found = defects(tmp_path)
        assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.REPEATED_ID, "a2.json")]

    def test_size_that_contradicts_the_image_is_a_defect(self, tmp_path: Path) -> None:
        assert drawn(tmp_path, imageHeight=HEIGHT + 1).shape == (HEIGHT + 1, WIDTH)  # the check of all pairs compares
        with pytest.raises(DefectError, match="limit of 250 million"):
            drawn(tmp_path, imageHeight=10**9)

    def test_size_that_is_not_given_is_that_of_the_image(self, tmp_path: Path) -> None:
        assert drawn(tmp_path, imageHeight=None, imageWidth=None).shape == (HEIGHT, WIDTH)

    def test_embedded_image_is_not_needed_and_not_read(self, tmp_path: Path) -> None:
        assert drawn(tmp_path, square("fig", 0, 0, 1, 1), imageData="A" * 2**25).any()

    def test_label_that_came_later_is_refused(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        dataset = opened(tmp_path)
        for name in ("a", "b"):
            labelme(tmp_path / f"{name}.json", square("new", 0, 0, 4, 4))
        with pytest.raises(DefectError, match="shape 0: label 'new' was added after the dataset was opened"):
            dataset.masks.read(dataset.split("train")[0])

    def test_mutated_files_are_read_or_refused(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b", "c")
        dataset = opened(tmp_path)
        record = dataset.split("train")[0]
        assert record.mask is not None
        whole, rng, read_well = record.mask.read_bytes(), random.Random(0), 0
        for _ in range(300):
            damaged = bytearray(whole)
            for _ in range(rng.randrange(1, 4)):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            record.mask.write_bytes(damaged)
            try:
                read_well += bool(dataset.masks.read(record).any())
            except DataError:
                continue
        assert 0 < read_well < 300
