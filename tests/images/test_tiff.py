"""TIFF of any number of bands: what tifffile and GDAL write comes back as it was."""

import importlib.util
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from made_tiff import READ, H, W, draw, write
from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.data.index_masks import read_mask_values
from pyramidseg.images.decode import read_header, read_image, read_masked_image
from pyramidseg.images.open_image import apply_orientation

needs_rasterio = pytest.mark.skipif(importlib.util.find_spec("rasterio") is None, reason="needs rasterio")
needs_imagecodecs = pytest.mark.skipif(importlib.util.find_spec("imagecodecs") is None, reason="needs imagecodecs")


@pytest.mark.parametrize("dtype", READ)
@pytest.mark.parametrize("bands", [1, 2, 3, 4, 5, 13, 200])
@pytest.mark.parametrize("planar", [False, True])
def test_any_number_of_bands_comes_back(tmp_path: Path, dtype: Any, bands: int, planar: bool) -> None:
    values = draw(bands, dtype)
    image = read_image(write(tmp_path / "a.tif", values, planar=planar), channels=bands)
    assert image.dtype == dtype
    assert np.array_equal(image, values)
    assert image.flags.c_contiguous and image.flags.writeable


@pytest.mark.parametrize("options", [{}, {"tile": (16, 32)}, {"rowsperstrip": 5}, {"bigtiff": True}])
@pytest.mark.parametrize("compression", [None, "deflate"])
@pytest.mark.parametrize("predictor", [False, True])
@pytest.mark.parametrize("byteorder", ["<", ">"])
def test_every_layout_comes_back(
    tmp_path: Path, options: dict[str, Any], compression: str | None, predictor: bool, byteorder: str
) -> None:
    if byteorder == ">" and "bigtiff" in options:
        pytest.skip("Pillow cannot read the tags of such files")
    for planar, dtype in product([False, True], [np.uint16, np.int16]):
        values = draw(5, dtype)
        path = write(
            tmp_path / "a.tif",
            values,
            planar=planar,
            compression=compression,
            predictor=2 if predictor and compression and importlib.util.find_spec("imagecodecs") else False,
            byteorder=byteorder,
            **options,
        )
        assert np.array_equal(read_image(path, channels=5), values)


@needs_imagecodecs
@pytest.mark.parametrize("compression", ["lzw", "zstd", "packbits", "lzma"])
@pytest.mark.parametrize("dtype", READ)
def test_other_compressions_need_imagecodecs_only(tmp_path: Path, compression: str, dtype: Any) -> None:
    values = draw(6, dtype)
    path = write(tmp_path / "a.tif", values, compression=compression, tile=(16, 16))
    assert np.array_equal(read_image(path, channels=6), values)


def test_without_imagecodecs_such_a_file_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.tif", draw(6, np.uint8))
    content = path.read_bytes()
    no_compression, lzw = b"\x03\x01\x03\x00\x01\x00\x00\x00\x01\x00", b"\x03\x01\x03\x00\x01\x00\x00\x00\x05\x00"
    assert content.count(no_compression) == 1
    path.write_bytes(content.replace(no_compression, lzw))
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"a\.tif: .* needs imagecodecs, .* pip install 'pyramidseg\[geo\]'"):
        read_header(path)


@needs_rasterio
@pytest.mark.parametrize("compress", ["none", "deflate"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("tiled", [False, True])
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32", "float64"])
def test_what_gdal_writes_comes_back(tmp_path: Path, compress: str, interleave: str, tiled: bool, dtype: str) -> None:
    import rasterio
    from rasterio import Affine

    for bands in (1, 2, 3, 4, 7):
        values = draw(bands, dtype)
        layout: dict[str, Any] = {"blockxsize": 16, "blockysize": 32, "tiled": True} if tiled else {}
        predictor = {"predictor": 2} if compress == "deflate" and dtype[:4] in ("uint", "int1") else {}
        place = {"crs": "EPSG:32616", "transform": Affine(0.5, 0, 733601, 0, -0.5, 3725139)}
        with rasterio.open(
            tmp_path / "a.tif", "w", driver="GTiff", height=H, width=W, count=bands, dtype=dtype, compress=compress,
            interleave=interleave, **layout, **predictor, **place,
        ) as file:  # fmt: skip
            file.write(np.moveaxis(values, 2, 0))
        image = read_image(tmp_path / "a.tif", channels=bands)
        assert np.array_equal(image, values.astype(np.float32) if dtype == "float64" else values)
        assert read_header(tmp_path / "a.tif").georeferenced


@pytest.mark.parametrize("dtype", [np.float16, np.float64])
@pytest.mark.parametrize("bands", [1, 4])
def test_floats_of_other_widths_become_32_bits(tmp_path: Path, dtype: Any, bands: int) -> None:
    values = np.random.default_rng(0).normal(0, 1, (H, W, bands)).astype(dtype)
    path = write(tmp_path / "a.tif", values)
    image = read_image(path, channels=bands)
    assert str(image.dtype) == read_header(path).dtype == "float32"
    assert np.array_equal(image, values.astype(np.float32))


@pytest.mark.parametrize("dtype", [np.int8, np.uint32, np.int32, np.complex64])
@pytest.mark.parametrize("bands", [1, 3])
def test_other_types_are_refused(tmp_path: Path, dtype: Any, bands: int) -> None:
    path = write(tmp_path / "a.tif", np.zeros((H, W, bands), dtype))
    with pytest.raises(DataError, match=r"a\.tif: .* are not supported; "):
        read_header(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_bands_are_turned_like_any_other_image(tmp_path: Path, orientation: int) -> None:
    values = draw(5, np.int16)
    path = write(tmp_path / "a.tif", values, extratags=[(274, 3, 1, orientation, True)])
    expected = apply_orientation(values, orientation)
    assert np.array_equal(read_image(path, channels=5), expected)
    assert read_header(path)[:2] == expected.shape[:2]


def test_bands_are_chosen_by_their_number(tmp_path: Path) -> None:
    values = draw(6, np.uint16)
    path = write(tmp_path / "a.tif", values)
    assert np.array_equal(read_image(path, channels=(5, 3, 2)), values[..., [4, 2, 1]])
    assert np.array_equal(read_image(path, channels=(6,)), values[..., 5:])
    with pytest.raises(DataError, match=r"a\.tif: has 6 bands, but band 7 is requested; bands count from 1"):
        read_image(path, channels=(1, 7))


@pytest.mark.parametrize("bands", [2, 4, 5, 6])
def test_bands_are_never_left_out_in_silence(tmp_path: Path, bands: int) -> None:
    path = tmp_path / "a.tif"
    photometric = "minisblack" if bands == 2 else "rgb"
    tifffile.imwrite(
        path, draw(bands, np.uint8), photometric=photometric, planarconfig="contig", metadata=None,
        extrasamples=["unspecified"] * (bands - (1 if bands == 2 else 3)),
    )  # fmt: skip
    assert read_header(path).channels == bands
    for channels in (1, 3):
        with pytest.raises(
            DataError, match=rf"a\.tif: has {bands} channels, but {channels} are requested .*in_channels"
        ):
            read_image(path, channels=channels)


def test_one_band_of_any_type_may_be_repeated(tmp_path: Path) -> None:
    for dtype in READ:
        values = draw(1, dtype)
        image = read_image(write(tmp_path / "a.tif", values), channels=3)
        assert image.dtype == dtype
        assert np.array_equal(image, np.repeat(values, 3, axis=2))


def test_bands_that_are_no_colours_have_no_luma(tmp_path: Path) -> None:
    path = write(tmp_path / "a.tif", draw(3, np.uint16))
    with pytest.raises(DataError, match="has 3 channels, but 1 are requested and it can be read with 3"):
        read_image(path, channels=1)


@pytest.mark.parametrize(("kind", "refused"), [("overview", False), ("mask", False), ("image", True)])
def test_overviews_and_masks_are_no_pages_but_images_are(tmp_path: Path, kind: str, refused: bool) -> None:
    values, path = draw(5, np.uint8), tmp_path / "a.tif"
    with tifffile.TiffWriter(path) as file:
        layout: dict[str, Any] = {"photometric": "minisblack", "planarconfig": "contig", "metadata": None}
        file.write(values, **layout)
        if kind == "mask":
            file.write(np.ones((H, W), bool), subfiletype=4, photometric=4, metadata=None)
        else:
            file.write(values, subfiletype=int(kind == "overview"), **layout)
    if refused:
        with pytest.raises(DataError, match="several pages"):
            read_image(path, channels=5)
    else:
        assert np.array_equal(read_image(path, channels=5), values)


@needs_rasterio
def test_tiles_that_were_never_written_are_nodata(tmp_path: Path) -> None:
    import rasterio
    from rasterio.windows import Window

    options: dict[str, Any] = {"tiled": True, "blockxsize": 16, "blockysize": 16, "sparse_ok": True, "nodata": -5}
    place = rasterio.Affine(1, 0, 500, 0, -1, 800)
    path = tmp_path / "a.tif"
    with rasterio.open(
        path, "w", driver="GTiff", height=32, width=48, count=4, dtype="int16", transform=place, **options
    ) as file:
        file.write(np.ones((4, 16, 16), np.int16), window=Window(16, 0, 16, 16))
    expected = np.full((32, 48, 4), -5, np.int16)
    expected[:16, 16:32] = 1
    assert np.array_equal(read_masked_image(path, channels=4).values, expected)
    assert (read_image(path, channels=4) == 1).all()


@needs_rasterio
def test_cloud_optimised_files_with_overviews_come_back(tmp_path: Path) -> None:
    import rasterio

    values = draw(5, np.uint16, height=700, width=600)
    path = tmp_path / "a.tif"
    options: dict[str, Any] = {"blocksize": 256, "compress": "deflate", "overviews": "auto"}
    with rasterio.open(
        path, "w", driver="COG", height=700, width=600, count=5, dtype="uint16", crs="EPSG:32616",
        transform=rasterio.Affine(1, 0, 5e5, 0, -1, 4e6), **options,
    ) as file:  # fmt: skip
        file.write(np.moveaxis(values, 2, 0))
    with rasterio.open(path) as file:
        assert file.overviews(1)
    assert np.array_equal(read_image(path, channels=5), values)


@needs_rasterio
@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "int32", "uint32", "float32", "float64"])
@pytest.mark.parametrize("interleave", ["pixel", "band"])
@pytest.mark.parametrize("compress", ["none", "deflate", "lzw"])
def test_masks_of_whole_numbers_are_read_whatever_their_type(
    tmp_path: Path, dtype: str, interleave: str, compress: str
) -> None:
    from made_geo import write_image

    values = np.random.default_rng(0).integers(0, 9, (H, W, 1)).astype(dtype)
    path = write_image(tmp_path / "a.tif", values, interleave=interleave, compress=compress)
    assert np.array_equal(read_mask_values(path), values[..., 0])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(
    ("value", "complaint"),
    [
        (0.5, "mask value 0.5 is not a whole number"),
        (np.nan, "mask values nan are not between 0 and 65535; .*data.ignore=nodata"),
        (-1, r"mask values -1 are not between 0 and 65535; .*data.ignore=\[-1\]"),
        (1e9, "mask values 1000000000 are not between 0 and 65535"),
    ],
)
def test_masks_of_other_numbers_are_refused(tmp_path: Path, dtype: Any, value: float, complaint: str) -> None:
    values = np.full((H, W, 1), 3, dtype)
    values[2, 3] = value
    with pytest.raises(DataError, match=rf"a\.tif: {complaint}"):
        read_mask_values(write(tmp_path / "a.tif", values))


def test_masks_of_bands_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"a\.tif: a mask needs one integer per pixel, but this file has 5 bands of uint8"
    ):
        read_mask_values(write(tmp_path / "a.tif", draw(5, np.uint8)))
