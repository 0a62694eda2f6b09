from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_files import save
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import ThresholdValues
from pyramidseg.data.records import Record

LEVELS = np.arange(256, dtype=np.uint8)[None]


@pytest.fixture(scope="module")
def ramp(tmp_path_factory: pytest.TempPathFactory) -> Record:
    return save(tmp_path_factory.mktemp("ramp") / "ramp.png", LEVELS)


@given(threshold=st.integers(1, 255))
def test_levels_from_the_threshold_on_are_foreground(ramp: Record, threshold: int) -> None:
    assert np.array_equal(ThresholdValues(threshold).read(ramp), np.where(threshold <= LEVELS, 255, 0))


@pytest.mark.parametrize("quality", [30, 75, 95])
def test_jpeg_damage_is_undone(tmp_path: Path, quality: int) -> None:
    clean = np.zeros((48, 64), np.uint8)
    clean[8:40, 16:48] = 255
    Image.fromarray(clean).save(tmp_path / "a.jpg", quality=quality)
    assert np.array_equal(ThresholdValues(128).read(Record("a", Path("x"), tmp_path / "a.jpg")), clean)


@pytest.mark.parametrize("mode", ["1", "RGB", "RGBA", "P", "LA"])
def test_other_modes_count_by_their_grey(tmp_path: Path, mode: str) -> None:
    Image.new("L", (2, 2), 255).convert(mode).save(tmp_path / "a.png")
    assert ThresholdValues(128).read(Record("a", Path("x"), tmp_path / "a.png")).tolist() == [[255, 255]] * 2


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparent_pixels_are_refused(tmp_path: Path, mode: str) -> None:
    made = Image.new("L", (2, 2), 255).convert(mode)
    made.putalpha(Image.fromarray(np.array([[0, 255], [255, 255]], np.uint8)))
    made.save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"a\.png: has transparent pixels"):
        ThresholdValues(128).read(Record("a", Path("x"), tmp_path / "a.png"))


def test_mask_is_turned_by_its_own_tag(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.array([[0, 255]], np.uint8)).save(tmp_path / "a.png", exif=exif)
    assert ThresholdValues(128).read(Record("a", Path("x"), tmp_path / "a.png")).tolist() == [[0], [255]]


def test_16_bits_are_compared_as_they_are(tmp_path: Path) -> None:
    made = save(tmp_path / "a.png", np.array([[0, 8], [9, 65535]], np.uint16))
    assert ThresholdValues(9).read(made).tolist() == [[0, 0], [255, 255]]


def test_whole_numbers_as_floats_are_compared(tmp_path: Path) -> None:
    made = save(tmp_path / "a.tif", np.array([[0, 8], [9, 70000]], np.float32))
    assert ThresholdValues(9).read(made).tolist() == [[0, 0], [255, 255]]


@pytest.mark.parametrize("value", [0.5, -1, np.nan])
def test_other_floats_are_refused(tmp_path: Path, value: float) -> None:
    made = save(tmp_path / "a.tif", np.array([[0, 1], [9, value]], np.float32))
    with pytest.raises(DataError, match=r"a\.tif: data.threshold needs one integer per pixel or 8-bit colours"):
        ThresholdValues(9).read(made)


def test_record_without_a_mask_is_named() -> None:
    with pytest.raises(DataError, match=r"a\.jpg: has no mask"):
        ThresholdValues(9).read(Record("a", Path("a.jpg")))
