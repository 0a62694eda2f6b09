"""Arrays, tensors, images of PIL and bytes are predicted exactly as the file of the same image is."""

import io

import numpy as np
import pytest
import tifffile
import torch
from PIL import Image

from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import read_image
from pyramidseg.predict.input_images import load_image

RANDOM = np.random.default_rng(0)
COLOR = RANDOM.integers(0, 256, (5, 7, 3), np.uint8)
ALPHA = RANDOM.integers(0, 256, (5, 7, 4), np.uint8)
GREY = RANDOM.integers(0, 256, (5, 7), np.uint8)
GREY_ALPHA = np.stack((GREY, GREY[::-1]), axis=-1)
DEEP = RANDOM.integers(0, 65536, (5, 7), np.uint16)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("pixels", [COLOR, ALPHA, GREY, GREY_ALPHA, DEEP], ids=["rgb", "rgba", "l", "la", "16"])
def test_every_form_gives_what_the_file_gives(tmp_path, pixels, channels):
    file = tmp_path / "image.png"
    Image.fromarray(pixels).save(file)
    expected = read_image(file, channels=channels)
    assert expected.shape == (5, 7, channels)
    opened = Image.open(file)
    tensor = torch.from_numpy(pixels.copy())
    given = {
        "array": pixels,
        "array with an axis": pixels if pixels.ndim == 3 else pixels[..., None],
        "other byte order": pixels.astype(pixels.dtype.newbyteorder("S")),
        "bytes": file.read_bytes(),
        "image of PIL, not yet decoded": opened,
        "image of PIL": Image.fromarray(pixels),
        "tensor": tensor if tensor.ndim == 2 else tensor.permute(2, 0, 1),
        "batch of one": (tensor[None, None] if tensor.ndim == 2 else tensor.permute(2, 0, 1)[None]),
    }
    for form, image in given.items():
        loaded = load_image(image, channels=channels)
        assert loaded.dtype == expected.dtype and np.array_equal(loaded, expected), form


@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_of_pil_are_turned_as_their_exif_says(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "photo.png"
    Image.fromarray(COLOR).save(file, exif=exif)
    expected = read_image(file, channels=3)
    assert expected.shape == ((7, 5, 3) if orientation >= 5 else (5, 7, 3))
    assert np.array_equal(load_image(Image.open(file), channels=3), expected)
    assert np.array_equal(load_image(file.read_bytes(), channels=3), expected)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("pixels", [COLOR[:, :1, :][:, ::-1], COLOR[:1][::-1]], ids=["column", "row"])
def test_torch_takes_mirrored_images_of_one_pixel(dtype, pixels):
    for channels in (1, 3):
        image = pixels.astype(dtype)[::-1, ::-1][::-1, ::-1][..., :channels]
        assert np.array_equal(torch.from_numpy(load_image(image, channels=channels)), image)
        mirrored = image[:, ::-1] if image.shape[1] == 1 else image[::-1]
        assert np.array_equal(torch.from_numpy(load_image(mirrored, channels=channels)), mirrored)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_torch_takes_files_of_one_pixel_of_any_orientation(tmp_path, orientation):
    exif = Image.Exif()
    exif[0x0112] = orientation
    for pixels in (COLOR[:, :1], COLOR[:1]):
        Image.fromarray(pixels).save(tmp_path / "photo.png", exif=exif)
        assert torch.from_numpy(read_image(tmp_path / "photo.png", channels=3)).ndim == 3


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_modes_of_pil(tmp_path, mode):
    image = Image.fromarray(COLOR).convert(mode)
    suffix = "jpg" if mode in ("CMYK", "YCbCr") else "png"
    image.save(tmp_path / f"image.{suffix}", **({"quality": 95} if suffix == "jpg" else {}))
    from_file = read_image(tmp_path / f"image.{suffix}", channels=3)
    assert np.array_equal(load_image(Image.open(tmp_path / f"image.{suffix}"), channels=3), from_file)


def test_a_transparent_palette(tmp_path):
    image = Image.fromarray(GREY).convert("P")
    image.info["transparency"] = 3
    image.save(tmp_path / "p.png", transparency=3)
    expected = read_image(tmp_path / "p.png", channels=3)
    assert np.array_equal(load_image(Image.open(tmp_path / "p.png"), channels=3), expected)


def test_files_of_16_bits_and_of_floats_in_memory(tmp_path):
    color = RANDOM.integers(0, 65536, (5, 7, 3), np.uint16)
    floats = RANDOM.random((5, 7, 3), np.float32)
    for pixels in (color, floats):
        content = io.BytesIO()
        tifffile.imwrite(content, pixels, photometric="rgb")
        assert np.array_equal(load_image(content.getvalue(), channels=3), pixels)


def test_bands_are_chosen_unless_there_are_as_many():
    bands = RANDOM.random((5, 7, 6), np.float32)
    assert np.array_equal(load_image(bands, channels=(6, 2, 1)), bands[..., [5, 1, 0]])
    chosen = bands[..., [5, 1, 0]]
    assert np.array_equal(load_image(chosen, channels=(6, 2, 1)), chosen)
    assert np.array_equal(load_image(torch.from_numpy(bands).permute(2, 0, 1), channels=(6, 2, 1)), chosen)
    with pytest.raises(DataError, match="has 2 bands, but band 6 is requested"):
        load_image(bands[..., :2], channels=(6, 2, 1))


def test_boolean_arrays_are_black_and_white():
    assert load_image(GREY > 127, channels=1).ravel().tolist() == [255 * int(value > 127) for value in GREY.ravel()]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_tensors_of_floats_become_float32(dtype):
    tensor = torch.rand(3, 5, 7).to(dtype).requires_grad_()
    loaded = load_image(tensor, channels=3)
    assert loaded.dtype == np.float32
    np.testing.assert_array_equal(loaded, tensor.detach().float().permute(1, 2, 0).numpy())


@pytest.mark.parametrize(("dtype", "advised"), [(np.int64, np.uint8), (np.int32, np.uint16), (np.uint32, np.uint16)])
def test_other_integers_are_refused_with_the_type_that_fits(dtype, advised):
    pixels = (COLOR if advised == np.uint8 else np.stack([DEEP] * 3, axis=-1)).astype(dtype)
    with pytest.raises(DataError, match=rf"convert it, image\.astype\(np\.{np.dtype(advised)}\)$"):
        load_image(pixels, channels=3)
    assert np.array_equal(load_image(pixels.astype(advised), channels=3), pixels)  # as advised


@pytest.mark.parametrize("content", [b"", b"no image", b"\x89PNG\r\n\x1a\nbroken"])
def test_bytes_that_are_no_image_are_refused(content):
    with pytest.raises(DataError, match=r"^image: "):
        load_image(content, channels=3)


@pytest.mark.parametrize("mode", ["HSV", "LAB"])
def test_images_of_pil_that_are_not_rgb_or_grey_are_refused(mode):
    with pytest.raises(DataError, match=f"image: of Pillow mode {mode}; convert it to RGB first"):
        load_image(Image.new(mode, (4, 4)), channels=3)
