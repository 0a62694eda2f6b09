"""Photos and label maps are decoded as the server means them."""

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from chromium import Tab
from planted_defects import chunk

DECODED = """(async () => {
  const { decodePhoto } = await import("./page/decoding.js");
  const found = [];
  for (const file of window.files) {
    const bitmap = await decodePhoto(file);
    const canvas = new OffscreenCanvas(bitmap.width, bitmap.height);
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    const data = canvas.getContext("2d").getImageData(0, 0, bitmap.width, bitmap.height).data;
    found.push([file.name, bitmap.height, bitmap.width, [...data].filter((_, at) => at % 4 !== 3)]);
  }
  return found;
})()"""


def test_photos_are_turned_as_the_server_turns_them(page: Tab, tmp_path: Path) -> None:
    """All eight EXIF orientations, also of WebP, which Chromium itself does not turn."""
    pixels = np.zeros((16, 32, 3), np.uint8)
    pixels[:8, :16, 0] = pixels[8:, 16:, 1] = pixels[:8, 16:, 2] = 255
    files = []
    for orientation in range(1, 9):
        exif = Image.Exif()
        exif[0x0112] = orientation
        for suffix, options in (("png", {}), ("webp", {"lossless": True}), ("jpg", {"quality": 100, "subsampling": 0})):
            files.append(tmp_path / f"{orientation}.{suffix}")
            Image.fromarray(pixels).save(files[-1], exif=exif, **options)
    prefixed = (tmp_path / "6.webp").read_bytes()
    at = prefixed.index(b"EXIF")
    (size,) = struct.unpack("<I", prefixed[at + 4 : at + 8])
    chunk = b"EXIF" + struct.pack("<I", size + 6) + b"Exif\0\0" + prefixed[at + 8 :]
    body = prefixed[8:at] + chunk
    files.append(tmp_path / "prefixed.webp")
    files[-1].write_bytes(b"RIFF" + struct.pack("<I", len(body)) + body)
    keep = "window.files = [...event.target.files]; event.stopPropagation();"  # before the page clears the input
    page.evaluate(f"addEventListener('change', (event) => {{ {keep} }}, true)")
    page.choose("#files", *files)
    page.wait("window.files !== undefined")
    for name, height, width, values in page.evaluate(DECODED):
        expected = np.asarray(ImageOps.exif_transpose(Image.open(tmp_path / name)).convert("RGB"))
        assert (height, width) == expected.shape[:2], name
        found = np.array(values).reshape(expected.shape)
        np.testing.assert_allclose(found, expected, atol=0 if not name.endswith("jpg") else 4, err_msg=name)


def png(values: NDArray[np.uint8], filters: list[int]) -> bytes:
    """A grey PNG whose rows have given filter types (PNG specification, section 9), in two IDAT chunks."""
    height, width = values.shape
    padded = np.pad(values.astype(int), ((1, 0), (1, 0)))
    rows = b""
    for row in range(height):
        now, left, above, corner = padded[row + 1, 1:], padded[row + 1, :-1], padded[row, 1:], padded[row, :-1]
        guess = left + above - corner
        distances = np.abs(np.stack([guess - left, guess - above, guess - corner]))
        paeth = np.choose(distances.argmin(axis=0), [left, above, corner])
        predicted = [0 * now, left, above, (left + above) // 2, paeth][filters[row]]
        rows += bytes([filters[row]]) + ((now - predicted) % 256).astype(np.uint8).tobytes()
    packed = zlib.compress(rows)

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    half = len(packed) // 2
    parts = [(b"IHDR", header), (b"tEXt", b"a\0b"), (b"IDAT", packed[:half]), (b"IDAT", packed[half:]), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def decoded_png(page: Tab, content: bytes) -> Any:
    text = json.dumps(list(content))
    return page.evaluate(
        "import('./page/decoding.js').then(async ({decodeGreyPng}) => { try {"
        f"const {{width, height, values}} = await decodeGreyPng(Uint8Array.from({text}));"
        "return [height, width, [...values]]; } catch (error) { return error.message; } })"
    )


def test_label_maps_are_decoded_exactly(page: Tab) -> None:
    values = np.random.default_rng(1).integers(0, 256, (55, 23), dtype=np.uint8)
    values[20:] %= 6  # ties between Paeth's candidates
    content = png(values, [0, 1, 2, 3, 4, 4, 3, 2, 1, 0, 4] * 5)
    np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(content))), values)
    assert decoded_png(page, content) == [55, 23, values.ravel().tolist()]


def test_other_label_maps_are_refused(page: Tab) -> None:
    values = np.arange(64, dtype=np.uint8).reshape(8, 8)
    whole = png(values, [0] * 8)
    assert decoded_png(page, b"GIF89a" + bytes(40)) == "the label map is not a PNG file"
    buffer = io.BytesIO()
    Image.fromarray(values.astype(np.uint16)).save(buffer, "PNG")
    assert "PNG of 16 bits and colour type 0" in decoded_png(page, buffer.getvalue())
    assert isinstance(decoded_png(page, whole[: len(whole) // 2]), str)
