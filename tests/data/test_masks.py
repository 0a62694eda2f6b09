import pickle
import re
import struct
import zlib
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image

from pyramidseg.classes import IGNORE
from pyramidseg.data.masks.class_masks import ClassMasks, UnknownValues
from pyramidseg.data.masks.index import in_ranges, read_mask_values
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError


def save(path: Path, values: NDArray[Any]) -> Record:
    Image.fromarray(values).save(path)
    return Record(path.stem, path.with_suffix(".jpg"), path)


class TestReadMaskValues:
    @pytest.mark.parametrize(
        ("dtype", "suffix", "high"), [(np.uint8, "png", 255), (np.uint16, "png", 65535), (np.uint16, "tif", 65535)]
    )
    def test_integers_come_back(
        self, tmp_path: Path, dtype: type[np.unsignedinteger[Any]], suffix: str, high: int
    ) -> None:
        values = np.random.default_rng(0).integers(0, high, (7, 5), endpoint=True).astype(dtype)
        save(tmp_path / f"a.{suffix}", values)
        read = read_mask_values(tmp_path / f"a.{suffix}")
        assert read.dtype == np.dtype(dtype)
        assert np.array_equal(read, values)

    def test_integers_of_32_bits_come_back_as_16(self, tmp_path: Path) -> None:
        save(tmp_path / "a.tif", np.array([[0, 40000]], np.int32))
        assert read_mask_values(tmp_path / "a.tif").tolist() == [[0, 40000]]

    def test_palette_is_read_by_its_indices(self, tmp_path: Path) -> None:
        made = Image.fromarray(np.array([[2, 0, 1]], np.uint8)).convert("P")
        made.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
        made.save(tmp_path / "a.png")
        assert read_mask_values(tmp_path / "a.png").tolist() == [[2, 0, 1]]

    @pytest.mark.parametrize("bits", [1, 2, 4])
    def test_few_bits_are_read_as_stored(self, tmp_path: Path, bits: int) -> None:
        values = [index % 2**bits for index in range(8)]
        (tmp_path / "a.png").write_bytes(grey_png(values, bits))
        assert read_mask_values(tmp_path / "a.png").tolist() == [values]

    def test_mask_is_turned_by_its_own_tag(self, tmp_path: Path) -> None:
        exif = Image.Exif()
        exif[0x0112] = 6  # to be turned clockwise
        Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8)).save(tmp_path / "a.png", exif=exif)
        assert read_mask_values(tmp_path / "a.png").tolist() == [[2, 0], [3, 1]]

    def test_jpeg_is_refused_whatever_its_name(self, tmp_path: Path) -> None:
        Image.new("L", (4, 4)).save(tmp_path / "a.png", format="JPEG")
        with pytest.raises(DataError, match=r"a\.png: a JPEG file cannot be an exact mask"):
            read_mask_values(tmp_path / "a.png")

    @pytest.mark.parametrize(
        ("mode", "color", "message"),
        [
            ("RGB", (1, 2, 1), "holds colours, and which class each of them is has not been said"),
            ("RGBA", (1, 1, 1, 128), "transparent pixels"),
            ("LA", (1, 1), "this file holds LA pixels"),
        ],
    )
    def test_colours_are_refused(self, tmp_path: Path, mode: str, color: tuple[int, ...], message: str) -> None:
        Image.new(mode, (4, 4), color).save(tmp_path / "a.png")
        with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
            read_mask_values(tmp_path / "a.png")

    def test_grey_saved_as_colours_is_grey(self, tmp_path: Path) -> None:
        Image.new("RGB", (4, 4), (7, 7, 7)).save(tmp_path / "a.png")
        assert np.unique(read_mask_values(tmp_path / "a.png")).tolist() == [7]

    @pytest.mark.parametrize("value", [-1, 65536])
    def test_values_beyond_16_bits_are_refused(self, tmp_path: Path, value: int) -> None:
        save(tmp_path / "a.tif", np.array([[0, value]], np.int32))
        with pytest.raises(DataError, match=rf"a\.tif: mask values from .*{value}"):
            read_mask_values(tmp_path / "a.tif")


class TestClassMasks:
    @given(data=st.data(), dtype=st.sampled_from([np.uint8, np.uint16]))
    @settings(max_examples=60, deadline=None)
    def test_lookup_equals_a_loop(
        self, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject, dtype: type
    ) -> None:
        value = st.integers(0, np.iinfo(dtype).max)
        known = data.draw(st.lists(value, unique=True, min_size=1, max_size=12))
        ids = {known[index]: index for index in range(len(known))}
        ignored = data.draw(st.sets(value.filter(lambda number: number not in ids), max_size=4))
        allowed = [*ids, *ignored]
        stray = data.draw(st.none() | value)
        pixels = data.draw(st.lists(st.sampled_from(allowed), min_size=1, max_size=30)) + (
            [] if stray is None else [stray]
        )
        record = save(tmp_path_factory.getbasetemp() / "mask.png", np.array([pixels], dtype))
        masks = ClassMasks.of_values(ids, ignore=ignored)
        unknown = Counter(pixel for pixel in pixels if pixel not in {*allowed, IGNORE})
        if unknown:
            with pytest.raises(UnknownValues) as caught:
                masks.read(record)
            assert caught.value.pixels == dict(unknown)
        else:
            labels = masks.read(record)
            assert labels.dtype == np.uint8
            assert labels.tolist() == [[ids.get(pixel, IGNORE) for pixel in pixels]]

    def test_plain_takes_values_as_ids_and_ignores_255(self, tmp_path: Path) -> None:
        record = save(tmp_path / "a.png", np.array([[0, 1, 2, 255, 9]], np.uint8))
        assert ClassMasks.plain(3, ignore=[9]).read(record).tolist() == [[0, 1, 2, 255, 255]]

    def test_255_can_be_a_class(self, tmp_path: Path) -> None:
        record = save(tmp_path / "a.png", np.array([[0, 255, 3]], np.uint8))
        assert ClassMasks.of_values({0: 0, 255: 1}, ignore=(3, 4)).read(record).tolist() == [[0, 1, IGNORE]]

    def test_all_255_classes_have_room(self, tmp_path: Path) -> None:
        record = save(tmp_path / "a.png", np.arange(256, dtype=np.uint8)[None])
        assert ClassMasks.plain(255).read(record)[0].tolist() == list(range(256))

    def test_unknown_value_names_file_value_pixels_and_what_is_known(self, tmp_path: Path) -> None:
        record = save(tmp_path / "a.png", np.array([[0, 34, 34]], np.uint8))
        message = (
            f"{record.mask}: mask value 34 (2 pixels) is no class of this dataset (known 0-18, ignored 255); "
            "name such values under classes, or list them under ignore"
        )
        with pytest.raises(DataError, match=f"^{re.escape(message)}$"):
            ClassMasks.plain(19).read(record)

    def test_many_unknown_values_are_counted(self, tmp_path: Path) -> None:
        record = save(tmp_path / "a.png", np.arange(20, dtype=np.uint8)[None])
        with pytest.raises(DataError, match=r"values 2 \(1 pixels\), 3 .* and 10 more are no classes"):
            ClassMasks.plain(2).read(record)

    def test_record_without_a_mask_is_named(self) -> None:
        with pytest.raises(DataError, match=r"a\.jpg: has no mask"):
            ClassMasks.plain(2).read(Record("a", Path("a.jpg")))

    def test_value_cannot_be_class_and_ignored(self) -> None:
        with pytest.raises(DataError, match="mask value 1 is a class and ignored at once"):
            ClassMasks.plain(3, ignore=[1])

    @pytest.mark.parametrize("ids", [{-1: 0}, {2**24: 0}, {0: 255}, {0: -1}])
    def test_impossible_values_and_ids_are_refused(self, ids: dict[int, int]) -> None:
        with pytest.raises(DataError, match="are possible"):
            ClassMasks.of_values(ids)

    def test_pickles_small_and_equal_after_use(self, tmp_path: Path) -> None:
        masks = ClassMasks.plain(19, ignore=[30])
        masks.read(save(tmp_path / "a.png", np.zeros((2, 2), np.uint8)))
        content = pickle.dumps(masks)
        assert len(content) < 2000
        assert pickle.loads(content) == masks

    def test_error_survives_pickling(self, tmp_path: Path) -> None:
        error = UnknownValues(tmp_path / "a.png", pixels={3: 4}, known="known 0")
        again = pickle.loads(pickle.dumps(error))
        assert (str(again), again.pixels) == (str(error), {3: 4})


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_the_values(values: set[int]) -> None:
    text = in_ranges(values)
    named: set[int] = set()
    for part in text.split(", ") if values else []:
        low, _, high = part.partition("-")
        named |= set(range(int(low), int(high or low) + 1))
    assert named == values


def grey_png(values: list[int], bits: int) -> bytes:
    """One row of grey levels; Pillow writes no fewer than 8 bits of them, or 1."""
    row = int("".join(f"{value:0{bits}b}" for value in values), 2).to_bytes(len(values) * bits // 8, "big")
    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", len(values), 1, bits, 0, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"\0" + row)),
        (b"IEND", b""),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in chunks
    )
