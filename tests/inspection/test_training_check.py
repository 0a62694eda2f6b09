from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pytest
from PIL import Image

from made_files import image, opened, palette_mask, write
from made_records import dataset, record, several
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import Dataset, Record
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

T = TypeVar("T")


@dataclass(frozen=True)
class Shifted:
    """A custom mask source: the values of the file plus a number."""

    more: int = 0

    def read(self, record: Record) -> np.ndarray:
        return np.asarray(Image.open(str(record.mask))) + np.uint8(self.more)


@dataclass(frozen=True)
class Given:
    """A custom mask source that always returns the same."""

    answer: Any

    def read(self, record: Record) -> Any:
        return self.answer


def test_counts_equal_a_loop(tmp_path: Path) -> None:
    train, val = several(tmp_path, 7), several(tmp_path, 4, seed=1)
    summary = check_dataset(dataset(train, val))
    for split, records in (("train", train), ("val", val)):
        pixels, presence, presence_pixels, ignored = [0] * 4, [0] * 4, [0] * 4, 0
        for item in records:
            values = np.asarray(Image.open(str(item.mask))).ravel().tolist()
            ignored += values.count(IGNORE)
            for index in range(4):
                pixels[index] += values.count(index)
                if index in values:
                    presence[index] += 1
                    presence_pixels[index] += len(values) - values.count(IGNORE)
        found = summary.splits[split]
        assert found.images == len(records)
        assert list(found.pixels) == pixels
        assert list(found.presence) == presence
        assert list(found.presence_pixels) == presence_pixels
        assert found.ignored == ignored
    assert summary.splits["train"].dtypes == ("uint8",)


@pytest.mark.parametrize("void", ["train", "val"])
def test_a_split_without_a_labelled_pixel_is_refused(tmp_path: Path, void: str) -> None:
    made = {split: several(tmp_path, 2, seed=seed) for seed, split in enumerate(("train", "val"))}
    made[void] = [record(tmp_path, f"void{index}", np.full((2, 3), IGNORE)) for index in range(2)]
    with pytest.raises(DataError, match=f"no pixel of split '{void}' has a class: all 12 pixels of its 2 masks are"):
        check_dataset(dataset(made["train"], made["val"]))


def test_single_defect_is_raised_unchanged(tmp_path: Path) -> None:
    records = [*several(tmp_path, 3), record(tmp_path, "bad", np.full((2, 2), 34))]
    with pytest.raises(
        DataError, match=r"bad_mask\.png: mask value 34 \(4 pixels\) is not a known class \(known: 0-3; ignored:"
    ):
        check_dataset(dataset(records), splits=["train"])


def test_unknown_values_are_added_up_over_all_masks(tmp_path: Path) -> None:
    records = several(tmp_path, 3)
    records += [record(tmp_path, f"bad{index}", np.array([[0, 34, 34, 40 + index % 2]])) for index in range(6)]
    expected = (
        r"records: 6 defects in 9 images: mask values that are not known classes: 34 \(12 pixels in 6 masks\), "
        r"40 \(3 pixels in 3 masks\), 41 \(3 pixels in 3 masks\), in .*bad0_mask\.png, .*bad1_mask\.png, "
        r".*bad2_mask\.png and 3 more \(known: 0-3; ignored: 255\); add them"
    )
    with pytest.raises(DataError, match=expected):
        check_dataset(dataset(records), splits=["train"])


def test_a_mask_of_unknown_values_and_another_size_has_both_defects(tmp_path: Path) -> None:
    records = [*several(tmp_path, 3), record(tmp_path, "bad", np.full((2, 2), 34), size=(5, 6))]
    expected = (
        r"records: 2 defects in 4 images: mask values that are not known classes: 34 \(4 pixels in 1 masks\), in "
        r".*bad_mask\.png \(.*bad_mask\.png: the mask is 2 x 2 pixels \(height x width\), but its image .* is 5 x 6"
    )
    with pytest.raises(DataError, match=expected):
        check_dataset(dataset(records), splits=["train"])


def test_unknown_labels_of_a_custom_source_are_refused(tmp_path: Path) -> None:
    records = [*several(tmp_path, 3, values=(0, 1, 1)), record(tmp_path, "bad", np.array([[0, 198, 198, 252, 253]]))]
    made = replace(dataset(records), masks=Shifted(2))
    expected = (
        r"bad_mask\.png: Shifted\.read returns unknown labels: 200 \(2 pixels\), 254 \(1 pixels\); it must "
        r"return class ids \(0-3\), or 255 for pixels to ignore"
    )
    with pytest.raises(DataError, match=expected):
        check_dataset(made, splits=["train"])


@pytest.mark.parametrize(
    ("answer", "words"),
    [
        (np.zeros((2, 3), np.int64), r"int64 of shape \(2, 3\)"),
        (np.zeros((2, 3, 1), np.uint8), r"uint8 of shape \(2, 3, 1\)"),
        ([[0, 1, 2], [0, 1, 2]], "list"),
    ],
)
def test_labels_of_wrong_type_are_refused(tmp_path: Path, answer: object, words: str) -> None:
    made = replace(dataset([record(tmp_path, "a", np.zeros((2, 3)))]), masks=Given(answer))
    with pytest.raises(
        DataError, match=rf"a_mask\.png: Given\.read returns {words}; it must return labels as a NumPy array"
    ):
        check_dataset(made, splits=["train"])
    with pytest.raises(DataError, match="labels as a NumPy array"):
        read_pair(made.split("train")[0], made.masks, channels=3)


def test_all_defects_are_counted_and_the_first_few_named(tmp_path: Path) -> None:
    records = several(tmp_path, 2)
    records += [record(tmp_path, f"size{index}", np.zeros((4, 6)), size=(5, 6)) for index in range(23)]
    with pytest.raises(DataError) as caught:
        check_dataset(dataset(records), splits=["train"])
    message = str(caught.value)
    assert "23 defects in 25 images" in message
    assert "size0_mask.png: the mask is 4 x 6 pixels (height x width), but its image" in message
    assert message.endswith("... and 20 more")


def test_defects_of_different_kinds_are_in_one_message(tmp_path: Path) -> None:
    good, stray, damaged, absent = (record(tmp_path, name, np.zeros((3, 3))) for name in ("g", "s", "d", "a"))
    assert stray.mask and absent.mask
    Image.fromarray(np.full((3, 3), 9, np.uint8)).save(stray.mask)
    damaged.image.write_bytes(damaged.image.read_bytes()[:9])
    absent.mask.unlink()
    with pytest.raises(DataError) as caught:
        check_dataset(dataset([good, stray, damaged, absent]), splits=["train"])
    message = str(caught.value)
    assert "3 defects in 4 images" in message
    assert "9 (9 pixels in 1 masks)" in message
    assert "d.jpg: cannot be read as an image" in message
    assert "a_mask.png: no such file" in message


def test_image_turned_by_exif_with_an_unturned_mask_is_explained(tmp_path: Path) -> None:
    made = record(tmp_path, "turned", np.zeros((4, 6)))
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (6, 4)).save(made.image, exif=exif)
    with pytest.raises(DataError, match=r"is 6 x 4; the image is turned by its EXIF orientation 6"):
        check_dataset(dataset([made]), splits=["train"])


def test_classes_absent_from_train_are_noted(tmp_path: Path) -> None:
    made = dataset(several(tmp_path, 6, values=(0, 1, IGNORE)), several(tmp_path, 3, seed=1))
    note, val, ignored = check_dataset(made).notes
    assert "all pixels of 2 masks are ignored" in ignored
    assert "classes without a pixel in split train: 'c', 'd'; add images" in note
    assert "in split val" in val
    assert check_dataset(dataset(several(tmp_path, 6, values=(0, 1, 2, 3))), splits=["train"]).notes == ()


def test_single_class_among_several_is_refused(tmp_path: Path) -> None:
    records = [record(tmp_path, "a", np.array([[0, 0, 255]]))]
    with pytest.raises(DataError, match=r"is of class 'a', none is of 'b', 'c', 'd', so there is nothing to learn"):
        check_dataset(dataset(records), splits=["train"])


@pytest.mark.parametrize(("tag", "own", "notes"), [(3, 1, 1), (3, 3, 0), (1, 3, 1), (2, 4, 1), (1, 1, 0)])
def test_orientation_that_sizes_do_not_show_is_noted(tmp_path: Path, tag: int, own: int, notes: int) -> None:
    made = record(tmp_path, "turned", np.array([[0, 1, 2, 3]]))
    assert made.mask is not None
    for file, orientation in ((made.image, tag), (made.mask, own)):
        exif = Image.Exif()
        exif[0x0112] = orientation
        Image.open(file).save(file, exif=exif)
    found = check_dataset(dataset([made]), splits=["train"]).notes
    assert len(found) == notes
    assert all(str(tmp_path / "turned") in note for note in found)


class TestPalettes:
    """Masks whose palettes give index 1 different colours."""

    RED, GREEN, GREYS = [(0, 0, 0), (9, 0, 0)], [(0, 0, 0), (0, 9, 0)], [(level,) * 3 for level in range(9)]

    def opened(self, folder: Path, *palettes: list[tuple[int, int, int]], **settings: Any) -> Dataset:
        for number, palette in enumerate(palettes):
            image(folder / "images" / f"{number}.jpg")
            palette_mask(folder / "masks" / f"{number}.png", palette, 0, 1)
        return opened(folder, **settings)

    @pytest.mark.parametrize("settings", [{}, {"classes": ["a", "b"]}])
    def test_an_index_of_two_colours_is_refused(self, tmp_path: Path, settings: dict[str, Any]) -> None:
        made = self.opened(tmp_path, self.RED, self.RED, self.GREEN, **settings)
        with pytest.raises(
            DataError, match=r"index 1 is \[9, 0, 0\] in .*\.png and \[0, 9, 0\] in .*2\.png; if colours"
        ):
            check_dataset(made, splits=made.splits)
        unclear = [defect.kind for defect in inspect_dataset(tmp_path, data=DataConfig(**settings)).defects]
        assert DefectKind.UNCLEAR_CLASSES in unclear

    @pytest.mark.parametrize("palette", [GREYS, [*RED, (0, 0, 0), (0, 0, 0)], [*RED, (0, 9, 0)], [(0, 0, 0)] * 256])
    def test_palettes_may_differ_in_unused_or_meaningless_entries(
        self, tmp_path: Path, palette: list[tuple[int, int, int]]
    ) -> None:
        made = self.opened(tmp_path, self.RED, self.RED, palette)
        assert check_dataset(made, splits=made.splits).splits

    def test_palettes_may_differ_if_class_values_are_given(self, tmp_path: Path) -> None:
        self.opened(tmp_path, self.RED, self.RED, self.GREEN)
        made = opened(write(tmp_path / "data.yaml", "classes: {a: 0, b: 1}"))
        assert check_dataset(made, splits=made.splits).splits


def test_missing_channels_are_found(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="has 3 channels, but 4 are requested"):
        check_dataset(dataset(several(tmp_path, 1)), splits=["train"], channels=4)


def test_mixed_bit_depths_are_refused(tmp_path: Path) -> None:
    records = several(tmp_path, 2)
    deep = record(tmp_path, "deep", np.zeros((3, 3)))
    Image.fromarray(np.zeros((3, 3), np.uint16)).save(deep.image, format="PNG")
    with pytest.raises(
        DataError, match=r"deep\.jpg: has uint16 values, but most images have uint8; they cannot be mixed"
    ):
        check_dataset(dataset([*records, deep]), splits=["train"])


def test_repeated_id_is_refused(tmp_path: Path) -> None:
    made = record(tmp_path, "twin", np.zeros((3, 3)))
    with pytest.raises(DataError, match=r"twin\.jpg: has the id 'twin' of another image of split 'train'"):
        check_dataset(dataset([made, made]), splits=["train"])


def test_empty_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no images in split 'val'"):
        check_dataset(dataset(several(tmp_path, 1)))


def test_fingerprint_depends_on_content_and_not_on_the_folder(tmp_path: Path) -> None:
    marks = []
    for folder, width in (("one", 5), ("two", 5), ("three", 50)):
        (tmp_path / folder).mkdir()
        made = record(tmp_path / folder, "a", np.arange(2 * width).reshape(2, width) % 4)
        marks.append(check_dataset(dataset([made]), splits=["train"]).fingerprint)
    assert marks[0] == marks[1] != marks[2]


def test_read_pair_gives_image_and_labels_of_one_size(tmp_path: Path) -> None:
    made = record(tmp_path, "a", np.array([[0, 1, 2], [3, 255, 0]]))
    image, labels = read_pair(made, dataset([made]).masks, channels=1)
    assert image.shape == (2, 3, 1)
    assert labels.tolist() == [[0, 1, 2], [3, 255, 0]]


def test_read_pair_refuses_different_sizes(tmp_path: Path) -> None:
    made = record(tmp_path, "a", np.zeros((4, 5)), size=(8, 9))
    with pytest.raises(DataError, match=r"a_mask\.png: the mask is 4 x 5 .*a\.jpg is 8 x 9; export the mask"):
        read_pair(made, dataset([made]).masks, channels=3)
