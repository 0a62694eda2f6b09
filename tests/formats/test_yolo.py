import random
from pathlib import Path

import numpy as np
import pytest

from made_files import all_ids, has_note, ids, image, mask, opened, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects

HEIGHT, WIDTH = 8, 10
SQUARE = "0.0 0.0 0.4 0.0 0.4 0.5 0.0 0.5"
"""The first 4 pixels of the first 4 rows."""

NAMES = "names: [car, bus]\n"


def add(root: Path, images: str, *names: str, label: str | None = f"0 {SQUARE}\n") -> None:
    """Images in a folder below the root, and label files at the same places."""
    for name in names:
        image(root / images / f"{name}.jpg", height=HEIGHT, width=WIDTH)
        if label is not None:
            parts = ["labels" if part == "images" else part for part in Path(images).parts]
            write(root.joinpath(*parts) / f"{name}.txt", label)


def ultralytics(root: Path, label: str | None = f"0 {SQUARE}\n", yaml: str = NAMES) -> Path:
    for split, names in (("train", ("a", "b")), ("val", ("c",))):
        add(root, f"images/{split}", *names, label=label)
    write(root / "data.yaml", f"path: ../datasets/mine\ntrain: images/train\nval: images/val\ntest:\n{yaml}")
    return root


def defects(root: Path) -> list[Defect]:
    _, found = open_with_defects(root, DataConfig())
    return found


def read(dataset: Dataset, split: str = "train") -> "np.ndarray[tuple[int, ...], np.dtype[np.uint8]]":
    return dataset.masks.read(dataset.split(split)[0])


class TestLayouts:
    def test_ultralytics(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path))
        assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}
        assert dataset.layout == "YOLO outlines (data.yaml)"
        assert dataset.classes.names == ("background", "car", "bus")

    def test_roboflow(self, tmp_path: Path) -> None:
        for split in ("train", "valid"):
            add(tmp_path, f"{split}/images", "a_jpg.rf.012")
        paths = "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n"
        write(tmp_path / "data.yaml", f"{paths}\nnc: 2\nnames: ['car', 'bus']\nroboflow:\n  version: 1\n")
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a_jpg.rf.012"], "val": ["a_jpg.rf.012"]}
        assert has_note(dataset, "data.yaml names test images that are not there")

    @pytest.mark.parametrize("prefix", ["", "./", "data/"])
    def test_cvat_lists_images_in_text_files(self, tmp_path: Path, prefix: str) -> None:
        add(tmp_path, "images/train", "a", "b", "c")
        write(tmp_path / "train.txt", "".join(f"{prefix}images/train/{name}.jpg\n" for name in ("a", "b")))
        write(tmp_path / "data.yaml", "path: .\ntrain: train.txt\nnames:\n  0: car\n  1: bus\n")
        dataset = opened(tmp_path)
        assert all_ids(dataset) == ["images/train/a", "images/train/b"]

    @pytest.mark.parametrize(
        ("file", "prefix"),
        [
            ("train.txt", "{root}/"),
            ("train.txt", "./"),
            ("splits/train.txt", "./../"),
            ("splits/train.txt", ".\\..\\"),
            ("splits/train.txt", "../"),
            ("splits/train.txt", ""),
            ("splits/train.txt", "./"),
        ],
    )
    def test_lists_name_images_relative_to_the_list_or_to_the_root(
        self, tmp_path: Path, file: str, prefix: str
    ) -> None:
        add(tmp_path, "images/train", "a", "b")
        write(tmp_path / file, "".join(f"{prefix.format(root=tmp_path)}images/train/{name}.jpg\n" for name in "ab"))
        write(tmp_path / "data.yaml", f"train: {file}\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["images/train/a", "images/train/b"]

    def test_line_that_begins_with_a_dot_means_the_folder_of_its_list_first(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a")
        add(tmp_path, "splits/images", "a", "b")
        write(tmp_path / "splits/train.txt", "./images/a.jpg\n./images/b.jpg\n")
        write(tmp_path / "data.yaml", f"train: splits/train.txt\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["splits/images/a", "splits/images/b"]

    def test_sources_may_be_absolute(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "data.yaml", f"train: {tmp_path}/images/train\nval: {tmp_path}/images/val\n{NAMES}")
        assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_path_may_name_a_folder_next_to_the_description(self, tmp_path: Path) -> None:
        add(tmp_path / "mine", "images/train", "a", "b")
        add(tmp_path, "other/images", "c")
        write(tmp_path / "data.yaml", f"path: mine\ntrain: images/train\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["a", "b"]

    def test_several_folders_of_one_split(self, tmp_path: Path) -> None:
        add(tmp_path, "one/images", "a")
        add(tmp_path, "two/images", "a", "b")
        write(tmp_path / "data.yaml", f"train: [one/images, two/images]\n{NAMES}")
        assert all_ids(opened(tmp_path)) == ["one/images/a", "two/images/a", "two/images/b"]

    @pytest.mark.parametrize("images", ["images/{}", "{}/images"])
    def test_folders_alone_are_recognised(self, tmp_path: Path, images: str) -> None:
        add(tmp_path, images.format("train"), "a", "deep/b")
        add(tmp_path, images.format("valid"), "c", label=f"1 {SQUARE}")
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a", "deep/b"], "val": ["c"]}
        assert dataset.classes.names == ("background", "class 0", "class 1")
        assert has_note(dataset, "there is no data.yaml with names", "2 classes")

    def test_label_studio_lists_names_in_classes_txt(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a", "b")
        write(tmp_path / "classes.txt", "car\nbus\n")
        write(tmp_path / "notes.json", '{"categories": [{"id": 0, "name": "car"}]}')
        assert opened(tmp_path, format="yolo").classes.names == ("background", "car", "bus")

    def test_description_may_have_another_name(self, tmp_path: Path) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").rename(tmp_path / "coco8-seg.yaml")
        assert opened(tmp_path).classes.names == ("background", "car", "bus")

    @pytest.mark.parametrize("name", ["data.yaml", "dataset.yaml", "coco8-seg.yaml"])
    def test_description_itself_can_be_named(self, tmp_path: Path, name: str) -> None:
        ultralytics(tmp_path).joinpath("data.yaml").rename(tmp_path / name)
        assert ids(opened(tmp_path / name)) == ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_splits_can_be_named_in_a_yaml_file(self, tmp_path: Path) -> None:
        add(tmp_path, "images/train2017", "a", "b")
        add(tmp_path, "images/val2017", "c")
        write(tmp_path / "dataset.yaml", "format: yolo\ntrain: train2017\nval: val2017\n")
        assert ids(opened(tmp_path)) == {"train": ["a", "b"], "val": ["c"]}

    def test_masks_called_labels_are_not_outlines(self, tmp_path: Path) -> None:
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "labels" / f"{name}.png")
        assert opened(tmp_path).layout.startswith("paired folders")

    def test_other_text_files_are_not_outlines(self, tmp_path: Path) -> None:
        add(tmp_path, "images", "a", "b", label="Pedestrian 0.00 0 -0.20\n")
        with pytest.raises(DataError, match="not recognised as a dataset"):
            opened(tmp_path)

    def test_data_yaml_next_to_masks_does_not_make_them_outlines(self, tmp_path: Path) -> None:
        """As in Ultralytics' format for semantic segmentation."""
        for name in ("a", "b"):
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "masks" / f"{name}.png")
        write(tmp_path / "data.yaml", f"train: images\nmasks_dir: masks\n{NAMES}")
        assert opened(tmp_path).layout.startswith("paired folders")
        write(tmp_path / "data.yaml", "model: large\n")
        assert opened(tmp_path).layout.startswith("paired folders")

    def test_data_yaml_without_labels_is_reported(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"data\.yaml names classes, but no image has a label file"):
            opened(ultralytics(tmp_path, label=None))


class TestOutlines:
    def test_shares_of_the_image_become_pixels(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"0 {SQUARE}\n\n1 0.9 0.875 1.0 0.875 1.0 1.0 0.9 1.0\n"))
        expected = np.zeros((HEIGHT, WIDTH))
        expected[:4, :4] = 1
        expected[7, 9] = 2
        assert np.array_equal(read(dataset), expected)

    def test_smaller_of_overlapping_objects_is_on_top(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"1 {SQUARE}\n0 0 0 1 0 1 1 0 1\n"))
        assert (read(dataset)[0, 0], read(dataset)[7, 9]) == (2, 1)
        assert has_note(dataset, "where objects overlap, the smaller is on top")

    def test_image_without_label_file_is_background_with_a_note(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        (tmp_path / "labels/train/a.txt").unlink()
        dataset = opened(tmp_path)
        assert read(dataset).shape == (HEIGHT, WIDTH)
        assert not read(dataset).any()
        assert has_note(dataset, "1 of the 2 train images have no label file: all background")

    @pytest.mark.parametrize("source", ["images/train", "train.txt"])
    def test_label_file_may_have_its_extension_in_capitals(self, tmp_path: Path, source: str) -> None:
        ultralytics(tmp_path, yaml=f"{NAMES}train: {source}\n")
        write(tmp_path / "train.txt", "images/train/a.jpg\nimages/train/b.jpg\n")
        (tmp_path / "labels/train/a.txt").rename(tmp_path / "labels/train/a.TXT")
        dataset = opened(tmp_path)
        assert read(dataset).any()
        assert not has_note(dataset, "have no label file")

    def test_empty_label_file_is_background(self, tmp_path: Path) -> None:
        ultralytics(tmp_path)
        write(tmp_path / "labels/train/a.txt", "")
        assert not read(opened(tmp_path)).any()

    def test_class_called_background_is_background(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"1 {SQUARE}", yaml="names: {0: background, 1: car}\n"))
        assert dataset.classes.names == ("background", "car")
        assert read(dataset)[0, 0] == 1

    def test_classes_of_one_name_are_one_with_a_note(self, tmp_path: Path) -> None:
        dataset = opened(ultralytics(tmp_path, label=f"2 {SQUARE}", yaml="names: [car, bus, car]\n"))
        assert dataset.classes.names == ("background", "car", "bus")
        assert read(dataset)[0, 0] == 1
        assert has_note(dataset, "several classes are called car: they are one class")


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
