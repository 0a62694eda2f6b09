from pathlib import Path

import pytest
import yaml

from made_files import all_ids, color_mask, first_row, has_note, image, labels, mask, opened, pairs, write
from pyramidseg.base.classes import Color
from pyramidseg.base.errors import DataError
from pyramidseg.formats.camvid import CAMVID_32
from pyramidseg.formats.segnet import CAMVID

COLORS = {label.name: label.color or (0, 0, 0) for label in CAMVID_32}
SEGNET_COLORS = {label.name: label.color or (0, 0, 0) for label in CAMVID}


def authors(folder: Path, *colors: Color) -> Path:
    for name in ("0001TP_006690", "0001TP_006720", "Seq05VD_f00000", "Seq05VD_f00030"):
        image(folder / "701_StillsRaw_full" / f"{name}.png")
        color_mask(folder / "LabeledApproved_full" / f"{name}_L.png", *colors)
    return folder


class TestSegnet:
    def test_camvid_classes_are_taken_with_a_note(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"], 0, 10, 11, 255)
        pairs(tmp_path / "val", tmp_path / "valannot", ["b"])
        dataset = opened(tmp_path)
        assert dataset.layout == "SegNet ({split}, {split}annot)"
        assert dataset.classes.names == tuple(label.name for label in CAMVID if not label.ignored)
        assert labels(dataset) == [0, 10, 255]
        assert has_note(dataset, "no classes were given", "sky 0, ", "bicyclist 10; ignored: 11, 255")

    def test_masks_of_colours_are_read_by_segnets_palette(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            image(tmp_path / split / "a.png")
            colors = [SEGNET_COLORS[name] for name in ("sky", "car", "void")]
            color_mask(tmp_path / f"{split}annot" / "a.png", *colors)
        dataset = opened(tmp_path)
        assert first_row(dataset)[:3] == [0, 8, 255]
        assert has_note(dataset, "the masks contain colours", "compared exactly")

    def test_class_list_takes_precedence_over_the_preset(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"], 0, 1)
        pairs(tmp_path / "val", tmp_path / "valannot", ["b"], 0, 1)
        assert opened(write(tmp_path / "mine.yaml", "classes: [left, right]")).classes.names == ("left", "right")

    def test_cvats_camvid_export_brings_its_own_colours(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "default" / f"{name}.png")
            color_mask(tmp_path / "defaultannot" / f"{name}.png", (0, 0, 0), (1, 2, 3))
        write(tmp_path / "label_colors.txt", "0 0 0 background\n1 2 3 ripe fig\n")
        write(tmp_path / "default.txt", "/default/a.png /defaultannot/a.png\n")
        dataset = opened(tmp_path)
        assert dataset.classes.names == ("background", "ripe fig")
        assert labels(dataset) == [0, 1]

    def test_missing_partner_is_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"])
        image(tmp_path / "val" / "b.jpg")
        with pytest.raises(DataError, match=r"val: the folder of its masks is missing: valannot"):
            opened(tmp_path)

    def test_test_split_without_masks_is_left_out_with_a_note(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pairs(tmp_path / split, tmp_path / f"{split}annot", ["a"])
        image(tmp_path / "test" / "t.jpg")
        assert has_note(opened(tmp_path), "test", "no masks")


class TestAuthorsFolders:
    def test_all_labels_but_void_are_classes(self, tmp_path: Path) -> None:
        dataset = opened(authors(tmp_path, *COLORS.values()))
        assert dataset.classes.names == tuple(name for name in COLORS if name != "Void")
        assert len(dataset.classes) == 31
        assert first_row(dataset) == [0, 1, 2, 3]
        assert has_note(dataset, "data.group='^[^_]+'")

    def test_void_is_ignored(self, tmp_path: Path) -> None:
        assert labels(opened(authors(tmp_path, COLORS["Void"], COLORS["Wall"]))) == [30, 255]

    def test_video_sequences_stay_together(self, tmp_path: Path) -> None:
        splits = opened(authors(tmp_path, COLORS["Sky"]), group="^[^_]+").splits
        sides = [{record.id.partition("_")[0] for record in splits[side]} for side in ("train", "val")]
        assert sorted(sides, key=str) in ([{"0001TP"}, {"Seq05VD"}],)

    def test_list_of_colours_is_used_where_it_lies_there(self, tmp_path: Path) -> None:
        write(authors(tmp_path, (9, 9, 0), (0, 0, 0)) / "label_colors.txt", "9 9 0\tGrass\n0 0 0\t\tVoid\n")
        assert opened(tmp_path).classes.names == ("Grass",)


class TestElevenClasses:
    """The lines for dataset.yaml in the documentation."""

    def classes(self, folder: Path) -> dict[str, list[str]]:
        text = (Path(__file__).parents[2] / "docs/formats/camvid.md").read_text()
        lines = text.partition("```yaml\n")[2].partition("```")[0]
        write(folder / "dataset.yaml", lines)
        return {entry["name"]: entry["from"] for entry in yaml.safe_load(lines)["classes"]}

    def test_every_label_has_its_class(self, tmp_path: Path) -> None:
        parts = self.classes(tmp_path)
        assert sorted(name for some in parts.values() for name in some) == sorted({*COLORS} - {"Void"})
        assert [*parts, "void"] == [label.name for label in CAMVID]

    def test_labels_are_merged(self, tmp_path: Path) -> None:
        for index, (whole, parts) in enumerate(self.classes(tmp_path).items()):
            root = authors(tmp_path / whole, *(COLORS[part] for part in parts), COLORS["Void"])
            self.classes(root)
            dataset = opened(root)
            assert labels(dataset) == [index, 255]
            assert dataset.classes.names == tuple(label.name for label in CAMVID if not label.ignored)
            assert dataset.classes.colors[index] == COLORS[parts[0]]

    def test_kaggles_folders_can_be_merged_too(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            image(tmp_path / split / "a.png")
            color_mask(tmp_path / f"{split}_labels" / "a_L.png", COLORS["Train"], COLORS["Child"])
        rows = "".join(f"{name},{red},{green},{blue}\n" for name, (red, green, blue) in COLORS.items())
        write(tmp_path / "class_dict.csv", "name,r,g,b\n" + rows)
        assert labels(opened(tmp_path)) == [7, 25]
        self.classes(tmp_path)
        assert labels(opened(tmp_path)) == [8, 9]


def test_frames_without_masks_are_named(tmp_path: Path) -> None:
    authors(tmp_path, COLORS["Sky"])
    image(tmp_path / "701_StillsRaw_full" / "extra.png")
    mask(tmp_path / "LabeledApproved_full" / "other_L.png")
    with pytest.raises(
        DataError, match=r"image without a mask \(1\): .*extra\.png; mask without an image \(1\): .*other_L"
    ):
        opened(tmp_path)


def test_sequences_and_all_frames_are_listed(tmp_path: Path) -> None:
    assert len(all_ids(opened(authors(tmp_path, COLORS["Sky"])))) == 4
