"""PNG files whose pixels end early, with a stream that is closed correctly."""

import io
import struct
import zlib
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image

from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import read_image
from pyramidseg.images.open_image import open_image

ADAM7 = ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2))
MODES = ("1", "L", "P", "LA", "RGB", "RGBA", "I;16")


def encoded(values, mode):
    image = Image.fromarray(values.astype(np.uint16) * 200) if mode == "I;16" else Image.fromarray(values).convert(mode)
    data = io.BytesIO()
    image.save(data, "png")
    return data.getvalue()


def chunks(data) -> Iterator[tuple[bytes, bytes]]:
    at = 8
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        yield data[at + 4 : at + 8], data[at + 8 : at + 8 + length]
        at += 12 + length


def png(header, raw, rest=(), parts=1):
    stream = zlib.compress(raw)
    size = -(-len(stream) // parts)
    pixels = [(b"IDAT", stream[at : at + size]) for at in range(0, len(stream), size)]
    body = [(b"IHDR", header), *rest, *pixels, (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data)) for name, data in body
    )


def cut(data, share, parts=1):
    """The same file with only a share of the bytes of its pixels."""
    content = list(chunks(data))
    raw = zlib.decompress(b"".join(body for name, body in content if name == b"IDAT"))
    rest = [(name, body) for name, body in content if name in (b"PLTE", b"tRNS")]
    return png(content[0][1], raw[: int(len(raw) * share)], rest, parts)


def interlaced(values, rows=None):
    """Grey values as an interlaced file, with the rows of its last pass up to a number."""
    passes = [values[top::down, left::across] for left, top, across, down in ADAM7]
    passes[-1] = passes[-1][:rows]
    raw = b"".join(b"\0" + row.tobytes() for part in passes if part.size for row in part)
    return png(struct.pack(">IIBBBBB", values.shape[1], values.shape[0], 8, 0, 0, 0, 1), raw)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("background", [False, True], ids=["values", "zeros"])
@pytest.mark.parametrize("share", [20 / 64, 63 / 64])
def test_a_file_that_ends_early_is_refused(tmp_path, mode, background, share):
    values = np.random.default_rng(0).integers(1, 256, (64, 50), np.uint8) * (not background)
    (tmp_path / "whole.png").write_bytes(encoded(values, mode))
    with open_image(tmp_path / "whole.png") as file:
        assert file.pixels().shape[:2] == (64, 50)
    (tmp_path / "early.png").write_bytes(cut(encoded(values, mode), share, parts=3))
    ends_early = "early.png: cannot be read as an image: (its pixels end early|.* is truncated)"
    with pytest.raises(DataError, match=ends_early), open_image(tmp_path / "early.png") as file:
        file.pixels()


def test_sixteen_bit_colour_that_opencv_decodes_is_counted_too(tmp_path):
    import cv2

    path = tmp_path / "deep.png"
    cv2.imwrite(str(path), np.full((64, 50, 3), 40_000, np.uint16))
    assert (read_image(path, channels=3) == 40_000).all()
    path.write_bytes(cut(path.read_bytes(), 0.3))
    with pytest.raises(DataError, match=r"end early|truncated"):
        read_image(path, channels=3)


@pytest.mark.parametrize("size", [(64, 50), (1, 1), (2, 1), (1, 3), (9, 4)])
def test_interlaced_files_are_counted_by_pass(tmp_path, size):
    values = np.random.default_rng(1).integers(0, 256, size, np.uint8)
    path = tmp_path / "a.png"
    path.write_bytes(interlaced(values))
    assert (read_image(path, channels=1)[..., 0] == values).all()
    if size[0] > 1:
        path.write_bytes(interlaced(values, rows=size[0] // 2 - 1))
        with pytest.raises(DataError, match=r"end early|truncated"):
            read_image(path, channels=1)


def test_a_mask_whose_last_row_is_background_is_complete(tmp_path):
    values = np.zeros((64, 50), np.uint8)
    values[:60] = 3
    (tmp_path / "mask.png").write_bytes(encoded(values, "L"))
    with open_image(tmp_path / "mask.png") as file:
        assert np.bincount(file.pixels().ravel()).tolist() == [200, 0, 0, 3000]
