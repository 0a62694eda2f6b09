from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_files import all_ids, color_mask, first_row, has_note, ids, image, labels, mask, opened, palette_mask, write
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.formats.class_lists import voc_color
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.voc import VOC

PALETTE = [voc_color(index) for index in range(256)]


def listed(folder: Path, **lists: str) -> Path:
    """VOC with palette masks of background, aeroplane, sofa and the void border, and lists of names."""
    for name in {name for text in lists.values() for name in text.split()}:
        image(folder / "JPEGImages" / f"{name}.jpg")
        palette_mask(folder / "SegmentationClass" / f"{name}.png", PALETTE, 0, 1, 18, 255)
        palette_mask(folder / "SegmentationObject" / f"{name}.png", PALETTE, 0, 1, 2, 255)
    for split, text in lists.items():
        write(folder / "ImageSets" / "Segmentation" / f"{split}.txt", text.replace(" ", "\n") + "\n")
    return folder


def exported(folder: Path, *names: str, labelmap: str = "background:0,0,0::\nfig:250,50,83::\n") -> Path:
    """CVAT's Segmentation mask 1.1 of one task."""
    for name in names:
        image(folder / "JPEGImages" / f"{name}.png")
        color_mask(folder / "SegmentationClass" / f"{name}.png", (0, 0, 0), (250, 50, 83))
    lines = "".join(f'"{name}"\n' if " " in name else f"{name}\n" for name in names)
    write(folder / "ImageSets" / "Segmentation" / "default.txt", lines)
    write(folder / "labelmap.txt", "# label:color_rgb:parts:actions\n" + labelmap)
    return folder


class TestPascal:
    def test_palette_is_the_benchmarks(self) -> None:
        known = {0: (0, 0, 0), 1: (128, 0, 0), 5: (128, 0, 128), 15: (192, 128, 128), 20: (0, 64, 128)}
        assert {index: voc_color(index) for index in known} == known
        assert voc_color(255) == (224, 224, 192)

    def test_classes_of_pascal_voc_are_the_default_with_a_note(self, tmp_path: Path) -> None:
        dataset = opened(listed(tmp_path, train="a b", val="c"))
        assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}
        assert dataset.layout == "Pascal VOC (JPEGImages, SegmentationClass)"
        assert dataset.classes.names == tuple(label.name for label in VOC if not label.ignored)
        assert len(dataset.classes) == 21
        assert first_row(dataset) == [0, 1, 18, 255]
        assert has_note(dataset, "Pascal VOC's classes are used")

    def test_trainval_is_not_read_next_to_train_and_val(self, tmp_path: Path) -> None:
        assert ids(opened(listed(tmp_path, train="a b", val="c", trainval="a b c"))) == {
            "train": ["a", "b"],
            "val": ["c"],
        }

    def test_union_serves_for_training_where_it_is_alone(self, tmp_path: Path) -> None:
        dataset = opened(listed(tmp_path, trainval="a b c d e"))
        assert (len(dataset.split("train")), len(dataset.split("val"))) == (4, 1)

    def test_lists_can_be_named(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a", trainval="a b", val="c")
        dataset = opened(write(tmp_path / "d.yaml", "train: trainval\nval: val"))
        assert ids(dataset) == {"train": ["a", "b"], "val": ["c"]}

    def test_test_list_is_used_where_it_has_masks_and_left_out_with_a_note_where_not(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a", val="b", test="c")
        assert ids(opened(tmp_path))["test"] == ["c"]
        (tmp_path / "SegmentationClass" / "c.png").unlink()
        dataset = opened(tmp_path)
        assert "test" not in dataset.splits
        assert has_note(dataset, "test.txt", "no masks")

    def test_names_in_two_lists_are_all_named_and_stay_in_the_first(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a b c", val="b d c")
        dataset, found = open_with_defects(tmp_path, DataConfig())
        assert ids(dataset) == {"train": ["a", "b", "c"], "val": ["d"]}
        assert [(defect.kind, defect.file.name) for defect in found] == [(DefectKind.LEAK, "val.txt")] * 2
        with pytest.raises(DataError, match=r"val\.txt: names 'b', and so does train\.txt; take it out of one list"):
            opened(tmp_path)

    def test_names_without_files_are_refused(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a b x y", val="c")
        for name in ("x", "y"):
            (tmp_path / "SegmentationClass" / f"{name}.png").unlink()
        (tmp_path / "JPEGImages" / "y.jpg").unlink()
        with pytest.raises(DataError) as caught:
            opened(tmp_path)
        assert "image without a mask (1): JPEGImages/x.jpg" in str(caught.value)
        assert "missing file or folder (1): ImageSets/Segmentation/train.txt" in str(caught.value)

    def test_masks_in_no_list_are_announced(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a b", val="c")
        mask(tmp_path / "SegmentationClass" / "d.png", 0)
        assert has_note(opened(tmp_path), "1 masks in", "in none of the lists")

    def test_empty_list_is_refused(self, tmp_path: Path) -> None:
        write(listed(tmp_path, val="c") / "ImageSets" / "Segmentation" / "train.txt", "\n")
        with pytest.raises(DataError, match=r"train\.txt: contains no names"):
            opened(tmp_path)

    def test_images_of_other_tasks_are_left_out_with_a_note_without_lists(self, tmp_path: Path) -> None:
        for name in ("a", "b", "c"):
            image(tmp_path / "JPEGImages" / f"{name}.jpg")
        for name in ("a", "b"):
            palette_mask(tmp_path / "SegmentationClass" / f"{name}.png", PALETTE, 0, 1)
        dataset = opened(tmp_path)
        assert len(dataset.split("train")) == len(dataset.split("val")) == 1
        assert has_note(dataset, "every image with a mask is used (2 of 3)")

    def test_devkit_is_entered_with_a_note(self, tmp_path: Path) -> None:
        listed(tmp_path / "VOCdevkit" / "VOC2012", train="a", val="b")
        assert has_note(opened(tmp_path), "the dataset is in", "VOCdevkit/VOC2012")

    def test_boxes_alone_are_named(self, tmp_path: Path) -> None:
        image(tmp_path / "JPEGImages" / "a.jpg")
        write(tmp_path / "ImageSets" / "Main" / "train.txt", "a\n")
        with pytest.raises(DataError, match="ImageSets are there but no SegmentationClass: boxes are not masks"):
            opened(tmp_path)

    def test_classes_can_be_chosen_by_name(self, tmp_path: Path) -> None:
        listed(tmp_path, train="a", val="b")
        text = "classes:\n- {name: nothing, from: background}\n- {name: thing, from: [aeroplane, sofa]}\nignore: '*'"
        assert first_row(opened(write(tmp_path / "d.yaml", text))) == [0, 1, 1, 255]


class TestCvat:
    def test_colours_of_the_labelmap_are_the_classes(self, tmp_path: Path) -> None:
        dataset = opened(exported(tmp_path, "a", "my image", "deep/c", "d", "e"))
        assert dataset.classes.names == ("background", "fig")
        assert dataset.classes.colors[1] == (250, 50, 83)
        assert all_ids(dataset) == ["a", "d", "deep/c", "e", "my image"]
        assert labels(dataset) == [0, 1]

    def test_palette_masks_are_read_by_their_colours_whatever_their_order(self, tmp_path: Path) -> None:
        exported(tmp_path, "a", "b")
        for name in ("a", "b"):
            palette_mask(tmp_path / "SegmentationClass" / f"{name}.png", [(250, 50, 83), (0, 0, 0)], 0, 1, 1, 1)
        assert first_row(opened(tmp_path)) == [1, 0, 0, 0]

    @pytest.mark.parametrize("palette", [[(0, 0, 0), (250, 50, 83)], [(1, 1, 1), (2, 2, 2)]])
    def test_palette_masks_of_indices_are_read_by_them(
        self, tmp_path: Path, palette: list[tuple[int, int, int]]
    ) -> None:
        exported(tmp_path, "a", "b")
        for name in ("a", "b"):
            palette_mask(tmp_path / "SegmentationClass" / f"{name}.png", palette, 0, 1, 1, 1)
        assert first_row(opened(tmp_path)) == [0, 1, 1, 1]

    def test_index_masks_are_read_by_the_lines_of_the_labelmap(self, tmp_path: Path) -> None:
        exported(tmp_path, "a", "b", labelmap="background:0,0,0::\nfig:250,50,83::\ndate:1,2,3::\n")
        for name in ("a", "b"):
            mask(tmp_path / "SegmentationClass" / f"{name}.png", 0, 1, 2, 255)
        dataset = opened(tmp_path)
        assert first_row(dataset) == [0, 1, 2, 255]
        assert has_note(dataset, "background 0, fig 1, date 2; ignored: 255")

    def test_frames_without_labels_are_left_out_with_a_note(self, tmp_path: Path) -> None:
        exported(tmp_path, "a", "b", "c")
        (tmp_path / "SegmentationClass" / "c.png").unlink()
        dataset = opened(tmp_path)
        assert "c" not in {name for names in ids(dataset).values() for name in names}
        assert has_note(dataset, "1 of the 3 images in default.txt have no mask and were left out: CVAT writes none")

    def test_subsets_of_a_project_are_splits(self, tmp_path: Path) -> None:
        exported(tmp_path, "a", "b")
        (tmp_path / "ImageSets" / "Segmentation" / "default.txt").unlink()
        write(tmp_path / "ImageSets" / "Segmentation" / "Train.txt", "a\n")
        write(tmp_path / "ImageSets" / "Segmentation" / "Validation.txt", "b\n")
        assert ids(opened(tmp_path)) == {"train": ["a"], "val": ["b"]}

    def test_export_without_images_says_what_to_do(self, tmp_path: Path) -> None:
        exported(tmp_path, "a")
        (tmp_path / "JPEGImages" / "a.png").unlink()
        (tmp_path / "JPEGImages").rmdir()
        with pytest.raises(
            DataError, match="SegmentationClass is there but no JPEGImages: CVAT exports images only if"
        ):
            opened(tmp_path)

    def test_images_can_lie_in_a_folder_called_images(self, tmp_path: Path) -> None:
        exported(tmp_path, "a", "b")
        (tmp_path / "JPEGImages").rename(tmp_path / "images")
        assert opened(tmp_path).layout == "Pascal VOC (images, SegmentationClass)"


def test_labelme2voc_is_read_by_its_class_names(tmp_path: Path) -> None:
    for name in ("a", "b"):
        image(tmp_path / "JPEGImages" / f"{name}.jpg")
        palette_mask(tmp_path / "SegmentationClassPNG" / f"{name}.png", PALETTE, 0, 1, 2, 255)
        image(tmp_path / "SegmentationClassVisualization" / f"{name}.jpg")
    (tmp_path / "SegmentationClass").mkdir()
    np.save(tmp_path / "SegmentationClass" / "a.npy", np.zeros((3, 4), np.int32))
    write(tmp_path / "class_names.txt", "_background_\ndate\nfig")
    dataset = opened(tmp_path)
    assert dataset.classes.names == ("background", "date", "fig")
    assert first_row(dataset) == [0, 1, 2, 255]


def test_rgb_masks_of_pascals_colours_are_read_by_them(tmp_path: Path) -> None:
    listed(tmp_path, train="a", val="b")
    for name in ("a", "b"):
        with Image.open(tmp_path / "SegmentationClass" / f"{name}.png") as made:
            made.convert("RGB").save(tmp_path / "SegmentationClass" / f"{name}.png")
    assert first_row(opened(tmp_path)) == [0, 1, 18, 255]
