import base64
import io
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_files import all_ids, has_note, ids, image, opened, write
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.inspection.training_check import check_dataset

HEIGHT, WIDTH = 8, 10


def shape(label: str, *points: tuple[float, float], kind: str | None = "polygon", **more: Any) -> dict[str, Any]:
    typed = {} if kind is None else {"shape_type": kind}
    return {"label": label, "points": points, "group_id": None, **typed, "flags": {}, **more}


def square(label: str, left: float, top: float, right: float, bottom: float) -> dict[str, Any]:
    return shape(label, (left, top), (right, top), (right, bottom), (left, bottom))


def labelme(path: Path, *shapes: Any, **changes: Any) -> Path:
    """A file as LabelMe 5 writes it; what is None is left out."""
    content = {
        "version": "5.4.1",
        "flags": {},
        "shapes": shapes,
        "imagePath": f"{path.stem}.jpg",
        "imageData": base64.b64encode(b"not an image at all").decode(),
        "imageHeight": HEIGHT,
        "imageWidth": WIDTH,
        **changes,
    }
    return write(path, json.dumps({key: value for key, value in content.items() if value is not None}, indent=2))


def add(root: Path, *names: str) -> None:
    """Images with a file beside each."""
    for name in names:
        image(root / f"{name}.jpg", height=HEIGHT, width=WIDTH)
        labelme(root / f"{name}.json", square("fig", 0, 0, 4, 4))


def defects(root: Path) -> list[Defect]:
    _, found = open_with_defects(root, DataConfig())
    return found


def mask_of(dataset: Dataset, id: str) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


def drawn(root: Path, *shapes: Any, **changes: Any) -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    """The mask of one image; the classes are background, date and fig."""
    add(root, "b", "c")
    labelme(root / "c.json", square("date", 0, 0, 1, 1))
    image(root / "a.jpg", height=HEIGHT, width=WIDTH)
    labelme(root / "a.json", *shapes, **changes)
    return mask_of(opened(root), "a")


def covered(left: int, top: int, right: int, bottom: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    expected = np.zeros((HEIGHT, WIDTH))
    expected[top:bottom, left:right] = 2
    return expected


class TestLayouts:
    def test_files_next_to_images(self, tmp_path: Path) -> None:
        add(tmp_path / "images", "a", "b", "deep/c")
        dataset = opened(tmp_path)
        assert all_ids(dataset) == ["images/a", "images/b", "images/deep/c"]
        assert dataset.layout.startswith("LabelMe")
        assert dataset.classes.names == ("background", "fig")

    def test_a_folder_for_each_split(self, tmp_path: Path) -> None:
        for split in ("train", "valid", "test"):
            add(tmp_path / split, "a", "b")
        assert ids(opened(tmp_path)) == {split: ["a", "b"] for split in ("train", "val", "test")}

    def test_files_in_a_folder_of_their_own(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg", height=HEIGHT, width=WIDTH)
            labelme(tmp_path / "annotations" / f"{name}.json", imagePath=f"..\\images\\{name}.jpg")
        assert all_ids(opened(tmp_path)) == ["images/a", "images/b"]

    def test_labels_are_in_order_of_name_with_a_note(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        labelme(tmp_path / "a.json", square("zebra", 0, 0, 4, 4), square("ant", 5, 5, 8, 8))
        dataset = opened(tmp_path)
        assert dataset.classes.names == ("background", "ant", "fig", "zebra")
        assert has_note(dataset, "labels are in alphabetical order")

    def test_images_without_a_file_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        image(tmp_path / "c.jpg")
        dataset = opened(tmp_path)
        assert all_ids(dataset) == ["a", "b"]
        assert has_note(dataset, "1 images, such as", "c.jpg", "are in no annotation file")

    def test_other_json_files_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        add(tmp_path, "a", "b")
        write(tmp_path / "info.json", '{"made": "today"}')
        assert has_note(opened(tmp_path), "1 JSON files, such as", "info.json", "are not LabelMe's")

    def test_image_without_shapes_is_background(self, tmp_path: Path) -> None:
        assert not drawn(tmp_path).any()


class TestShapes:
    def test_polygon(self, tmp_path: Path) -> None:
        assert np.array_equal(drawn(tmp_path, square("fig", 2, 1, 7, 5)), covered(2, 1, 7, 5))

    def test_shape_without_a_kind_is_a_polygon(self, tmp_path: Path) -> None:
        """As in files of LabelMe before 3.2."""
        found = drawn(tmp_path, shape("fig", (2, 1), (7, 1), (7, 5), (2, 5), kind=None))
        assert np.array_equal(found, covered(2, 1, 7, 5))

    def test_oriented_rectangle(self, tmp_path: Path) -> None:
        found = drawn(tmp_path, shape("fig", (2, 1), (7, 1), (7, 5), (2, 5), kind="oriented_rectangle"))
        assert np.array_equal(found, covered(2, 1, 7, 5))

    @pytest.mark.parametrize("points", [[(2, 1), (7, 5)], [(7, 5), (2, 1)], [(7, 1), (2, 5)]])
    def test_rectangle_by_two_opposite_corners(self, tmp_path: Path, points: list[tuple[float, float]]) -> None:
        assert np.array_equal(drawn(tmp_path, shape("fig", *points, kind="rectangle")), covered(2, 1, 7, 5))

    def test_circle_by_centre_and_rim(self, tmp_path: Path) -> None:
        found = drawn(tmp_path, shape("fig", (5, 4), (5, 6.5), kind="circle"))
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        assert np.array_equal(found > 0, np.hypot(columns - 5, rows - 4) < 2.5)

    def test_mask_in_a_png(self, tmp_path: Path) -> None:
        pixels = np.random.default_rng(0).random((4, 5)) < 0.5
        found = drawn(tmp_path, shape("fig", (2, 1), (6, 4), kind="mask", mask=png(pixels)))
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[1:5, 2:7] = pixels
        assert np.array_equal(found > 0, expected)

    def test_later_shapes_are_on_top_whatever_their_size(self, tmp_path: Path) -> None:
        found = drawn(tmp_path, square("date", 2, 2, 4, 4), square("fig", 0, 0, 8, 8))
        assert found[3, 3] == 2

    def test_shapes_without_an_area_are_counted_and_not_drawn(self, tmp_path: Path) -> None:
        lines = [shape("fig", (0, 0), (9, 7), kind=kind) for kind in ("line", "linestrip", "point", "line")]
        assert not drawn(tmp_path, *lines).any()
        assert has_note(opened(tmp_path), "objects without an outline are not drawn (2 line, 1 linestrip, 1 point)")

    def test_labels_of_labelme_for_background_and_for_nothing(self, tmp_path: Path) -> None:
        found = drawn(
            tmp_path, square("fig", 0, 0, 9, 8), square("_background_", 2, 2, 4, 4), square("__ignore__", 6, 6, 8, 8)
        )
        dataset = opened(tmp_path)
        assert (found[3, 3], found[7, 7]) == (0, IGNORE)
        assert dataset.classes.names == ("background", "date", "fig")

    def test_corners_a_little_outside_are_cut_off(self, tmp_path: Path) -> None:
        found = drawn(tmp_path, square("fig", -0.05 * WIDTH, -0.05 * HEIGHT, 1.05 * WIDTH, 1.05 * HEIGHT))
        assert (found == found[0, 0]).all()
        assert found[0, 0]

    def test_circle_may_reach_beyond_the_image(self, tmp_path: Path) -> None:
        assert drawn(tmp_path, shape("fig", (9, 4), (0, 4), kind="circle"))[:, 9].all()


def png(pixels: "np.ndarray[Any, Any]") -> str:
    """As LabelMe keeps masks."""
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


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
