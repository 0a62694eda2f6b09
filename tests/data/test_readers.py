import random
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from pyramidseg.config import DataConfig
from pyramidseg.data.readers import READERS, open_dataset
from pyramidseg.data.readers.segnet import CAMVID
from pyramidseg.data.records import Dataset, Record
from pyramidseg.errors import ConfigError, DataError

T = TypeVar("T")


def image(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (4, 3)).save(path)
    return path


def mask(path: Path, *values: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.resize(np.array(values or (0, 1), np.uint8), (3, 4))).save(path)
    return path


def pairs(images: Path, masks: Path, names: Iterable[str], *values: int) -> None:
    for name in names:
        image(images / f"{name}.jpg")
        mask(masks / f"{name}.png", *values)


def write(path: Path, text: str) -> Path:
    path.write_text(text, encoding="utf-8")
    return path


def opened(source: Path, **settings: Any) -> Dataset:
    return open_dataset(source, DataConfig(**settings))


def ids(dataset: Dataset) -> dict[str, list[str]]:
    return {split: [record.id for record in records] for split, records in dataset.splits.items()}


def read(dataset: Dataset, split: str = "train") -> list[int]:
    return sorted({int(label) for record in dataset.split(split) for label in dataset.masks.read(record).flat})


class TestPairedFolders:
    @pytest.mark.parametrize(
        ("images", "masks"),
        [
            ("{}/images", "{}/masks"),
            ("{}/imgs", "{}/labels"),
            ("images/{}", "masks/{}"),
            ("Image/{}", "Annotations/{}"),
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

    def test_validation_split_is_taken_by_name_and_announced(self, tmp_path: Path) -> None:
        names = [f"{index:03d}" for index in range(20)]
        pairs(tmp_path / "images", tmp_path / "masks", names)
        dataset = opened(tmp_path, val_share=0.25)
        found = ids(dataset)
        assert (len(found["train"]), len(found["val"])) == (15, 5)
        assert sorted(found["train"] + found["val"]) == names
        assert any("5 of the 20 training images" in note for note in dataset.notes)

    def test_validation_split_does_not_depend_on_the_order(self) -> None:
        records = [Record(str(index), Path(f"{index}.jpg")) for index in range(50)]
        shuffled = random.Random(1).sample(records, 50)
        one, other = (
            open_dataset(Dataset.from_records(train=order, classes=["a", "b"]), DataConfig())
            for order in (records, shuffled)
        )
        assert set(one.splits["val"]) == set(other.splits["val"])

    def test_one_image_cannot_be_split(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a"])
        with pytest.raises(DataError, match="a single image cannot be split"):
            opened(tmp_path)

    def test_every_partnerless_file_is_counted(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        for index in range(5):
            image(tmp_path / "images" / f"lone{index}.jpg")
        mask(tmp_path / "masks" / "only.png")
        expected = (
            r"5 of 7 images have no mask, such as lone0\.jpg, lone1\.jpg, lone2\.jpg and 2 more; "
            r"1 of 3 masks have no image, such as only\.png; an image and its mask need the same name"
        )
        with pytest.raises(DataError, match=expected):
            opened(tmp_path)

    def test_two_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        image(tmp_path / "images" / "a.png")
        with pytest.raises(DataError, match=r"1 files share their name .* a\.jpg and a\.png"):
            opened(tmp_path)

    def test_common_suffix_of_masks_is_taken_off_aloud(self, tmp_path: Path) -> None:
        for name in ("1", "2"):
            image(tmp_path / "Images" / f"{name}.jpg")
            mask(tmp_path / "Masks" / f"{name}_label.PNG")
        dataset = opened(tmp_path)
        assert "masks carry the suffix '_label' in their names" in dataset.notes

    def test_test_split_without_masks_is_left_out_aloud(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pairs(tmp_path / split / "images", tmp_path / split / "masks", ["a"])
        image(tmp_path / "test" / "images" / "t.jpg")
        dataset = opened(tmp_path)
        assert set(dataset.splits) == {"train", "val"}
        assert any("test" in note and "no masks" in note for note in dataset.notes)

    def test_val_split_without_masks_is_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train" / "images", tmp_path / "train" / "masks", ["a"])
        image(tmp_path / "val" / "images" / "v.jpg")
        with pytest.raises(DataError, match=r"val/images: no folder of masks"):
            opened(tmp_path)

    def test_images_beside_the_splits_are_announced(self, tmp_path: Path) -> None:
        for split in ("train", "val"):
            pairs(tmp_path / "images" / split, tmp_path / "masks" / split, ["a"])
        image(tmp_path / "images" / "extra" / "x.jpg")
        assert any("1 images in" in note and "belong to no split" in note for note in opened(tmp_path).notes)

    def test_folder_of_masks_beside_one_of_text_labels_is_found(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        (tmp_path / "labels").mkdir()
        write(tmp_path / "labels" / "a.txt", "0 0.5 0.5 1 1")
        assert len(opened(tmp_path).split("train")) == 1

    def test_two_folders_of_masks_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        mask(tmp_path / "labels" / "a.png")
        with pytest.raises(DataError, match="both labels and masks hold images; name the right one in a YAML file"):
            opened(tmp_path)


class TestSegnet:
    def test_camvid_classes_are_taken_aloud(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"], 0, 10, 11, 255)
        pairs(tmp_path / "val", tmp_path / "valannot", ["b"])
        dataset = opened(tmp_path)
        assert dataset.layout == "SegNet ({split}, {split}annot)"
        assert dataset.classes.names == tuple(label.name for label in CAMVID if not label.ignored)
        assert read(dataset) == [0, 10, 255]
        assert any("no classes were given" in note and "bicyclist" in note for note in dataset.notes)

    def test_class_list_goes_before_the_preset(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"], 0, 1)
        pairs(tmp_path / "val", tmp_path / "valannot", ["b"], 0, 1)
        file = write(tmp_path / "mine.yaml", "classes: [left, right]")
        assert opened(file).classes.names == ("left", "right")

    def test_missing_partner_is_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "train", tmp_path / "trainannot", ["a"])
        image(tmp_path / "val" / "b.jpg")
        with pytest.raises(DataError, match=r"val: its partner is missing"):
            opened(tmp_path)


class TestInferredClasses:
    def make(self, folder: Path, *values: int) -> Path:
        pairs(folder / "images", folder / "masks", ["a", "b"], *values)
        return folder

    def test_ids_without_gaps_become_numbered_classes(self, tmp_path: Path) -> None:
        dataset = opened(self.make(tmp_path, 0, 1, 2, 255))
        assert dataset.classes.names == ("class 0", "class 1", "class 2")
        assert any("masks hold 0-2, 255, so there are 3 (ignored 255)" in note for note in dataset.notes)

    def test_gap_is_refused_with_the_file(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"hold 0, 2, 255 \(first 2 in .*a\.png\).* so 1 is missing; list stray"):
            opened(self.make(tmp_path, 0, 2, 255))

    def test_only_0_and_255_is_refused_until_something_is_said(self, tmp_path: Path) -> None:
        self.make(tmp_path, 0, 255)
        with pytest.raises(
            DataError, match=r"only 0 and 255.*data\.binary=true or data\.ignore=255.*YAML.*binary: true"
        ):
            opened(tmp_path)
        assert read(opened(tmp_path, binary=True)) == [0, 1]
        assert read(opened(tmp_path, ignore=255)) == [0, 255]

    def test_nothing_but_ignored_pixels_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="no pixel has a class"):
            opened(self.make(tmp_path, 255))

    def test_more_than_255_classes_are_refused(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"])
        values = np.arange(300, dtype=np.uint16)[None]
        Image.fromarray(values).save(tmp_path / "masks" / "a.png")
        with pytest.raises(DataError, match="299 classes; 255 are possible"):
            opened(tmp_path)

    def test_ignored_values_close_gaps(self, tmp_path: Path) -> None:
        assert read(opened(self.make(tmp_path, 0, 1, 7), ignore=[7])) == [0, 1, 255]

    def test_progress_covers_all_masks(self, tmp_path: Path) -> None:
        self.make(tmp_path, 0, 1)
        seen: list[int] = []

        def track(items: Iterable[T], *, total: int, what: str) -> Iterable[T]:
            for item in items:
                seen.append(total)
                yield item

        open_dataset(tmp_path, DataConfig(), track=track)
        assert seen == [2, 2]


class TestYaml:
    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for split in ("train", "val"):
            pairs(tmp_path / split / "images", tmp_path / split / "masks", ["a", "b"], 0, 1)
        return tmp_path

    def test_class_entries_give_names_colours_and_values(self, folder: Path) -> None:
        text = "format: paired\nclasses:\n- {name: y, color: [1, 2, 3], value: 1}\n- {name: x, value: 0}\n"
        dataset = opened(write(folder / "d.yml", text))
        assert dataset.classes.names == ("y", "x")
        assert dataset.classes.colors[0] == (1, 2, 3)
        assert dataset.masks.read(dataset.split("train")[0])[0, :2].tolist() == [1, 0]

    def test_mapping_gives_values_by_name(self, folder: Path) -> None:
        dataset = opened(write(folder / "d.yaml", "classes: {second: 1, first: 0}"))
        assert dataset.classes.names == ("second", "first")
        assert dataset.masks.read(dataset.split("train")[0])[0, :2].tolist() == [1, 0]

    def test_binary_masks_have_background_and_foreground(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 255)
        dataset = opened(write(tmp_path / "d.yaml", "binary: true"))
        assert dataset.classes.names == ("background", "foreground")
        assert read(dataset) == [0, 1]

    def test_path_is_relative_to_the_file(self, folder: Path) -> None:
        (folder / "about").mkdir()
        file = write(folder / "about" / "d.yaml", "path: ..\nclasses: [x, y]")
        assert ids(opened(file)) == {"train": ["a", "b"], "val": ["a", "b"]}

    def test_splits_can_have_names_of_their_own(self, folder: Path) -> None:
        (folder / "train").rename(folder / "Summer")
        dataset = opened(write(folder / "d.yaml", "train: Summer\nval: val\nclasses: [x, y]"))
        assert set(dataset.splits) == {"train", "val"}

    def test_splits_can_be_two_folders(self, tmp_path: Path) -> None:
        pairs(tmp_path / "pictures", tmp_path / "truth", ["a", "b"])
        pairs(tmp_path / "val" / "images", tmp_path / "val" / "masks", ["c"])
        text = "train: {images: pictures, masks: truth}\nval: val\nclasses: [x, y]"
        assert ids(opened(write(tmp_path / "d.yaml", text))) == {"val": ["c"], "train": ["a", "b"]}

    def test_dataset_yaml_in_a_folder_is_used_aloud(self, folder: Path) -> None:
        write(folder / "dataset.yaml", "classes: [x, y]")
        dataset = opened(folder)
        assert dataset.classes.names == ("x", "y")
        assert any("dataset.yaml" in note for note in dataset.notes)

    def test_share_of_the_file_is_used_unless_set(self, tmp_path: Path) -> None:
        pairs(tmp_path / "images", tmp_path / "masks", [str(index) for index in range(10)])
        file = write(tmp_path / "d.yaml", "classes: [x, y]\nval_share: 0.5")
        assert len(opened(file).split("val")) == 5
        assert len(opened(file, val_share=0.1).split("val")) == 1

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("clases: [a, b]", "d.yaml: unknown key 'clases'; did you mean 'classes'"),
            ("classes: [{name: a, colour: [1, 2, 3]}]", "unknown key 'colour' in classes.0; did you mean 'color'"),
            ("train: {images: a, mask: b}", "unknown key 'mask' in train; did you mean 'masks'"),
            ("train: {images: a}", "d.yaml: train: give the name of a folder, or both images and masks"),
            ("classes: [{name: a, color: [1, 2, 300]}]", "d.yaml: classes.0.color.2=300"),
            ("classes: [{name: a, value: 0}, {name: b}]", "d.yaml: class 'b' has no value"),
            ("classes: {a: 1, b: 1}", "d.yaml: value 1 is given to more than one class"),
            ("classes: [a, b]\nignore: 1", "d.yaml: mask value 1 is a class and ignored at once"),
            ("classes: [a, b, c]\nbinary: true", "d.yaml: binary masks have two classes"),
            ("classes: {0: a}", "d.yaml: classes.0.name=0"),
            ("ignore: -1", "d.yaml: ignore.0=-1"),
            ("val_share: 1.5", "d.yaml: val_share=1.5"),
            ("format: piared", "d.yaml: unknown dataset format 'piared'; did you mean 'paired'"),
        ],
    )
    def test_wrong_content_is_a_config_error(self, folder: Path, text: str, message: str) -> None:
        with pytest.raises(ConfigError) as caught:
            opened(write(folder / "d.yaml", text))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("classes: [a", "d.yaml: not readable as YAML"),
            ("- a", "d.yaml: a mapping with the keys ignore, binary"),
            ("path: elsewhere", "d.yaml: path: there is no folder"),
            ("train: summer", "not recognised as a dataset with the folders 'summer': found train/, val/"),
            ("train: summer\nval: val", "d.yaml: train: no images with masks in a folder 'summer'"),
            ("train: {images: a, masks: b}", "d.yaml: train.images: there is no folder"),
            ("format: segnet", "not recognised as a dataset: found train/, val/"),
        ],
    )
    def test_wrong_places_are_a_data_error(self, folder: Path, text: str, message: str) -> None:
        with pytest.raises(DataError) as caught:
            opened(write(folder / "d.yaml", text))
        assert message in str(caught.value)
        assert "\n" not in str(caught.value)


class TestNothingToRead:
    def test_wrong_path(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"absent: no such file or folder; a dataset is a folder or a YAML file"):
            opened(tmp_path / "absent")

    def test_file_that_is_no_description(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.zip: is no dataset"):
            opened(write(tmp_path / "a.zip", ""))

    def test_empty_folder(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="found nothing; known layouts: "):
            opened(tmp_path)

    def test_unknown_layout_says_what_was_found_and_what_is_known(self, tmp_path: Path) -> None:
        for index in range(3):
            image(tmp_path / f"{index}.jpg")
        (tmp_path / "json").mkdir()
        with pytest.raises(DataError) as caught:
            opened(tmp_path)
        assert "found json/, 3 .jpg" in str(caught.value)
        assert all(name in str(caught.value) for name in READERS)

    def test_dataset_one_folder_below_is_pointed_out(self, tmp_path: Path) -> None:
        pairs(tmp_path / "inner" / "images", tmp_path / "inner" / "masks", ["a", "b"])
        with pytest.raises(DataError, match=r"the folder inner in it can be read: name .*/inner"):
            opened(tmp_path)

    def test_no_masks_at_all(self, tmp_path: Path) -> None:
        image(tmp_path / "images" / "a.jpg")
        (tmp_path / "masks").mkdir()
        with pytest.raises(DataError, match=r"masks: no masks in this folder, though .*images has 1 images"):
            opened(tmp_path)

    def test_no_images_at_all(self, tmp_path: Path) -> None:
        mask(tmp_path / "masks" / "a.png")
        (tmp_path / "images").mkdir()
        with pytest.raises(DataError, match=r"images: no images in this folder"):
            opened(tmp_path)


def test_dataset_from_python_is_taken_as_it_is() -> None:
    records = [Record("a", Path("a.jpg"), Path("a.png"))]
    dataset = Dataset.from_records(train=records, val=records, classes=["x", "y"])
    assert open_dataset(dataset, DataConfig()) is dataset
