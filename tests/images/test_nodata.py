"""Holes of an image: found as the file says, filled with the mean of the rest, and without a label."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import Record
from pyramidseg.images.decode import read_image, read_masked_image
from pyramidseg.images.nodata import MaskedImage, find_nodata
from pyramidseg.inspection.inspect_pair import inspect_pair

GEOREFERENCE = [(33550, 12, 3, (0.5, 0.5, 0.0), True), (33922, 12, 6, (0.0, 0.0, 0.0, 7e5, 3e6, 0.0), True)]


def write(path: Path, values: NDArray[Any], *, nodata: str | None = None, **options: Any) -> Path:
    tags = [(42113, 2, len(nodata) + 1, nodata, True)] if nodata is not None else []
    tifffile.imwrite(
        path,
        values,
        photometric=options.pop("photometric", "minisblack"),
        planarconfig="contig" if values.ndim == 3 else None,
        metadata=None,
        extratags=[*tags, *options.pop("extratags", [])],
        **options,
    )
    return path


@given(
    st.sampled_from([np.int16, np.float32]),
    st.integers(1, 5),
    st.integers(0, 100),
    st.sampled_from([0.0, 0.3, 0.9, 1.0]),
)
@settings(max_examples=60, deadline=None)
def test_filling_is_the_mean_of_what_is_there(dtype: Any, channels: int, seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    values = rng.normal(500, 200, (9, 7, channels)).astype(dtype)
    gone = rng.random(values.shape) < share
    values[gone] = -9999
    filled = MaskedImage(values, find_nodata(values, -9999.0)).filled()
    assert filled.dtype == dtype
    assert np.array_equal(filled[~gone], values[~gone])
    for channel in range(channels):
        there = values[..., channel][~gone[..., channel]].astype(np.float64)
        expected = there.mean() if there.size else 0
        assert np.abs(filled[..., channel][gone[..., channel]] - expected).max(initial=0) <= 0.5


def test_what_is_not_finite_is_a_hole_of_its_own_channel(tmp_path: Path) -> None:
    values = np.full((4, 5, 3), 2.0, np.float32)
    values[0, 0, 1], values[1, 1, 0], values[2, 2, 2] = np.nan, np.inf, -np.inf
    path = write(tmp_path / "a.tif", values)
    pixels = read_masked_image(path, channels=3)
    assert pixels.nodata is not None
    assert sorted(map(tuple, np.argwhere(pixels.nodata).tolist())) == [(0, 0, 1), (1, 1, 0), (2, 2, 2)]
    assert pixels.nodata_in_all_channels() is None
    assert (read_image(path, channels=3) == 2).all()


@pytest.mark.parametrize(("dtype", "nodata"), [(np.int16, "-9999"), (np.uint16, "7"), (np.float32, "-3.4e+38")])
def test_the_nodata_tag_holds_for_each_channel(tmp_path: Path, dtype: Any, nodata: str) -> None:
    values = np.full((4, 5, 3), 100, dtype)
    values[0, :, 1] = float(nodata)
    values[1] = float(nodata)
    pixels = read_masked_image(write(tmp_path / "a.tif", values, nodata=nodata), channels=3)
    empty = pixels.nodata_in_all_channels()
    assert empty is not None
    assert empty[1].all() and empty.sum() == 5
    assert (pixels.filled() == 100).all()


@pytest.mark.parametrize(("dtype", "nodata"), [(np.uint8, 0), (np.uint16, 0), (np.uint8, 255), (np.uint16, 65535)])
def test_an_end_of_the_range_is_a_hole_only_where_all_channels_have_it(tmp_path: Path, dtype: Any, nodata: int) -> None:
    values = np.full((4, 5, 3), 100, dtype)
    values[0, :, 1] = nodata
    values[1] = nodata
    filled = read_image(write(tmp_path / "a.tif", values, nodata=str(nodata)), channels=3)
    assert (filled[0, :, 1] == nodata).all()
    assert (filled[1, :, 1] == round((10 * 100 + 5 * nodata) / 15)).all()
    assert (filled[2:] == 100).all() and (filled[1, :, [0, 2]] == 100).all()


@pytest.mark.parametrize("nodata", ["", "none", "1e9", "0.5", "nan"])
def test_a_tag_that_no_value_can_equal_makes_no_holes(tmp_path: Path, nodata: str) -> None:
    values = np.arange(60, dtype=np.uint16).reshape(4, 5, 3)
    path = write(tmp_path / "a.tif", values, nodata=nodata or " ")
    assert read_masked_image(path, channels=3).nodata is None
    assert np.array_equal(read_image(path, channels=3), values)


def test_holes_of_ordinary_8_bit_files_count_too(tmp_path: Path) -> None:
    values = np.full((4, 5, 3), 60, np.uint8)
    values[:, 0] = 0
    path = write(tmp_path / "a.tif", values, nodata="0", photometric="rgb")
    assert (read_image(path, channels=3) == 60).all()
    grey = read_masked_image(path, channels=1)
    empty = grey.nodata_in_all_channels()
    assert empty is not None
    assert empty[:, 0].all() and not empty[:, 1:].any()


@pytest.mark.parametrize("placed", [True, False])
def test_transparency_is_a_hole_where_the_file_lies_on_a_map(tmp_path: Path, placed: bool) -> None:
    values = np.full((4, 5, 4), 60, np.uint8)
    values[:, 0] = (200, 200, 200, 0)
    path = write(
        tmp_path / "a.tif", values, photometric="rgb", extrasamples=["unassalpha"],
        extratags=GEOREFERENCE if placed else [],
    )  # fmt: skip
    assert (read_image(path, channels=3)[:, 0] == (60 if placed else 200)).all()
    assert np.array_equal(read_image(path, channels=4), values)


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize("nodata", [-1.7976931348623157e308, -3.4028234663852886e38, 1e20, 0.1])
def test_nodata_of_64_bits_is_found_in_32(tmp_path: Path, bands: int, nodata: float) -> None:
    values = np.full((4, 5, bands), 2.5)
    values[1] = nodata
    path = write(tmp_path / "a.tif", values if bands > 1 else values[..., 0], nodata=repr(nodata))
    pixels = read_masked_image(path, channels=bands)
    empty = pixels.nodata_in_all_channels()
    assert empty is not None
    assert empty[1].all() and empty.sum() == 5
    assert (pixels.filled() == 2.5).all()


def test_holes_are_looked_for_in_the_chosen_bands_only(tmp_path: Path) -> None:
    values = np.full((4, 5, 3), 10, np.int16)
    values[..., 2] = -1
    path = write(tmp_path / "a.tif", values, nodata="-1")
    assert read_masked_image(path, channels=(1, 2)).nodata is None
    assert read_masked_image(path, channels=(3,)).nodata_in_all_channels() is not None


def test_holes_have_no_label_and_everything_else_keeps_its(tmp_path: Path) -> None:
    values = np.full((4, 5, 2), 10.0, np.float32)
    values[0] = np.nan
    values[1, 0, 0] = np.nan  # the other channel still holds something
    labels = np.ones((4, 5), np.uint8)
    image, mask = write(tmp_path / "a.tif", values), tmp_path / "mask.tif"
    tifffile.imwrite(mask, labels)
    read, truth = read_pair(Record("a", image, mask), ClassMasks.identity(2), channels=2)
    assert np.isfinite(read).all()
    assert (truth[0] == IGNORE).all()
    assert (truth[1:] == 1).all()


def test_the_counts_of_the_check_leave_out_labels_beside_holes(tmp_path: Path) -> None:
    values = np.full((4, 5, 3), 10, np.uint16)
    values[0] = 0
    image, mask = write(tmp_path / "a.tif", values, nodata="0"), tmp_path / "mask.tif"
    tifffile.imwrite(mask, np.ones((4, 5), np.uint8))
    counts = inspect_pair(
        Record("a", image, mask), ClassMasks.identity(2), num_classes=2, channels=3, decode_image=False
    ).label_counts
    assert counts is not None
    assert (counts[1], counts[IGNORE]) == (15, 5)
