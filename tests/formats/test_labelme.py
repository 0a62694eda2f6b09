from pathlib import Path

import numpy as np
import pytest

from made_files import all_ids, has_note, ids, image, opened, write
from made_labelme import HEIGHT, WIDTH, add, covered, drawn, labelme, png, shape, square
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.errors import DataError


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

    def test_set_of_points_alone_is_refused(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / f"{name}.jpg", height=HEIGHT, width=WIDTH)
            labelme(tmp_path / f"{name}.json", shape("fig", (1, 1), kind="point"))
        with pytest.raises(DataError, match="has no outlined object with a label, but 2 point, which are not masks"):
            opened(tmp_path)

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
