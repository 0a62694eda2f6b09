import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_files import save
from made_geo import write_image
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import NODATA_VALUE, IndexValues, describe_ranges, read_mask_values


@pytest.mark.parametrize(
    ("dtype", "suffix", "high"), [(np.uint8, "png", 255), (np.uint16, "png", 65535), (np.uint16, "tif", 65535)]
)
def test_integers_come_back(tmp_path: Path, dtype: type[np.unsignedinteger[Any]], suffix: str, high: int) -> None:
    values = np.random.default_rng(0).integers(0, high, (7, 5), endpoint=True).astype(dtype)
    save(tmp_path / f"a.{suffix}", values)
    read = read_mask_values(tmp_path / f"a.{suffix}")
    assert read.dtype == np.dtype(dtype)
    assert np.array_equal(read, values)


def test_integers_of_32_bits_come_back_as_16(tmp_path: Path) -> None:
    save(tmp_path / "a.tif", np.array([[0, 40000]], np.int32))
    assert read_mask_values(tmp_path / "a.tif").tolist() == [[0, 40000]]


def test_palette_is_read_by_its_indices(tmp_path: Path) -> None:
    made = Image.fromarray(np.array([[2, 0, 1]], np.uint8)).convert("P")
    made.putpalette([9, 9, 9, 200, 0, 0, 0, 200, 0])
    made.save(tmp_path / "a.png")
    assert read_mask_values(tmp_path / "a.png").tolist() == [[2, 0, 1]]


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_few_bits_are_read_as_stored(tmp_path: Path, bits: int) -> None:
    values = [index % 2**bits for index in range(8)]
    (tmp_path / "a.png").write_bytes(grey_png(values, bits))
    assert read_mask_values(tmp_path / "a.png").tolist() == [values]


def test_mask_is_turned_by_its_own_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    Image.fromarray(np.array([[0, 1], [2, 3]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert read_mask_values(tmp_path / "a.png").tolist() == [[2, 0], [3, 1]]


def test_jpeg_is_refused_whatever_its_name(tmp_path: Path) -> None:
    Image.new("L", (4, 4)).save(tmp_path / "a.png", format="JPEG")
    with pytest.raises(DataError, match=r"a\.png: a JPEG file cannot be an exact mask"):
        read_mask_values(tmp_path / "a.png")


@pytest.mark.parametrize("extended", [False, True])
def test_lossy_webp_is_refused_and_lossless_is_read(tmp_path: Path, extended: bool) -> None:
    values = np.random.default_rng(0).integers(0, 5, (16, 16), np.uint8)
    options = {"exif": Image.Exif().tobytes()} if extended else {}  # which takes the format with chunks of its own
    Image.fromarray(values).save(tmp_path / "exact.webp", lossless=True, **options)
    assert np.array_equal(read_mask_values(tmp_path / "exact.webp"), values)
    Image.fromarray(values).save(tmp_path / "lossy.webp", quality=90, **options)
    with pytest.raises(DataError, match=r"lossy\.webp: a lossy WebP file cannot be an exact mask"):
        read_mask_values(tmp_path / "lossy.webp")


def test_tiff_with_jpeg_inside_is_refused(tmp_path: Path) -> None:
    Image.new("L", (16, 16)).save(tmp_path / "a.tif", compression="jpeg")
    with pytest.raises(DataError, match=r"a\.tif: a JPEG-compressed TIFF file cannot be an exact mask"):
        read_mask_values(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("mode", "color", "message"),
    [
        ("RGB", (1, 2, 1), "contains colours, but the class of each colour is unknown"),
        ("RGBA", (1, 1, 1, 128), "transparent pixels"),
        ("LA", (1, 1), "transparent pixels"),
    ],
)
def test_colours_are_refused(tmp_path: Path, mode: str, color: tuple[int, ...], message: str) -> None:
    Image.new(mode, (4, 4), color).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=rf"a\.png: .*{message}"):
        read_mask_values(tmp_path / "a.png")


def test_grey_saved_as_colours_is_grey(tmp_path: Path) -> None:
    Image.new("RGB", (4, 4), (7, 7, 7)).save(tmp_path / "a.png")
    assert np.unique(read_mask_values(tmp_path / "a.png")).tolist() == [7]


@pytest.mark.parametrize(("mode", "color"), [("RGBA", (7, 7, 7, 255)), ("LA", (7, 255))])
def test_alpha_that_hides_nothing_changes_nothing(tmp_path: Path, mode: str, color: tuple[int, ...]) -> None:
    Image.new(mode, (4, 4), color).save(tmp_path / "a.png")
    assert np.unique(read_mask_values(tmp_path / "a.png")).tolist() == [7]


@pytest.mark.parametrize("mode", ["P", "L"])
def test_values_that_are_shown_as_transparent_stay_values(tmp_path: Path, mode: str) -> None:
    values = np.array([[0, 1], [2, 0]], np.uint8)
    made = Image.fromarray(values)
    if mode == "P":
        made = Image.frombytes("P", (2, 2), values.tobytes())
        made.putpalette([0, 0, 0, 255, 0, 0, 0, 255, 0])
    made.save(tmp_path / "a.png", transparency=0)
    assert b"tRNS" in (tmp_path / "a.png").read_bytes()
    assert read_mask_values(tmp_path / "a.png").tolist() == values.tolist()


@pytest.mark.parametrize("value", [-1, 65536])
def test_values_beyond_16_bits_are_refused(tmp_path: Path, value: int) -> None:
    save(tmp_path / "a.tif", np.array([[0, value]], np.int32))
    with pytest.raises(DataError, match=rf"a\.tif: mask values {value} are not between 0"):
        read_mask_values(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("dtype", "value", "tag", "how"),
    [
        (np.int16, -1, None, IndexValues(negative=(-1,))),
        (np.int16, -1, -1, IndexValues(nodata=True)),
        (np.int32, -9999, -9999, IndexValues(nodata=True)),
        (np.float32, -9999, -9999, IndexValues(nodata=True)),
        (np.float32, -3.4028234663852886e38, -3.4028234663852886e38, IndexValues(nodata=True)),
        (np.float64, -1.7976931348623157e308, -1.7976931348623157e308, IndexValues(nodata=True)),
        (np.float32, np.nan, np.nan, IndexValues(nodata=True)),
        (np.float32, np.nan, None, IndexValues(nodata=True)),
    ],
)
def test_what_can_be_no_index_counts_nowhere_where_it_is_ignored(
    tmp_path: Path, dtype: type[Any], value: float, tag: float | None, how: IndexValues
) -> None:
    path = write_image(tmp_path / "a.tif", np.array([[[0], [255], [value], [2]]], dtype), nodata=tag)
    assert read_mask_values(path, how).tolist() == [[0, 255, NODATA_VALUE, 2]]
    assert how.ignored_values == (255, NODATA_VALUE)
    with pytest.raises(DataError, match=r"a\.tif: mask values .* are not between 0 and 65535; .*data\.ignore="):
        read_mask_values(path)


def test_nodata_tag_that_could_be_an_index_is_not_looked_at(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", np.array([[[0], [1]]], np.int16), nodata=0)
    assert read_mask_values(path, IndexValues(nodata=True)).tolist() == [[0, 1]]


@given(st.sets(st.integers(0, 60)))
def test_ranges_name_exactly_the_values(values: set[int]) -> None:
    text = describe_ranges(values)
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
