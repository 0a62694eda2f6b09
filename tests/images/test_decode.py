import struct
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from PIL import Image
from PIL import __version__ as pillow_version

from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import ImageHeader, check_channels, image_size, pixel_count, read_header, read_image

H, W = 6, 9


def draw(*shape: int, dtype: type[np.unsignedinteger[Any]] = np.uint8, seed: int = 0) -> NDArray[Any]:
    return np.random.default_rng(seed).integers(0, np.iinfo(dtype).max, shape, dtype, endpoint=True)


def save_with_opencv(path: Path, values: NDArray[Any]) -> Path:
    assert cv2.imwrite(str(path), values[..., [2, 1, 0, 3][: values.shape[2]]])
    return path


@pytest.mark.parametrize("suffix", ["png", "tif", "bmp"])
def test_rgb_is_taken_as_it_is(tmp_path: Path, suffix: str) -> None:
    values = draw(H, W, 3)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}", channels=3)
    assert image.dtype == np.uint8
    assert np.array_equal(image, values)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK"])
@pytest.mark.parametrize("channels", [1, 3])
def test_every_mode_gives_one_and_three_channels(tmp_path: Path, mode: str, channels: int) -> None:
    path = tmp_path / ("a.tif" if mode == "CMYK" else "a.png")
    Image.fromarray(draw(H, W, 3)).convert(mode).save(path)
    image = read_image(path, channels=channels)
    assert image.shape == (H, W, channels)
    assert image.dtype == np.uint8
    assert image.flags.c_contiguous and image.flags.writeable


YCBCR = pytest.param(
    "YCbCr",
    marks=pytest.mark.skipif(
        int(pillow_version.partition(".")[0]) < 13, reason="Pillow writes such TIFF files cut short"
    ),
)


@pytest.mark.parametrize("mode", ["1", "L", "P", "CMYK", YCBCR])
def test_modes_without_alpha_look_as_in_pillow(tmp_path: Path, mode: str) -> None:
    made = Image.fromarray(draw(H, W, 3)).convert(mode)
    made.save(tmp_path / "a.tif")
    expected = np.asarray(made.convert("RGB"))
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3), expected)


def test_adobe_cmyk_jpeg_is_not_inverted(tmp_path: Path) -> None:
    Image.new("CMYK", (W, H), (0, 0, 0, 0)).save(tmp_path / "white.jpg")
    assert read_image(tmp_path / "white.jpg", channels=3).min() > 250


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_luma_follows_bt601(tmp_path: Path, dtype: type[np.unsignedinteger[Any]]) -> None:
    values = draw(H, W, 3, dtype=dtype)
    path = save_with_opencv(tmp_path / "a.png", values)
    luma = read_image(path, channels=1)[..., 0]
    assert luma.dtype == dtype
    assert np.abs(luma - values.astype(np.float64) @ [0.299, 0.587, 0.114]).max() <= 1.5


def test_luma_equals_that_of_pillow(tmp_path: Path) -> None:
    made = Image.fromarray(draw(32, 32, 3))
    made.save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", channels=1)[..., 0], np.asarray(made.convert("L")))


def test_luma_of_white_is_white(tmp_path: Path) -> None:
    path = save_with_opencv(tmp_path / "a.png", np.full((H, W, 3), 65535, np.uint16))
    assert (read_image(path, channels=1) == 65535).all()


def test_alpha_is_kept_for_four_channels_and_dropped_for_three(tmp_path: Path) -> None:
    values = draw(H, W, 4)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert np.array_equal(read_image(tmp_path / "a.png", channels=4), values)
    assert np.array_equal(read_image(tmp_path / "a.png", channels=3), values[..., :3])


def test_palette_keeps_the_colours_below_its_transparency(tmp_path: Path) -> None:
    made = Image.fromarray(np.array([[0, 1]], np.uint8)).convert("P")
    made.putpalette([10, 20, 30, 40, 50, 60])
    made.save(tmp_path / "a.png", transparency=bytes([0, 128]))
    assert read_image(tmp_path / "a.png", channels=3).tolist() == [[[10, 20, 30], [40, 50, 60]]]
    assert read_image(tmp_path / "a.png", channels=4)[..., 3].tolist() == [[0, 128]]


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_sixteen_bit_grey_stays(tmp_path: Path, suffix: str) -> None:
    values = draw(H, W, dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / f"a.{suffix}")
    image = read_image(tmp_path / f"a.{suffix}", channels=3)
    assert image.dtype == np.dtype("=u2")
    assert all(np.array_equal(image[..., channel], values) for channel in range(3))


@pytest.mark.parametrize("suffix", ["png", "tif"])
@pytest.mark.parametrize("channels", [3, 4])
def test_sixteen_bit_colour_stays(tmp_path: Path, suffix: str, channels: int) -> None:
    values = draw(H, W, channels, dtype=np.uint16)
    path = save_with_opencv(tmp_path / f"a.{suffix}", values)
    image = read_image(path, channels=channels)
    assert image.dtype == np.uint16
    assert np.array_equal(image, values)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_sixteen_bit_colour_tiff_is_turned_like_any_other(tmp_path: Path, orientation: int) -> None:
    from pyramidseg.images.open_image import apply_orientation

    values = draw(H, W, 3, dtype=np.uint16)
    (tmp_path / "a.tif").write_bytes(tiff_of_16_bit_rgb(values, orientation))
    expected = apply_orientation(values, orientation)
    assert np.array_equal(read_image(tmp_path / "a.tif", channels=3), expected)
    assert image_size(tmp_path / "a.tif") == expected.shape[:2]


def test_truncated_sixteen_bit_colour_is_refused(tmp_path: Path) -> None:
    path = save_with_opencv(tmp_path / "a.png", draw(60, 60, 3, dtype=np.uint16))
    path.write_bytes(path.read_bytes()[:-9000])
    with pytest.raises(DataError, match=r"a\.png: .*truncated"):
        read_image(path, channels=3)


def test_floating_point_tiff_keeps_its_values(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(0, 1000, (H, W)).astype(np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    image = read_image(tmp_path / "a.tif", channels=1)
    assert image.dtype == np.float32
    assert np.array_equal(image[..., 0], values)


def test_integers_of_32_bits_are_refused(tmp_path: Path) -> None:
    Image.fromarray(np.full((H, W), 70000, np.int32)).save(tmp_path / "a.tif")
    with pytest.raises(DataError, match=r"a\.tif: pixels of Pillow mode I with 32 bits are not supported; convert"):
        read_image(tmp_path / "a.tif", channels=1)


@pytest.mark.parametrize(("mode", "found", "possible"), [("L", 1, "1, 3"), ("RGB", 3, "1, 3"), ("RGBA", 4, "1, 3, 4")])
def test_channels_that_a_file_cannot_give_are_refused(tmp_path: Path, mode: str, found: int, possible: str) -> None:
    Image.new(mode, (W, H)).save(tmp_path / "a.png")
    with pytest.raises(
        DataError, match=rf"a\.png: has {found} channels, but 5 are requested and it can be read with {possible}; "
    ):
        read_image(tmp_path / "a.png", channels=5)


@given(
    mode=st.sampled_from(["1", "L", "LA", "P", "RGB", "RGBA", "I;16"]),
    height=st.integers(1, 20),
    width=st.integers(1, 20),
    seed=st.integers(0, 99),
)
@settings(max_examples=60, deadline=None)
def test_header_says_what_the_pixels_are(
    tmp_path_factory: pytest.TempPathFactory, mode: str, height: int, width: int, seed: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "header.png"
    deep = mode == "I;16"
    made = Image.fromarray(
        draw(height, width, dtype=np.uint16, seed=seed) if deep else draw(height, width, 3, seed=seed)
    )
    (made if deep else made.convert(mode)).save(path)
    header = read_header(path)
    image = read_image(path, channels=header.channels)
    assert (*image.shape, str(image.dtype)) == header[:4]


def tiff_of_16_bit_rgb(values: NDArray[np.uint16], orientation: int) -> bytes:
    """An uncompressed TIFF; neither Pillow nor OpenCV writes one with an orientation."""
    data = values.astype("<u2").tobytes()
    height, width, _ = values.shape
    depths_at = 8 + 2 + 12 * 11 + 4
    tags = [
        (256, 3, 1, width),
        (257, 3, 1, height),
        (258, 3, 3, depths_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, depths_at + 6),
        (274, 3, 1, orientation),
        (277, 3, 1, 3),
        (278, 3, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ]
    entries = b"".join(struct.pack("<HHII", *tag) for tag in tags)
    start = b"II*\0" + struct.pack("<IH", 8, len(tags))
    return start + entries + struct.pack("<IHHH", 0, 16, 16, 16) + data


def test_advice_on_channels_holds_for_who_predicts_and_who_trains() -> None:
    bands = ImageHeader(8, 8, 4, "uint8")
    with pytest.raises(
        DataError, match="4 channels, but 3 are requested and it can be read with 4; use images with 3"
    ) as caught:
        check_channels(Path("image.tif"), bands, 3)
    assert str(caught.value).endswith("model.in_channels=4, or choose bands (data.bands=[1,2,3])")


def test_pixels_are_counted_by_the_header(tmp_path: Path) -> None:
    Image.new("RGB", (7, 5)).save(tmp_path / "image.png")
    assert pixel_count(tmp_path / "image.png") == 35
    assert pixel_count(tmp_path / "absent.png") == 0
