import pickle
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from made_files import save
from pyramidseg.base.classes import IGNORE
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.class_masks import ClassMasks, UnknownValuesError
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import Record


@given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16]))
@settings(max_examples=60, deadline=None)
def test_lookup_equals_a_loop(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: type) -> None:
    value = st.integers(0, np.iinfo(dtype).max)
    known = data.draw(st.lists(value, unique=True, min_size=1, max_size=12))
    ids = {known[index]: index for index in range(len(known))}
    ignored = data.draw(st.sets(value.filter(lambda number: number not in ids), max_size=4))
    allowed = [*ids, *ignored]
    stray = data.draw(st.none() | value)
    pixels = data.draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=30)) + ([] if stray is None else [stray])
    record = save(tmp_path_factory.getbasetemp() / "mask.png", np.array([pixels], dtype))
    masks = ClassMasks.from_values(ids, ignore=ignored)
    unknown = Counter(pixel for pixel in pixels if pixel not in {*allowed, IGNORE})
    if unknown:
        with pytest.raises(UnknownValuesError) as caught:
            masks.read(record)
        assert caught.value.pixels == dict(unknown)
    else:
        labels = masks.read(record)
        assert labels.dtype == np.uint8
        assert labels.tolist() == [[ids.get(pixel, IGNORE) for pixel in pixels]]


def test_plain_takes_values_as_ids_and_ignores_255(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.array([[0, 1, 2, 255, 9]], np.uint8))
    assert ClassMasks.identity(3, ignore=[9]).read(record).tolist() == [[0, 1, 2, 255, 255]]


def test_255_can_be_a_class(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.array([[0, 255, 3]], np.uint8))
    assert ClassMasks.from_values({0: 0, 255: 1}, ignore=(3, 4)).read(record).tolist() == [[0, 1, IGNORE]]


def test_all_255_classes_have_room(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.arange(256, dtype=np.uint8)[None])
    assert ClassMasks.identity(255).read(record)[0].tolist() == list(range(256))


def test_unknown_value_names_file_value_pixels_and_what_is_known(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.array([[0, 34, 34]], np.uint8))
    message = (
        f"{record.mask}: mask value 34 (2 pixels) is not a known class (known: 0-18; ignored: 255); "
        "add it to classes, or list it under ignore"
    )
    with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
        ClassMasks.identity(19).read(record)


def test_many_unknown_values_are_counted(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.arange(20, dtype=np.uint8)[None])
    with pytest.raises(DataError, match=r"values 2 \(1 pixels\), 3 .* and 10 more are not known classes"):
        ClassMasks.identity(2).read(record)


@pytest.mark.parametrize(("dtype", "stray"), [(np.uint8, 34), (np.uint16, 60000)])
def test_a_mask_with_an_unknown_value_is_read_once(tmp_path: Path, dtype: type, stray: int) -> None:
    class Counted(IndexValues):
        reads = 0

        def read(self, record: Record) -> np.ndarray:
            type(self).reads += 1
            return super().read(record)

    record = save(tmp_path / "a.png", np.array([[0, stray, stray]], dtype))
    with pytest.raises(UnknownValuesError) as caught:
        ClassMasks.from_values({0: 0}, values=Counted()).read(record)
    assert caught.value.pixels == {stray: 2} and Counted.reads == 1


def test_record_without_a_mask_is_named() -> None:
    with pytest.raises(DataError, match=r"a\.jpg: has no mask"):
        ClassMasks.identity(2).read(Record("a", Path("a.jpg")))


def test_value_cannot_be_class_and_ignored() -> None:
    with pytest.raises(DataError, match="mask value 1 is both a class and ignored"):
        ClassMasks.identity(3, ignore=[1])


@pytest.mark.parametrize("ids", [{-1: 0}, {2**24 + 1: 0}, {0: 255}, {0: -1}])
def test_impossible_values_and_ids_are_refused(ids: dict[int, int]) -> None:
    with pytest.raises(DataError, match=r"is not between 0 and|but only 0 to 254 are supported"):
        ClassMasks.from_values(ids)


def test_pickles_small_and_equal_after_use(tmp_path: Path) -> None:
    masks = ClassMasks.identity(19, ignore=[30])
    masks.read(save(tmp_path / "a.png", np.zeros((2, 2), np.uint8)))
    content = pickle.dumps(masks)
    assert len(content) < 2000
    assert pickle.loads(content) == masks


def test_error_survives_pickling(tmp_path: Path) -> None:
    error = UnknownValuesError(tmp_path / "a.png", pixels={3: 4}, known="known 0")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.pixels) == (str(error), {3: 4})


def test_all_that_is_not_named_can_be_ignored(tmp_path: Path) -> None:
    record = save(tmp_path / "a.png", np.array([[0, 7, 300, 65535]], np.uint16))
    assert ClassMasks.from_values({0: 0, 300: 1}, ignore_unlisted=True).read(record).tolist() == [
        [0, IGNORE, 1, IGNORE]
    ]


class TestResize:
    def sized(self, folder: Path, labels: np.ndarray, *, height: int, width: int) -> Record:
        Image.new("RGB", (width, height)).save(folder / "a.jpg")
        return save(folder / "a.png", labels)

    @pytest.mark.parametrize(("height", "width"), [(9, 12), (6, 8), (2, 3), (30, 41)])
    def test_labels_are_the_nearest_ones(self, tmp_path: Path, height: int, width: int) -> None:
        values = np.arange(12, dtype=np.uint8).reshape(3, 4)
        record = self.sized(tmp_path, values, height=height, width=width)
        found = ClassMasks(tuple((value, value) for value in range(12)), resize=True).read(record)
        rows = ((np.arange(height) + 0.5) * 3 / height).astype(int)
        columns = ((np.arange(width) + 0.5) * 4 / width).astype(int)
        assert np.array_equal(found, values[rows][:, columns])

    @pytest.mark.parametrize(("height", "width"), [(3, 8), (9, 9), (8, 6)])
    def test_mask_of_another_shape_is_refused(self, tmp_path: Path, height: int, width: int) -> None:
        record = self.sized(tmp_path, np.zeros((30, 40), np.uint8), height=10 * height, width=10 * width)
        with pytest.raises(DefectError, match=r"a\.png: the mask is 30 x 40 .* (export|rotate) the mask") as caught:
            ClassMasks(((0, 0),), resize=True).read(record)
        assert caught.value.defect.kind is DefectKind.SIZE_DIFFERS
        assert "resize_masks" not in str(caught.value)

    @pytest.mark.parametrize("scale", [1, 2])
    def test_unturned_mask_of_a_turned_image_is_not_resized_away(self, tmp_path: Path, scale: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (8 * scale, 6 * scale)).save(tmp_path / "a.jpg", exif=exif)
        record = save(tmp_path / "a.png", np.zeros((6, 8), np.uint8))
        with pytest.raises(DefectError, match=r"the image is turned by its EXIF orientation 6") as caught:
            ClassMasks(((0, 0),), resize=True).read(record)
        assert caught.value.defect.kind is DefectKind.EXIF_TURNED

    def test_size_stays_without_consent(self, tmp_path: Path) -> None:
        record = self.sized(tmp_path, np.zeros((3, 4), np.uint8), height=6, width=8)
        assert ClassMasks.identity(1).read(record).shape == (3, 4)

    def test_turned_image_counts_by_its_turned_size(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6
        Image.new("RGB", (8, 6)).save(tmp_path / "a.jpg", exif=exif)
        record = save(tmp_path / "a.png", np.zeros((4, 3), np.uint8))
        assert ClassMasks(((0, 0),), resize=True).read(record).shape == (8, 6)
