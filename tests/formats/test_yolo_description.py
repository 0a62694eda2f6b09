"""`data.yaml`: folders, names and lists, and what is wrong in them."""

from pathlib import Path

import pytest

from made_files import defects, has_note, ids, image, mask, opened, write
from made_yolo import NAMES, SQUARE, add, ultralytics
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects


class TestDescription:
    def test_path_inside_the_folder_is_where_images_are(self, tmp_path: Path) -> None:
        ultralytics(tmp_path / "inner")
        add(tmp_path, "images/train", "x")
        (tmp_path / "inner/data.yaml").unlink()
        write(tmp_path / "data.yaml", f"path: inner\ntrain: images/train\nval: images/val\n{NAMES}")
        dataset = opened(tmp_path)
        assert all("inner" in record.image.parts for record in dataset.split("train"))
        assert not has_note(dataset, "was not followed")

    @pytest.mark.parametrize("path", ["../datasets/coco8-seg", "/content/datasets/x", "gone", "a" * 5000])
    def test_path_that_is_not_followed_is_noted(self, tmp_path: Path, path: str) -> None:
        ultralytics(tmp_path / "set")
        write(tmp_path / "set/data.yaml", f"path: {path}\ntrain: images/train\nval: images/val\n{NAMES}")
        assert has_note(
            opened(tmp_path / "set"), f"path: {path} in data.yaml is not a folder inside", "was not followed"
        )

    def test_path_that_leads_back_into_the_folder_is_followed(self, tmp_path: Path) -> None:
        ultralytics(tmp_path / "set")
        write(tmp_path / "set/data.yaml", f"path: ../set\ntrain: images/train\nval: images/val\n{NAMES}")
        assert not has_note(opened(tmp_path / "set"), "was not followed")

    def test_images_that_are_only_outside_are_refused_with_the_reason(self, tmp_path: Path) -> None:
        ultralytics(tmp_path / "elsewhere")
        write(tmp_path / "set/data.yaml", f"path: ../elsewhere\ntrain: images/train\n{NAMES}")
        add(tmp_path / "set", "labels", "a")
        with pytest.raises(
            DataError, match=r"'images/train' does not exist; .*path: \.\./elsewhere in .* not followed"
        ):
            opened(tmp_path / "set")

    @pytest.mark.parametrize(
        ("yaml", "message"),
        [
            ("names: 5\n", "names: a list of class names"),
            ("names: []\n", "names: a list of class names"),
            ("names: [[car]]\n", "names: the name of a class is text"),
            ("names: {-1: car}\n", "names: the name of a class is text"),
            ("names: {a: car}\n", "names: the name of a class is text"),
            ("nc: 3\nnames: [car, bus]\n", "nc: 3 classes, but there are 2 names"),
            ("names: [car]\nkpt_shape: [17, 3]\n", "describes keypoints"),
            ("names: [car\n", "not readable as YAML"),
            ("names: &a [car]\nother: *a\n", "contains an alias"),
            ("names: " + "[" * 20_000, "nested too deeply"),
            ("names: [car]\ntrain: {a: b}\n", "train: a folder of images, a list of folders"),
            ("names: [car]\ntrain: ../../images\n", "is outside the dataset"),
            ("names: [car]\ntrain: /home/me/images\n", "is outside the dataset"),
            ("names: [car]\ntrain: C:\\images\n", "is outside the dataset"),
            ("names: [car]\ntrain: gone\n", "'gone' does not exist"),
        ],
    )
    def test_invalid_descriptions_are_refused(self, tmp_path: Path, yaml: str, message: str) -> None:
        add(tmp_path, "images/train", "a", "b")
        write(tmp_path / "data.yaml", yaml)
        with pytest.raises(DataError, match=message):
            opened(tmp_path)

    def test_lists_that_lead_out_are_refused(self, tmp_path: Path) -> None:
        root = tmp_path / "set"
        add(root, "images/train", "a", "b")
        image(tmp_path / "outside.jpg")
        write(root / "train.txt", "images/train/a.jpg\n../outside.jpg\n")
        write(root / "data.yaml", f"train: train.txt\n{NAMES}")
        with pytest.raises(DataError, match=r"train\.txt: '\.\./outside\.jpg' is outside the dataset"):
            opened(root)

    @pytest.mark.parametrize("place", ["C:\\Users\\me\\set\\", "/home/me/set/"])
    def test_lists_of_another_machine_are_read_without_its_folders(self, tmp_path: Path, place: str) -> None:
        add(tmp_path, "images/train", "a", "b")
        slash = place[-1]
        write(tmp_path / "train.txt", "".join(f"{place}images{slash}train{slash}{name}.jpg\n" for name in "ab"))
        write(tmp_path / "data.yaml", f"train: {place}train.txt\n{NAMES}")
        dataset, found = open_with_defects(tmp_path, DataConfig(val_share=0.5))
        assert found == []
        assert sorted(id for some in ids(dataset).values() for id in some) == ["images/train/a", "images/train/b"]

    def test_every_entry_that_cannot_be_followed_is_named_and_the_rest_is_listed(self, tmp_path: Path) -> None:
        root = tmp_path / "set"
        add(root, "images/train", "a", "b")
        write(root / "train.txt", "images/train/a.jpg\n../one.jpg\nimages/train/b.jpg\n../two.jpg\n")
        write(root / "data.yaml", f"train: train.txt\nval: [gone, lost]\n{NAMES}")
        dataset, found = open_with_defects(root, DataConfig())
        assert ids(dataset) == {"train": ["images/train/a", "images/train/b"]}
        assert [(defect.kind, defect.file.name, defect.detail.split()[0]) for defect in found] == [
            (DefectKind.OUTSIDE, "train.txt", "'../one.jpg'"),
            (DefectKind.OUTSIDE, "train.txt", "'../two.jpg'"),
            (DefectKind.ABSENT, "data.yaml", "'gone'"),
            (DefectKind.ABSENT, "data.yaml", "'lost'"),
        ]

    @pytest.mark.parametrize(("text", "kind"), [("", DefectKind.EMPTY), ("../a.jpg\n", DefectKind.OUTSIDE)])
    def test_list_that_gives_nothing_is_one_defect(self, tmp_path: Path, text: str, kind: DefectKind) -> None:
        ultralytics(tmp_path, yaml=f"{NAMES}val: val.txt\n")
        write(tmp_path / "val.txt", text)
        assert [(defect.kind, defect.file.name) for defect in defects(tmp_path)] == [(kind, "val.txt")]

    def test_split_without_images_or_without_labels_is_named(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        (tmp_path / "labels" / "val" / "c.txt").unlink()
        assert [(defect.kind, defect.file.name) for defect in defects(tmp_path)] == [(DefectKind.ABSENT, "val")]
        (tmp_path / "images" / "val" / "c.jpg").unlink()
        (defect,) = defects(tmp_path)
        assert "split 'val' has no images in this folder" in defect.detail

    @pytest.mark.parametrize(("text", "message"), [("", "names no class"), ("car\n\nbus\n", "line 2 is empty")])
    def test_names_that_cannot_be_counted_are_named(self, tmp_path: Path, text: str, message: str) -> None:
        for split in ("train", "val"):
            add(tmp_path, f"{split}/images", "a")
        write(tmp_path / "classes.txt", text)
        (defect,) = defects(tmp_path)
        assert (defect.kind, defect.file.name) == (DefectKind.BAD_ANNOTATION, "classes.txt")
        assert message in defect.detail

    @pytest.mark.parametrize(
        "yaml",
        [b"nc: 3\nnames: [car, bus]", b"names: 3", b"\tnames: [car", "names: [car]".encode("utf-16"), b"car, bus"],
    )
    def test_what_is_wrong_in_it_does_not_hide_the_rest(self, tmp_path: Path, yaml: bytes) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").write_bytes(yaml)
        write(tmp_path / "labels/train/lost.txt", f"1 {SQUARE}")
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}
        assert [(defect.kind, defect.file.name) for defect in found] == [
            (DefectKind.BAD_ANNOTATION, "data.yaml"),
            (DefectKind.MISSING_IMAGE, "lost.txt"),
        ]
        assert has_note(dataset, "the names cannot be read: the 2 classes are called by their numbers")
        with pytest.raises(DataError, match=r"data\.yaml"):
            opened(tmp_path)

    def test_invalid_sources_are_reported_and_folders_are_used(self, tmp_path: Path) -> None:
        ultralytics(tmp_path, yaml=f"{NAMES}train: {{a: b}}\n")
        (defect,) = defects(tmp_path)
        assert (defect.kind, defect.file.name) == (DefectKind.BAD_ANNOTATION, "data.yaml")

    def test_unreadable_data_yaml_next_to_masks_is_not_yolo(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "labels" / f"{name}.png")
        write(tmp_path / "data.yaml", "\tnames: [car\n")
        assert opened(tmp_path).layout.startswith("paired folders")

    def test_unreadable_data_yaml_is_reported_if_nothing_is_recognised(self, tmp_path: Path) -> None:
        add(tmp_path, "pictures", "a")
        write(tmp_path / "data.yaml", "\tnames: [car\n")
        with pytest.raises(DataError, match=r"not recognised as a dataset.*data\.yaml: not readable as YAML"):
            opened(tmp_path)

    def test_two_descriptions_are_refused(self, tmp_path: Path) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").rename(tmp_path / "one.yaml")
        write(tmp_path / "two.yaml", (tmp_path / "one.yaml").read_text())
        with pytest.raises(DataError, match=r"one\.yaml: two\.yaml names classes too"):
            opened(tmp_path)
