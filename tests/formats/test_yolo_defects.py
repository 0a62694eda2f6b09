"""YOLO label files and folders that cannot be used as they are."""

import random
from pathlib import Path

import pytest

from made_files import defects, image, opened, write
from made_yolo import SQUARE, add, read, ultralytics
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError


class TestDefects:
    def test_boxes_are_refused_at_once(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"the labels are boxes .*, and boxes are not masks; export"):
            opened(ultralytics(tmp_path, label="0 0.5 0.5 0.2 0.2\n1 0.1 0.1 0.1 0.1\n"))

    @pytest.mark.parametrize(
        ("line", "message"),
        [
            ("0 0.5 0.5 0.2 0.2", "holds a box"),
            ("0 0.1 0.1", "a polygon needs at least 3 points, but has 1"),
            ("0", "a polygon needs at least 3 points, but has 0"),
            ("0 0.1 0.1 0.2 0.2 0.3 0.3 0.9", "every point needs an x and a y"),
            ("0 0.1 0.1 0.2 0.2 0.3 nan", "not a finite number"),
            ("0 0.1 0.1 0.2 0.2 0.3 inf", "not a finite number"),
            ("0 0.1 0.1 0.2 0.2 0.3 x", "must be numbers"),
            ("0 0.1 0.1 320 0.2 0.3 240", r"coordinates from 0\.1 to 320: they are shares of the image's width"),
            ("0 0.1 0.1 -0.2 0.2 0.3 0.3", "they are shares of the image's width"),
            ("2 " + SQUARE, "class 2: only 0-1 have names; name it too, or correct the number"),
            ("-1 " + SQUARE, "where the number of a class is needed"),
            ("0.5 " + SQUARE, "where the number of a class is needed"),
            ("car " + SQUARE, "where the number of a class is needed"),
            ("nan " + SQUARE, "where the number of a class is needed"),
            ("9" * 400 + " " + SQUARE, "where the number of a class is needed"),
        ],
    )
    def test_invalid_lines_are_named(self, tmp_path: Path, line: str, message: str) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "labels/train/a.txt", f"0 {SQUARE}\n{line}\n")
        with pytest.raises(DefectError, match=rf"a\.txt: line 2: .*{message}") as caught:
            read(opened(tmp_path))
        assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION

    def test_all_invalid_lines_are_named(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path))
        write(tmp_path / "labels/train/a.txt", f"0 {SQUARE}\n0 nan 0 1 0 1 1\n7 {SQUARE}\n0 1 1\n")
        with pytest.raises(DefectError) as caught:
            read(dataset)
        assert [defect.detail.split(":")[0] for defect in caught.value.defects] == ["line 2", "line 3", "line 4"]

    def test_points_a_little_outside_are_cut_off(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label="0 -0.05 -0.05 1.05 0 1.05 1.05 0 1"))
        assert read(dataset).all()

    def test_label_that_is_not_text_or_too_large_is_refused(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        (tmp_path / "labels/train/a.txt").write_bytes(b"0 0.1 \xff")
        with pytest.raises(DefectError, match="is not UTF-8 text"):
            read(opened(tmp_path))
        (tmp_path / "labels/train/a.txt").write_bytes(b"0" + b" 0.1" * 3_000_000)
        with pytest.raises(DefectError, match="is larger than 8 MB"):
            read(opened(tmp_path))

    def test_labels_without_an_image_are_all_named(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        for name in ("lost", "gone"):
            write(tmp_path / f"labels/train/{name}.txt", f"0 {SQUARE}")
        write(tmp_path / "labels/train/classes.txt", "car\nbus")
        found = [(defect.kind, defect.file.name) for defect in defects(tmp_path)]
        assert found == [(DefectKind.MISSING_IMAGE, "gone.txt"), (DefectKind.MISSING_IMAGE, "lost.txt")]

    def test_images_that_share_a_label_file_are_named(self, tmp_path: Path) -> None:
        add(ultralytics(tmp_path), "images/train", "d", "e", "f", "g")
        image(tmp_path / "images/train/a.png")
        found = [(defect.kind, defect.file.name) for defect in defects(tmp_path)]
        assert found == [(DefectKind.SAME_STEM, "a.png")]

    def test_label_files_of_one_image_are_named(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "labels/train/a.TXT", f"0 {SQUARE}")
        if len(list((tmp_path / "labels/train").iterdir())) == 3:  # a file system that tells them apart
            assert [defect.kind for defect in defects(tmp_path)] == [DefectKind.SAME_STEM]

    def test_mutated_labels_are_read_or_refused(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path))
        file, rng, read_well = tmp_path / "labels/train/a.txt", random.Random(0), 0
        whole = file.read_bytes() * 3
        for _ in range(300):
            damaged = bytearray(whole)
            damaged[rng.randrange(len(damaged))] = rng.randrange(256)
            file.write_bytes(damaged)
            try:
                read_well += bool(read(dataset).any())
            except DefectError:
                continue
        assert 0 < read_well < 300
