"""Inspection: defects and remarks that test_campaign does not plant."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from made_inspections import defects, masks_of
from planted_pairs import CLASSES, scene, write_index
from planting import paired, segnet, write_dataset
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset


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


def test_a_val_split_that_cannot_tell_models_apart_is_a_remark(tmp_path: Path) -> None:
    layout = paired(tmp_path / "data")
    write_dataset(layout, seed=8, good=8)
    opened = open_dataset(layout.source, DataConfig())
    train, val = (len(opened.split(split)) for split in ("train", "val"))
    (remark,) = inspect_dataset(layout.source).remarks
    assert remark.startswith(f"split val has {val} images, which cannot tell two models apart")
    assert remark.endswith(f"cross-validation (pyramidseg train --folds 5) scores all {train + val} images")
    few = replace(opened, splits={split: opened.split(split)[:2] for split in ("train", "val")})
    (remark,) = [remark for remark in inspect_dataset(few).remarks if "two models" in remark]
    assert remark.endswith("by several points"), "4 images have no 5 folds"
    many = replace(opened, splits={"train": opened.split("train"), "val": opened.split("val") * 10})
    assert not [remark for remark in inspect_dataset(many).remarks if "two models" in remark]
