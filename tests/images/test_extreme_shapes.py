"""Images whose pixels are few, and whose padding or decoding would take all memory."""

import struct
import zlib

import numpy as np
import pytest
import tifffile
from PIL import Image

from pyramidseg.base.defects import DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import image_size, read_image
from pyramidseg.images.open_image import OpenImage


def png(path, height, width, data_bytes):
    Image.new("L", (1, 1)).save(path)
    content = bytearray(path.read_bytes())
    content[16:24] = struct.pack(">II", width, height)
    content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
    path.write_bytes(content + b"\0" * data_bytes)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((1, 249_999_999), "32 x 250000000"),
        ((249_999_999, 1), "250000000 x 32"),
        ((40, 6_000_000), "64 x 6000000"),
    ],
)
def test_an_image_too_narrow_to_be_padded_is_refused_by_its_header(tmp_path, size, padded):
    png(tmp_path / "narrow.png", *size, data_bytes=48_000)
    with pytest.raises(DataError, match=f"narrow.png: {size[0]} x {size[1]} pixels, which models pad to {padded}, "):
        image_size(tmp_path / "narrow.png")


@pytest.mark.parametrize("bands", [1, 5])
def test_narrow_rasters_are_refused_too(tmp_path, bands):
    path = tmp_path / "narrow.tif"
    tifffile.imwrite(path, np.zeros((1, 9_000_000, bands)[: 2 + (bands > 1)], np.uint8), compression="zlib")
    with pytest.raises(DataError, match="exceed the limit of 268 million padded pixels"):
        image_size(path)


@pytest.mark.parametrize("size", [(15_811, 15_811), (1000, 250_000), (1, 8_000_000), (16_000, 15_625)])
def test_shapes_within_the_limits_are_taken(tmp_path, size):
    png(tmp_path / "large.png", *size, data_bytes=48_000)
    assert image_size(tmp_path / "large.png") == size


def test_an_image_that_memory_cannot_hold_is_a_defect_of_this_image(tmp_path, monkeypatch):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")

    def without_memory(file, mode=None):
        raise MemoryError

    monkeypatch.setattr(OpenImage, "pixels", without_memory)
    with pytest.raises(DataError, match=r"a\.png: cannot be decoded in the free memory; free some, or cut") as raised:
        read_image(tmp_path / "a.png", channels=3)
    assert raised.value.defects[0].kind == DefectKind.TOO_LARGE
