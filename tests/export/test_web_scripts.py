"""The scripts of a web page, in headless Chromium without the runtime: pixels of files, tiles, label maps."""

import base64
import io
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

import pixel_samples
from chromium import CHROMIUM, Chromium, Tab
from pyramidseg.backends import LogitGeometry
from pyramidseg.export.web import _text
from pyramidseg.predict.input_images import load_image
from pyramidseg.predict.segmentation import OutputOptions, segment_row_blocks
from pyramidseg.predict.tiling import Tiles, blend_tiles, tile_grid
from pyramidseg.predict.upsampling import bilinear_axis

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")


class Handler(BaseHTTPRequestHandler):
    """An empty page, and the scripts of the pages as modules."""

    def log_message(self, *arguments: object) -> None: ...

    def do_GET(self) -> None:
        name = self.path.removeprefix("/")
        content = _text(name).encode() if name.endswith(".js") else b"<!doctype html><title>t</title>"
        self.send_response(200)
        self.send_header("Content-Type", "text/javascript" if name.endswith(".js") else "text/html")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    browser = Chromium(tmp_path_factory.mktemp("profile"))
    with browser.tab() as tab:
        tab.open(f"http://127.0.0.1:{server.server_port}/")
        yield tab
    browser.close()
    server.shutdown()
    server.server_close()


def base64_of(content: bytes) -> str:
    return base64.b64encode(content).decode()


def pixels(tab: Tab, content: bytes, channels: int | list[int] = 3, part: str = "0, 0, f.width, f.height") -> Any:
    """(height, width, channels) as the page hands them to a model, or the sentence of its refusal."""
    found = tab.evaluate(
        "(async () => { const {openImage} = await import('./image_files.js');"
        "const {bytesOfBase64} = await import('./decoding.js');"
        f"try {{ const f = await openImage(bytesOfBase64('{base64_of(content)}'), {json.dumps(channels)});"
        f"const [left, top, width, height] = [{part}]; const values = f.window(left, top, width, height);"
        "f.close(); return {bits: f.bits, width, height, values: [...values]}; }"
        "catch (error) { return error.message; } })()"
    )
    if isinstance(found, str):
        return found
    values = np.array(found["values"], np.uint16 if found["bits"] == 16 else np.uint8)
    return values.reshape(-1, found["height"], found["width"]).transpose(1, 2, 0)


@pytest.mark.parametrize("name", list(pixel_samples.files()))
def test_files_have_the_pixels_that_python_reads(tab: Tab, name: str) -> None:
    content = pixel_samples.files()[name]
    expected = load_image(content, channels=3)
    found = pixels(tab, content)
    assert not isinstance(found, str), found
    assert found.dtype == expected.dtype
    np.testing.assert_array_equal(found, expected)


def test_the_stored_samples_are_these_files_as_python_reads_them() -> None:
    stored = json.loads(pixel_samples.FILE.read_text())
    assert [one["name"] for one in stored] == list(pixel_samples.files())
    for one in stored:
        content = base64.b64decode(one["file"])
        assert {"name": one["name"], **pixel_samples.sample(content, one["channels"])} == one


def colors() -> NDArray[np.uint8]:
    return pixel_samples.pattern(11, 17, 3)


def palette_png(bits: int, *, transparent: bool = False) -> bytes:
    image = Image.fromarray(colors()).quantize(2**bits)
    content = io.BytesIO()
    image.save(content, "PNG", bits=bits, **({"transparency": 1} if transparent else {}))
    return content.getvalue()


def interlaced(values: NDArray[Any]) -> bytes:
    """A PNG in seven passes (Adam7), which no library here writes."""
    height, width, samples = values.shape
    rows = b""
    steps = [(0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)]
    for x, y, dx, dy in steps:
        for row in values[y::dy, x::dx]:
            if len(row):
                rows += b"\0" + row.astype(row.dtype.newbyteorder(">")).tobytes()
    header = pixel_samples.struct.pack(
        ">IIBBBBB", width, height, 8 * values.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[samples], 0, 0, 1
    )
    parts = ((b"IHDR", header), (b"IDAT", pixel_samples.zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(pixel_samples.chunk(*part) for part in parts)


def jpeg(values: NDArray[np.uint8], **options: Any) -> bytes:
    return pixel_samples.saved(values, "JPEG", **options)


XMP = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="6"/></x:xmpmeta>'

OTHERS = {
    **{f"palette of {bits} bits": palette_png(bits) for bits in (1, 2, 4, 8)},
    "palette with transparency": palette_png(4, transparent=True),
    "1 bit": pixel_samples.saved(colors()[..., 0] > 128, "PNG"),
    "grey and alpha": pixel_samples.saved(pixel_samples.pattern(9, 13, 2), "PNG"),
    "grey of 16 bits": pixel_samples.deep(colors()[..., :1]),
    "interlaced": interlaced(colors()),
    "interlaced, 16 bits": interlaced(pixel_samples.pattern(9, 5, 3).astype(np.uint16) * 257 + 3),
    "interlaced, one pixel": interlaced(colors()[:1, :1]),
    "XMP in PNG": pixel_samples.with_chunks(pixel_samples.saved(colors(), "PNG"), orientation=1).replace(
        pixel_samples.chunk(b"eXIf", pixel_samples.exif(1)),
        pixel_samples.chunk(b"iTXt", b"XML:com.adobe.xmp\0\0\0\0\0" + XMP),
    ),
    "XMP in JPEG": jpeg(colors(), xmp=XMP),
    "grey JPEG": jpeg(colors()[..., 0], exif=b"Exif\0\0" + pixel_samples.exif(7)),
    "progressive JPEG without subsampling": jpeg(colors(), progressive=True, subsampling=0, quality=80),
    "JPEG in RGB": jpeg(colors(), keep_rgb=True),
    "JPEG with a restart interval": jpeg(colors(), restart_marker_blocks=1),
    **{
        f"orientation {turn}": pixel_samples.with_chunks(pixel_samples.saved(colors(), "PNG"), orientation=turn)
        for turn in range(9)
    },
}


@pytest.mark.parametrize("name", list(OTHERS))
def test_other_files_have_the_pixels_that_python_reads(tab: Tab, name: str) -> None:
    for channels in (3, 1):
        found = pixels(tab, OTHERS[name], channels)
        assert not isinstance(found, str), found
        np.testing.assert_array_equal(found, load_image(OTHERS[name], channels=channels))


def test_an_image_of_four_channels_keeps_its_alpha(tab: Tab) -> None:
    for content in (pixel_samples.saved(pixel_samples.pattern(9, 13, 4), "PNG"), palette_png(8, transparent=True)):
        np.testing.assert_array_equal(pixels(tab, content, 4), load_image(content, channels=4))


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_window_is_a_part_of_the_turned_image(tab: Tab, turn: int) -> None:
    for content in (
        pixel_samples.with_chunks(pixel_samples.saved(colors(), "PNG"), orientation=turn),
        jpeg(colors(), exif=b"Exif\0\0" + pixel_samples.exif(turn)),
    ):
        whole = load_image(content, channels=3)
        np.testing.assert_array_equal(pixels(tab, content, 3, "2, 3, 7, 5"), whole[3:8, 2:9])


def truncated(content: bytes) -> bytes:
    return content[: len(content) * 2 // 3]


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "The file is empty"),
        (b"GIF89a" + bytes(40), "This page reads JPEG, PNG and WebP files"),
        (truncated(jpeg(colors())), "damaged or incomplete"),
        (truncated(pixel_samples.saved(colors(), "PNG")), "damaged or incomplete"),
        (truncated(pixel_samples.saved(colors(), "WEBP")), "damaged or incomplete"),
        (b"\xff\xd8\xff" + bytes(20), "damaged or incomplete"),
        (pixel_samples.saved(pixel_samples.pattern(9, 13, 4), "WEBP", lossless=True), "Save the image as PNG"),
        (pixel_samples.saved(pixel_samples.pattern(9, 9, 2), "PNG").replace(b"IHDR", b"IHDR"), "2 channels"),
        (
            (lambda file: (Image.fromarray(colors()).convert("CMYK").save(file, "JPEG"), file.getvalue())[1])(
                io.BytesIO()
            ),
            "4 components",
        ),
        (
            (
                lambda file: (
                    Image.fromarray(colors()).save(
                        file, "PNG", save_all=True, append_images=[Image.fromarray(255 - colors())]
                    ),
                    file.getvalue(),
                )[1]
            )(io.BytesIO()),
            "several pictures",
        ),
        (
            (
                lambda file: (
                    Image.fromarray(colors()).save(
                        file, "WEBP", save_all=True, append_images=[Image.fromarray(255 - colors())]
                    ),
                    file.getvalue(),
                )[1]
            )(io.BytesIO()),
            "several pictures",
        ),
        (
            b"\x89PNG\r\n\x1a\n"
            + pixel_samples.chunk(b"IHDR", pixel_samples.struct.pack(">IIBBBBB", 20_000, 20_000, 8, 2, 0, 0, 0)),
            "at most 250 million",
        ),
    ],
)
def test_a_file_that_cannot_be_read_exactly_is_refused(tab: Tab, content: bytes, words: str) -> None:
    found = pixels(tab, content, 4 if words == "2 channels" else 3)
    assert isinstance(found, str)
    assert words in found


# ---- tiles and label maps


def page_segmentation(
    tab: Tab, points: NDArray[np.float32], size: tuple[int, int], tiles: Tiles, geometry: LogitGeometry
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Labels and confidence by the page's scripts: (K, h, w) points are the logits of the whole image, of which a tile
    takes its part, and what it adds depends on where it starts."""
    classes, height, width = points.shape
    script = f"""(async () => {{
      const {{windowsAlong, blendTiles}} = await import('./tiles.js');
      const {{bilinearAxis, labelMap, greyPng}} = await import('./label_maps.js');
      const {{bytesOfBase64, decodeGreyPng}} = await import('./decoding.js');
      const points = new Float32Array(bytesOfBase64('{base64_of(points.tobytes())}').buffer);
      const geometry = {{stride: {geometry.stride}, padding: 32, alignCorners: {json.dumps(geometry.align_corners)}}};
      const tiles = {{tile: {tiles.tile_px}, overlap: {tiles.overlap_px}, margin: {tiles.margin_px}}};
      const [rows, columns] = {list(size)}.map((length) => windowsAlong(length, {{...tiles, ...geometry}}));
      const predict = async (left, top, width, height) => {{
        const [h, w] = [height, width].map((side) => Math.ceil(side / 32) * 32 / geometry.stride);
        const logits = new Float32Array({classes} * h * w);
        for (let k = 0; k < {classes}; k++) for (let y = 0; y < h; y++) for (let x = 0; x < w; x++)
          logits[(k * h + y) * w + x] =
            points[(k * {height} + y + top / geometry.stride) * {width} + x + left / geometry.stride]
            + 0.1 * ((left + 3 * top) % 7) * k;
        return {{logits, height: h, width: w}};
      }};
      const axes = [bilinearAxis({height}, {size[0]}, geometry), bilinearAxis({width}, {size[1]}, geometry)];
      const maps = await labelMap(blendTiles(predict, rows, columns, {classes}), ...axes, {classes});
      const png = await greyPng(maps.labels, {size[1]}, {size[0]});
      return [[...png], [...(await decodeGreyPng(png)).values], [...maps.confidence]];
    }})()"""
    png, labels, confidence = tab.evaluate(script)
    stored = np.asarray(Image.open(io.BytesIO(bytes(png))))
    np.testing.assert_array_equal(stored.ravel(), labels)
    return stored, np.array(confidence, np.uint8).reshape(size)


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize(
    ("size", "tiles"),
    [
        ((70, 150), Tiles(256, 64)),
        ((201, 330), Tiles(96, 32, 8)),
        ((97, 64), Tiles(64, 32, 16)),
        ((1, 161), Tiles(64, 0)),
    ],
)
def test_tiles_are_blended_as_in_python(tab: Tab, size: tuple[int, int], tiles: Tiles, align_corners: bool) -> None:
    geometry = LogitGeometry(4, align_corners)
    points = tuple(-(-side // 32) * 8 for side in size)
    logits = np.random.default_rng(2).normal(0, 2, (5, *points)).astype(np.float32)
    found, confidence = page_segmentation(tab, logits, size, tiles, geometry)

    place = np.arange(size[0] * size[1], dtype=np.float32).reshape(1, *size)  # tells a window where it is

    def predict(window: torch.Tensor) -> torch.Tensor:
        top, left = divmod(int(window[0, 0, 0, 0]), size[1])
        rows, columns = (-(-side // 32) * 8 for side in window.shape[-2:])
        part = torch.from_numpy(logits[None, :, top // 4 : top // 4 + rows, left // 4 : left // 4 + columns])
        return part + 0.1 * ((left + 3 * top) % 7) * torch.arange(5)[:, None, None]

    grid = tile_grid(*size, tiles, stride=4, padding_px=32)
    axes = [bilinear_axis(count, side, geometry) for count, side in zip(points, size, strict=True)]
    blocks = blend_tiles(predict, torch.from_numpy(place), grid)
    expected = segment_row_blocks(blocks, *axes, geometry, range(5), OutputOptions(confidence=True))  # type: ignore[arg-type]
    assert (found == expected.labels).mean() > 0.9999
    np.testing.assert_allclose(confidence / 255, expected.confidence, atol=0.003)


def test_logits_that_are_not_finite_have_no_labels(tab: Tab) -> None:
    for value in (np.nan, np.inf):
        logits = np.zeros((3, 8, 8), np.float32)
        logits[1, 2, 3] = value
        with pytest.raises(AssertionError, match="logits are not finite"):
            page_segmentation(tab, logits, (30, 30), Tiles(64, 0), LogitGeometry(4, False))
