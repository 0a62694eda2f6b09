"""Defects that only several images together show: leaks, copies, orientations, absent classes."""

import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from made_files import write
from made_inspections import defects
from planted_pairs import CLASSES, scene, write_index, write_pair
from planting import labelme, paired, write_dataset
from pyramidseg.base.defects import DefectKind
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Dataset, Record
from pyramidseg.inspection.inspect_dataset import inspect_dataset


class TestDefectsBetweenImages:
    def test_leaks_from_train_and_val_into_test_are_found(self, tmp_path: Path) -> None:
        layout, rng = paired(tmp_path / "data"), np.random.default_rng(4)
        for index in range(6):
            write_pair(layout, ("train", "val", "test")[index % 3], f"{index}", *scene(rng))
        for split, name, source in (("test", "a", "0"), ("test", "b", "1")):
            for file in (layout.image, layout.mask):
                shutil.copy(file("train" if source == "0" else "val", source), file(split, name))
        assert defects(inspect_dataset(layout.source)) == {(DefectKind.LEAK, "a.png"), (DefectKind.LEAK, "b.png")}

    def test_result_does_not_depend_on_the_order_of_splits(self, tmp_path: Path) -> None:
        rng = np.random.default_rng(5)
        records = []
        for index in range(4):
            image, labels = scene(rng)
            records.append(Record(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"))
            Image.fromarray(image).save(records[-1].image)
            write_index(tmp_path / f"{index}_mask.png", labels)
        shutil.copy(records[0].image, records[2].image)
        found = [
            Dataset("s", "l", made.classes, made.masks, splits)
            for made in [dataset_from_records(classes=CLASSES)]
            for splits in (
                {"train": tuple(records[:2]), "val": tuple(records[2:])},
                {"val": tuple(records[2:]), "train": tuple(records[:2])},
            )
        ]
        assert {defect for one in found for defect in defects(inspect_dataset(one))} == {(DefectKind.LEAK, "2.png")}

    def test_crops_of_similar_objects_are_not_leaks(self, tmp_path: Path) -> None:
        """A round cell in the middle of each image, which differ in shape alone: many hashes are near each other."""
        layout, rng = paired(tmp_path / "data"), np.random.default_rng(0)
        for index in range(80):
            image = np.full((64, 64, 3), 200.0)
            centre, axes = rng.normal(32, 3, 2), rng.uniform(10, 20, 2)
            cv2.ellipse(
                image, tuple(map(int, centre)), tuple(map(int, axes)), rng.uniform(0, 180), 0, 360, (90, 60, 140), -1
            )
            noisy = rng.normal(cv2.GaussianBlur(image, (0, 0), 1.5), 6).clip(0, 255).astype(np.uint8)
            write_pair(layout, "val" if index % 2 else "train", f"{index:03d}", noisy, scene(rng, 64, 64)[1])
        inspection = inspect_dataset(layout.source)
        assert len(inspection.defects) <= 2

    def test_video_frames_within_a_split_are_no_leaks(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=6, good=12)
        image, labels = scene(np.random.default_rng(7))
        for frame in range(3):
            write_pair(layout, "train", f"frame_{frame}", np.roll(image, frame % 2, axis=1), labels)
            write_pair(layout, "train", f"dark_{frame}", (image * (0.9 - 0.1 * frame)).astype(np.uint8), labels)
        inspection = inspect_dataset(layout.source)
        assert {kind for kind, _ in defects(inspection)} <= {DefectKind.DUPLICATE}

    @pytest.mark.parametrize("orientation", [2, 3, 4])
    def test_orientation_that_sizes_do_not_show_is_a_remark(self, tmp_path: Path, orientation: int) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=8)
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(layout.image("train", "good_000")).save(layout.image("train", "good_000"), exif=exif)
        inspection = inspect_dataset(layout.source)
        assert inspection.defects == ()
        assert any("1 files are turned by their EXIF orientation" in remark for remark in inspection.remarks)

    def set_orientation(self, file: Path, orientation: int) -> str:
        """Set the EXIF tag of a file without changing its pixels."""
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(file).save(file, exif=exif)
        return str(file)

    def test_remark_on_orientations_names_the_files(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=16)
        images = [self.set_orientation(layout.image("train", f"good_{index:03d}"), 3) for index in (0, 1, 2, 4, 5)]
        alone = self.set_orientation(layout.mask("train", "good_006"), 3)
        for part in (layout.image, layout.mask):
            self.set_orientation(part("train", "good_008"), 3)
        inspection = inspect_dataset(layout.source)
        assert inspection.defects == ()
        remark, small = inspection.remarks
        assert small.startswith("split val has ")
        assert remark.startswith("6 files are turned by their EXIF orientation")
        assert remark.endswith(", ".join([*images, alone]))
        assert [str(file) for file in inspection.doubtful_turns] == [*images, alone]

    def test_unturned_masks_imply_that_the_others_are_unturned(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=8)
        for name, orientation in (("good_000", 3), ("good_001", 6)):
            self.set_orientation(layout.image("train", name), orientation)
        inspection = inspect_dataset(layout.source)
        assert defects(inspection) == {
            (DefectKind.EXIF_TURNED, "good_000.png"),
            (DefectKind.EXIF_TURNED, "good_001.png"),
        }
        assert "sizes of 1 other pairs show that the masks of this dataset were not" in inspection.defects[1].detail
        assert all(remark.startswith("split val has ") for remark in inspection.remarks)

    def test_one_turned_mask_leaves_the_others_doubtful(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=8)
        for name, orientation in (("good_000", 3), ("good_001", 6), ("good_002", 6)):
            self.set_orientation(layout.image("train", name), orientation)
        mask = np.asarray(Image.open(layout.mask("train", "good_002")))
        write_index(layout.mask("train", "good_002"), np.rot90(mask, -1).copy())
        inspection = inspect_dataset(layout.source)
        assert defects(inspection) == {(DefectKind.EXIF_TURNED, "good_001.png")}
        assert sum(not remark.startswith("split val has ") for remark in inspection.remarks) == 1
        assert len(inspection.doubtful_turns) == 1

    def test_mask_turned_by_its_own_tag_is_a_defect(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=8)
        self.set_orientation(layout.mask("train", "good_000"), 6)
        (defect,) = inspect_dataset(layout.source).defects
        assert defect.kind is DefectKind.EXIF_TURNED
        assert "the mask is turned by its EXIF orientation 6" in defect.detail

    def test_class_without_a_pixel_in_a_split_is_named(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=9, good=8)
        for name in ("good_003", "good_007"):
            mask = np.asarray(Image.open(layout.mask("val", name))).copy()
            mask[mask == 1] = 0
            write_index(layout.mask("val", name), mask)
        (defect,) = inspect_dataset(layout.source).defects
        assert defect.kind is DefectKind.EMPTY_CLASS
        assert "class without a pixel in split val: 'thing'; add images" in defect.detail

    def test_classes_without_a_pixel_in_a_split_are_one_defect(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=9, good=8)
        write(layout.source / "dataset.yaml", f"classes: [{', '.join(CLASSES)}, extra, more]")
        train, val = inspect_dataset(layout.source).defects
        assert (train.kind, val.kind) == (DefectKind.EMPTY_CLASS, DefectKind.EMPTY_CLASS)
        assert "classes without a pixel in split train: 'extra', 'more'" in train.detail

    def test_absent_class_is_a_remark_if_masks_have_defects(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=9, good=8)
        for name in ("good_003", "good_007"):
            mask = np.asarray(Image.open(layout.mask("val", name))).copy()
            mask[mask == 1] = 0 if name == "good_003" else 77
            write_index(layout.mask("val", name), mask)
        inspection = inspect_dataset(layout.source)
        assert defects(inspection) == {(DefectKind.UNKNOWN_VALUE, "good_007.png")}
        assert any("split val: 'thing'; but only 1 of 2 masks were counted" in remark for remark in inspection.remarks)

    def test_absent_class_is_a_remark_if_annotations_were_lost(self, tmp_path: Path) -> None:
        layout = labelme(tmp_path / "data")
        write_dataset(layout, seed=9, good=8)
        for name in ("good_003", "good_007"):
            file = layout.mask("val", name)
            file.write_text(file.read_text().replace('"thing"', '"other"') if name == "good_003" else "{")
        inspection = inspect_dataset(layout.source)
        assert defects(inspection) == {(DefectKind.BAD_ANNOTATION, "good_007.json")}
        assert any("split val: 'thing'; but only 1 of 1 masks were counted" in remark for remark in inspection.remarks)

    def test_a_thousand_copies_of_one_image_are_found(self, tmp_path: Path) -> None:
        image, labels = scene(np.random.default_rng(10))
        Image.fromarray(image).save(tmp_path / "a.png")
        write_index(tmp_path / "m.png", labels)
        records = [Record(str(index), tmp_path / "a.png", tmp_path / "m.png") for index in range(1000)]
        inspection = inspect_dataset(dataset_from_records(train=records, val=records[:1], classes=CLASSES))
        kinds = [defect.kind for defect in inspection.defects]
        assert (kinds.count(DefectKind.DUPLICATE), kinds.count(DefectKind.LEAK)) == (999, 1)

    def test_unknown_labels_of_a_custom_mask_source_are_found(self, tmp_path: Path) -> None:
        class Own:
            def read(self, record: Record) -> np.ndarray:
                assert record.mask is not None
                return np.asarray(Image.open(record.mask)) + np.uint8(100 * (record.id == "1"))

        records = []
        for index in range(3):
            image, labels = scene(np.random.default_rng(20 + index))
            records.append(Record(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"))
            Image.fromarray(image).save(records[-1].image)
            write_index(tmp_path / f"{index}_mask.png", labels)
        made = dataset_from_records(train=records, val=records[:1], classes=CLASSES)
        assert (DefectKind.UNKNOWN_VALUE, "1_mask.png") in defects(inspect_dataset(replace(made, masks=Own())))
