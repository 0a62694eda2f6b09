"""Inspection: defects and remarks that test_campaign does not plant."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from made_files import write
from planting import CLASSES, labelme, paired, scene, segnet, write_dataset, write_index, write_pair
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Dataset, Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import Inspection, inspect_dataset
from pyramidseg.inspection.training_check import check_dataset


def defects(inspection: Inspection) -> set[tuple[DefectKind, str]]:
    return {(defect.kind, defect.file.name) for defect in inspection.defects}


def masks_of(folder: Path, *values: Any, count: int = 4) -> Path:
    """A paired dataset without a class list, whose masks are all made of these values or colours."""
    rng = np.random.default_rng(0)
    for index in range(count):
        image, _ = scene(rng)
        mask = np.resize(np.array(values, np.uint8), (*image.shape[:2], *np.shape(values)[1:]))
        for kind, pixels in (("images", image), ("masks", mask)):
            (folder / kind).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(folder / kind / f"{index}.png")
    return folder


def test_every_kind_has_a_description() -> None:
    assert len({kind.description for kind in DefectKind}) == len(DefectKind)


def test_result_does_not_depend_on_the_number_of_threads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    layout = segnet(tmp_path / "data")
    write_dataset(layout, seed=1, good=60, times=1)
    found = []
    for threads in (1, 5):
        monkeypatch.setattr("pyramidseg.base.parallel.available_processors", lambda threads=threads: threads)
        found.append(inspect_dataset(layout.source))
    assert found[0] == found[1]


def test_counts_agree_with_the_check_before_training(tmp_path: Path) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=2, good=20)
    inspection = inspect_dataset(layout.source)
    assert inspection.summaries == check_dataset(open_dataset(layout.source, DataConfig())).splits
    assert inspection.sizes == {(30, 40): 20}


def test_channel_statistics_are_those_of_all_pixels(tmp_path: Path) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=3, good=12)
    (group,) = inspect_dataset(layout.source).channel_groups
    files = [*(layout.source / "train/images").iterdir(), *(layout.source / "val/images").iterdir()]
    pixels = np.concatenate([np.asarray(Image.open(file)).reshape(-1, 3) for file in files]) / 255
    assert group.images == 12
    assert [channel.mean for channel in group.channels] == pytest.approx(pixels.mean(axis=0))
    assert [channel.deviation for channel in group.channels] == pytest.approx(pixels.std(axis=0))


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
        (remark,) = inspection.remarks
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
        assert inspection.remarks == ()

    def test_one_turned_mask_leaves_the_others_doubtful(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=8, good=8)
        for name, orientation in (("good_000", 3), ("good_001", 6), ("good_002", 6)):
            self.set_orientation(layout.image("train", name), orientation)
        mask = np.asarray(Image.open(layout.mask("train", "good_002")))
        write_index(layout.mask("train", "good_002"), np.rot90(mask, -1).copy())
        inspection = inspect_dataset(layout.source)
        assert defects(inspection) == {(DefectKind.EXIF_TURNED, "good_001.png")}
        assert len(inspection.remarks) == len(inspection.doubtful_turns) == 1

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


class TestUnclearMasks:
    def test_unnamed_colours_become_a_proposed_class_list(self, tmp_path: Path) -> None:
        folder = masks_of(tmp_path, (255, 0, 0), (255, 0, 0), (0, 0, 255))
        inspection = inspect_dataset(folder)
        assert {kind for kind, _ in defects(inspection)} == {DefectKind.UNCLEAR_CLASSES}
        assert inspection.classes_unclear
        assert inspection.dataset.classes.colors == ((255, 0, 0), (0, 0, 255))
        text = inspection.proposal.dataset_yaml()
        assert "give the classes their names" in text
        assert "- {name: class 0, color: [255, 0, 0], from: ['#ff0000']}" in text

    @pytest.mark.parametrize(
        ("values", "expected"), [((0, 255), "binary: true"), ((0, 0, 0, 7), "from: [7]"), ((255,), "binary: true")]
    )
    def test_ambiguous_values_are_unclear_classes(self, tmp_path: Path, values: tuple[int, ...], expected: str) -> None:
        inspection = inspect_dataset(masks_of(tmp_path, *values))
        assert DefectKind.UNCLEAR_CLASSES in {kind for kind, _ in defects(inspection)}
        assert expected in inspection.proposal.dataset_yaml()

    def test_unknown_values_of_binary_masks_are_reported_by_file(self, tmp_path: Path) -> None:
        folder = masks_of(tmp_path, *[0] * 500, *[255] * 500)
        mask = np.asarray(Image.open(folder / "masks/2.png")).copy()
        mask[0, :3] = 4
        Image.fromarray(mask).save(folder / "masks/2.png")
        inspection = inspect_dataset(folder)
        assert defects(inspection) == {(DefectKind.UNCLEAR_CLASSES, tmp_path.name), (DefectKind.UNKNOWN_VALUE, "2.png")}
        assert [(value.name, value.pixels, value.masks) for value in inspection.unknown_values] == [("4", 3, 1)]
        assert inspection.proposal.dataset["ignore"] == [4]

    def test_unknown_values_and_ignored_masks_are_reported_by_file(self, tmp_path: Path) -> None:
        folder = masks_of(tmp_path, *[0] * 500, *[1] * 500, 2)
        for name, spoil in (("1", (0, slice(3))), ("2", (0, slice(5))), ("3", ...)):
            mask = np.asarray(Image.open(folder / f"masks/{name}.png")).copy()
            mask[spoil] = 255 if spoil is ... else 77
            Image.fromarray(mask).save(folder / f"masks/{name}.png")
        inspection = inspect_dataset(folder)
        assert defects(inspection) == {
            (DefectKind.UNCLEAR_CLASSES, tmp_path.name),
            (DefectKind.UNKNOWN_VALUE, "1.png"),
            (DefectKind.UNKNOWN_VALUE, "2.png"),
            (DefectKind.ALL_IGNORED, "3.png"),
        }
        assert inspection.proposal.dataset["ignore"] == [77]
        assert [entry["name"] for entry in inspection.proposal.dataset["classes"]] == ["class 0", "class 1", "class 2"]

    def test_foreground_after_ignored_values_is_unclear(self, tmp_path: Path) -> None:
        folder = masks_of(tmp_path, *[0] * 500, *[255] * 500, 3, 4)
        inspection = inspect_dataset(folder, data=DataConfig(classes=["bg", "crack"], ignore=[3, 4]))
        assert defects(inspection) == {(DefectKind.UNCLEAR_CLASSES, tmp_path.name)}
        assert inspection.proposal.dataset["binary"]
        assert inspection.proposal.dataset["ignore"] == [3, 4]

    @pytest.mark.parametrize("values", [(0, 1, 2), (0, 255), ((200, 0, 0), (0, 0, 200)), ((0, 0, 0), (255, 255, 255))])
    def test_jpeg_masks_are_reported_by_file(self, tmp_path: Path, values: Any) -> None:
        folder = masks_of(tmp_path, *values)
        for mask in (folder / "masks").iterdir():
            Image.open(mask).save(mask, "JPEG")
        named = {file for kind, file in defects(inspect_dataset(folder)) if kind is DefectKind.LOSSY_MASK}
        assert len(named) == 4

    @pytest.mark.parametrize("values", [(0, 255), (0, 1, 2), (0, 100, 200)])
    def test_grey_jpeg_masks_give_no_classes(self, tmp_path: Path, values: Any) -> None:
        folder = masks_of(tmp_path, *values)
        for mask in (folder / "masks").iterdir():
            Image.open(mask).save(mask, "JPEG", quality=95, subsampling=0)
        proposal = inspect_dataset(folder, data=DataConfig(ignore=(7,))).proposal
        expected = {"path": str(folder), "format": "paired", "ignore": [7], "val_share": 0.2}
        assert proposal.dataset == expected

    def test_photograph_as_mask_is_reported(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=11, good=8)
        noise = np.random.default_rng(0).integers(0, 256, (30, 40), np.uint8)
        write_index(layout.mask("train", "good_000"), noise)
        inspection = inspect_dataset(layout.source)
        assert (DefectKind.UNKNOWN_VALUE, "good_000.png") in defects(inspection)
        assert "too frequent to be ignored" in inspection.proposal.dataset_yaml()


class TestMissingFiles:
    def test_dataset_without_pairs_is_inspected(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=12, good=4)
        for folder in ("train/masks", "val/masks"):
            for name, mask in zip("uvwxyz", sorted((layout.source / folder).iterdir()), strict=False):
                mask.rename(mask.with_name(f"{name}.png"))
        defects = inspect_dataset(layout.source).defects
        assert {defect.kind for defect in defects} == {DefectKind.MISSING_IMAGE, DefectKind.MISSING_MASK}, defects

    def test_missing_folder_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no such file or folder"):
            inspect_dataset(tmp_path / "absent")

    def test_training_refuses_defects_that_the_inspection_lists(self, tmp_path: Path) -> None:
        layout = paired(tmp_path / "data")
        write_dataset(layout, seed=13, good=8)
        layout.mask("train", "good_000").unlink()
        assert defects(inspect_dataset(layout.source)) == {(DefectKind.MISSING_MASK, "good_000.png")}
        with pytest.raises(DataError, match=r"good_000\.png"):
            open_dataset(layout.source, DataConfig())


def test_sixteen_bits_and_many_bands_are_inspected(tmp_path: Path) -> None:
    rng = np.random.default_rng(14)
    records = []
    for index in range(4):
        deep = cv2.resize(rng.integers(0, 3000, (5, 6), np.uint16), (40, 30), interpolation=cv2.INTER_CUBIC)
        records.append(Record(str(index), tmp_path / f"{index}.png", tmp_path / f"{index}_mask.png"))
        assert cv2.imwrite(str(records[-1].image), deep)
        write_index(tmp_path / f"{index}_mask.png", scene(rng)[1])
    made = dataset_from_records(train=records[:2], val=records[2:], classes=CLASSES)
    inspection = inspect_dataset(made)
    assert inspection.defects == ()
    assert [(group.dtype, len(group.channels)) for group in inspection.channel_groups] == [("uint16", 1)]
    assert inspection.proposal.settings["model"] == {"in_channels": 1}
    assert inspection.proposal.dataset == {}


def test_only_selected_bands_count(tmp_path: Path) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=15, good=8)
    every = inspect_dataset(layout.source).channel_groups[0].channels
    some = inspect_dataset(layout.source, data=DataConfig(bands=[3, 1])).channel_groups[0].channels
    assert some == (every[2], every[0])
