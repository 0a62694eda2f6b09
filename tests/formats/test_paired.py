from pathlib import Path

import pytest

from made_files import all_ids, color_mask, has_note, ids, image, labels, mask, opened, pairs, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError


class TestTwoFolders:
    @pytest.mark.parametrize(
        ("images", "masks"),
        [
            ("{}/images", "{}/masks"),
            ("{}/imgs", "{}/labels"),
            ("images/{}", "masks/{}"),
            ("Image/{}", "Annotations/{}"),
            ("{}", "{}_labels"),
            ("{}", "{}_Masks"),
            ("{}_images", "{}_masks"),
            ("{}-img", "{}-gt"),
            ("{}", "{}masks"),
        ],
    )
    @pytest.mark.parametrize("val", ["val", "valid", "Validation"])
    def test_layout_is_recognised(self, tmp_path: Path, images: str, masks: str, val: str) -> None:
        for split, names in (("train", ["b", "a", "deep/c"]), (val, ["d"])):
            pairs(tmp_path / images.format(split), tmp_path / masks.format(split), names)
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a", "b", "deep/c"], "val": ["d"]}
        assert dataset.layout.startswith("paired folders")
        record = dataset.splits["train"][2]
        assert (record.image.name, record.mask and record.mask.name) == ("c.jpg", "c.png")

    def test_every_partnerless_file_is_counted(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        for index in range(5):
            image(tmp_path / "images" / f"lone{index}.jpg")
        mask(tmp_path / "masks" / "only.png")
        expected = (
            r"image without a mask \(5\): images/lone0\.jpg, images/lone1\.jpg, images/lone2\.jpg and 2 more; "
            r"mask without an image \(1\): masks/only\.png; an image and its mask need the same name"
        )
        with pytest.raises(DataError, match=expected):
            opened(tmp_path)

    def test_single_file_without_a_partner_is_reported_in_full(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        image(tmp_path / "images" / "lone.jpg")
        with pytest.raises(DataError, match=r"images/lone\.jpg: no mask of this name in .*; add it, or remove"):
            opened(tmp_path)

    def test_partnerless_files_can_be_collected_instead(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        image(tmp_path / "images" / "lone.jpg")
        mask(tmp_path / "masks" / "only.png")
        image(tmp_path / "images" / "a.webp")
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert all_ids(dataset) == ["a", "b"]
        assert {(defect.kind, defect.file.name) for defect in found} == {
            (DefectKind.MISSING_MASK, "lone.jpg"),
            (DefectKind.MISSING_IMAGE, "only.png"),
            (DefectKind.SAME_STEM, "a.webp"),
        }

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        image(tmp_path / "images" / "a.png")
        with pytest.raises(DataError, match=r"images/a\.png: has the same name as a\.jpg"):
            opened(tmp_path)

    @pytest.mark.parametrize("suffix", ["_label", "_mask", "-mask", "_GT", "_L"])
    def test_common_suffix_of_masks_is_removed_with_a_note(self, tmp_path: Path, suffix: str) -> None:
        for name in ("1", "2"):
            image(tmp_path / "Images" / f"{name}.jpg")
            mask(tmp_path / "Masks" / f"{name}{suffix}.PNG")
        dataset = opened(tmp_path)
        assert has_note(dataset, "paired by their names without", repr(suffix))
        assert all_ids(dataset) == ["1", "2"]

    def test_common_suffix_of_images_is_removed_with_a_note(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            image(tmp_path / "images" / f"{name}_sat.jpg")
            mask(tmp_path / "masks" / f"{name}_mask.png")
        dataset = opened(tmp_path)
        assert has_note(dataset, "without '_sat' of the images and '_mask' of the masks")
        assert all_ids(dataset) == ["1", "2"]

    def test_folders_that_hold_all_of_one_side_do_not_count(self, tmp_path: Path) -> None:
        for name in ("cat_1", "dog_1"):  # as in the Oxford pets
            image(tmp_path / "images" / f"{name}.jpg")
            mask(tmp_path / "annotations" / "trimaps" / f"{name}.png", 1, 2, 3)
            write(tmp_path / "annotations" / "trimaps" / f"._{name}.png", "x")
        dataset = opened(write(tmp_path / "mine.yaml", "classes: {pet: 1, background: 2}\nignore: 3"))
        assert all_ids(dataset) == ["cat_1", "dog_1"]
        assert has_note(dataset, "masks are named 'trimaps/{stem}'")

    def test_suffix_of_some_masks_only_is_no_suffix(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / "1_mask.png")
        mask(tmp_path / "masks" / "2.png")
        with pytest.raises(DataError, match="image without a mask"):
            opened(tmp_path)

    def test_test_split_without_masks_is_left_out_with_a_note(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pairs(tmp_path / split / "images", tmp_path / split / "masks", ["a"])
        image(tmp_path / "test" / "images" / "t.jpg")
        dataset = opened(tmp_path)
        assert set(dataset.splits) == {"train", "val"}
        assert has_note(dataset, "test", "no masks")

    def test_val_split_without_masks_is_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train" / "images", tmp_path / "train" / "masks", ["a"])
        image(tmp_path / "val" / "images" / "v.jpg")
        with pytest.raises(DataError, match=r"val/images: there is no folder masks"):
            opened(tmp_path)

    def test_images_next_to_the_splits_are_announced(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pairs(tmp_path / "images" / split, tmp_path / "masks" / split, ["a"])
        image(tmp_path / "images" / "extra" / "x.jpg")
        assert has_note(opened(tmp_path), "1 images in", "belong to no split")

    def test_folder_of_masks_next_to_one_of_text_labels_is_found(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 1 1")
        assert len(opened(tmp_path, format="paired").split("train")) == 1

    def test_two_folders_of_masks_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        mask(tmp_path / "labels" / "a.png")
        with pytest.raises(AmbiguousDatasetError, match=r"labels and masks hold images, .*; to settle it") as caught:
            opened(tmp_path)
        write(tmp_path / "dataset.yaml", caught.value.suggestion)  # proposes labels, which lacks the mask of b
        with pytest.raises(DataError, match=r"images/b\.jpg"):
            opened(tmp_path)
        write(tmp_path / "dataset.yaml", caught.value.suggestion.splitlines()[-1].removeprefix("# "))
        assert all_ids(opened(tmp_path)) == ["a", "b"]

    def test_yaml_for_two_folders_of_masks_keeps_the_splits(self, tmp_path: Path) -> None:
        for split, name in (("train", "a"), ("val", "b")):
            pairs(tmp_path / "data" / "images" / split, tmp_path / "data" / "masks" / split, [name])
            mask(tmp_path / "data" / "labels" / split / f"{name}.png", 0, 1)
        with pytest.raises(AmbiguousDatasetError) as caught:
            opened(tmp_path)
        write(tmp_path / "dataset.yaml", caught.value.suggestion)
        assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["b"]}

    def test_no_masks_at_all(self, tmp_path: Path) -> None:
        image(tmp_path / "images" / "a.jpg")
        (tmp_path / "masks").mkdir()
        with pytest.raises(DataError, match=r"masks: no masks here, but 1 images in .*images"):
            opened(tmp_path)

    def test_no_images_at_all(self, tmp_path: Path) -> None:
        mask(tmp_path / "masks" / "a.png")
        (tmp_path / "images").mkdir()
        with pytest.raises(DataError, match=r"images: no images in this folder"):
            opened(tmp_path)

    def test_kaggles_camvid_takes_its_classes_from_the_list(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            image(tmp_path / split / "0001TP.png")
            color_mask(tmp_path / f"{split}_labels" / "0001TP_L.png", (64, 128, 64), (0, 0, 0))
        write(tmp_path / "class_dict.csv", "name,r,g,b\nAnimal,64,128,64\nVoid,0,0,0\n")
        dataset = opened(tmp_path)
        assert dataset.classes.names == ("Animal",)
        assert labels(dataset) == [0, 255]


class TestOneFolder:
    @pytest.mark.parametrize("where", ["{split}", "{split}/deep"])
    @pytest.mark.parametrize(
        ("image_name", "mask_name"),
        [
            ("{}.jpg", "{}_label.PNG"),
            ("{}.png", "{}_mask.png"),
            ("{}_sat.jpg", "{}_mask.png"),
            ("{}.JPEG", "{}.png"),
            ("{}.jpg", "{}.TIF"),
        ],
    )
    def test_masks_next_to_images_are_recognised_in_splits(
        self, tmp_path: Path, where: str, image_name: str, mask_name: str
    ) -> None:
        for split in ("train", "val"):
            folder = tmp_path / where.format(split=split)
            for name in ("1", "2"):
                image(folder / image_name.format(name))
                mask(folder / mask_name.format(name))
        dataset = opened(tmp_path)
        assert dataset.layout == "masks next to images, a folder for each split"
        assert [Path(name).name for name in ids(dataset)["train"]] == ["1", "2"]
        assert labels(dataset) == [0, 1]

    def test_masks_next_to_images_are_recognised_without_splits(self, tmp_path: Path) -> None:
        for name in ("1", "2", "3"):
            image(tmp_path / f"{name}.jpg")
            mask(tmp_path / f"{name}_label.PNG")
        dataset = opened(tmp_path)
        assert dataset.layout == "masks next to images"
        assert all_ids(dataset) == ["1", "2", "3"]

    def test_image_without_a_mask_next_to_it_is_named(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            image(tmp_path / f"{name}.jpg")
            mask(tmp_path / f"{name}_mask.png")
        image(tmp_path / "3.jpg")
        with pytest.raises(DataError, match=r"3\.jpg: no mask of this name in"):
            opened(tmp_path)

    def test_split_without_masks_next_to_its_images_is_refused(self, tmp_path: Path) -> None:
        for name in ("1", "3"):
            image(tmp_path / "train" / f"{name}.jpg")
            mask(tmp_path / "train" / f"{name}_mask.png")
        image(tmp_path / "val" / "2.jpg")
        with pytest.raises(DataError, match=r"val: no masks next to these images.*name the splits .*\(train: train\)"):
            opened(tmp_path)
        assert all_ids(opened(write(tmp_path / "mine.yaml", "train: train"))) == ["1", "3"]

    def test_two_kinds_of_masks_are_ambiguous(self, tmp_path: Path) -> None:
        image(tmp_path / "1.jpg")
        mask(tmp_path / "1_mask.png")
        mask(tmp_path / "1_label.png")
        with pytest.raises(
            DataError, match=r"several masks(?s:.*)mask_name: '{stem}_mask'(?s:.*)mask_name: '{stem}_label'"
        ):
            opened(tmp_path)

    def test_pairs_without_a_jpeg_are_ambiguous(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            image(tmp_path / f"{name}.tif")
            mask(tmp_path / f"{name}.png")
        with pytest.raises(DataError, match=r"pairs of \.png and \.tif, and either could be the mask"):
            opened(tmp_path)

    def test_plain_photographs_are_no_dataset(self, tmp_path: Path) -> None:
        for name in ("1", "2", "left_l", "left_r"):
            image(tmp_path / f"{name}.jpg")
        with pytest.raises(DataError, match="not recognised as a dataset"):
            opened(tmp_path)


class TestNames:
    def test_names_that_differ_in_case_from_their_partners_are_paired_with_a_note(self, tmp_path: Path) -> None:
        for name in ("IMG_1", "IMG_2"):
            image(tmp_path / "images" / f"{name}.JPG")
            mask(tmp_path / "masks" / f"{name.lower()}.png")
        dataset = opened(tmp_path)
        assert has_note(dataset, "differ in upper and lower case")
        assert all_ids(dataset) == ["IMG_1", "IMG_2"]

    def test_names_that_collide_by_case_keep_their_own_masks(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a"], 0, 1)
        pairs(tmp_path / "images", tmp_path / "masks", ["A"], 2, 2)
        dataset = opened(tmp_path)
        records = [record for records in dataset.splits.values() for record in records]
        assert {(record.image.stem, record.mask and record.mask.stem) for record in records} == {("a", "a"), ("A", "A")}

    def test_collision_by_case_is_not_resolved_by_case(self, tmp_path: Path) -> None:
        for name in ("a", "A"):
            image(tmp_path / "images" / f"{name}.jpg")
        mask(tmp_path / "masks" / "a.png")
        with pytest.raises(DataError, match=r"A\.jpg: no mask of this name"):
            opened(tmp_path)

    def test_what_operating_systems_leave_behind_is_not_seen(self, tmp_path: Path) -> None:
        inner = tmp_path / "set"
        for split in ("train", "val"):
            pairs(inner / split / "images", inner / split / "masks", ["a", "b"])
            for folder in ("images", "masks"):
                write(inner / split / folder / "Thumbs.db", "x")
                write(inner / split / folder / ".DS_Store", "x")
                write(inner / split / folder / "._a.png", "x")
                write(inner / split / folder / ".ipynb_checkpoints" / "a-checkpoint.png", "x")
        write(tmp_path / "__MACOSX" / "set" / "train" / "images" / "._a.jpg", "x")
        write(tmp_path / ".DS_Store", "x")
        dataset = opened(tmp_path)
        assert ids(dataset) == {"train": ["a", "b"], "val": ["a", "b"]}
        assert has_note(dataset, "the dataset is in", "set")
