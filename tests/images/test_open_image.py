import struct
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from pyramidseg.base.errors import DataError
from pyramidseg.images.decode import image_size, read_image
from pyramidseg.images.file_checks import MAX_PIXELS
from pyramidseg.images.image_files import list_images
from pyramidseg.images.open_image import apply_orientation


def touch(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    return path


def png_chunk(name: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def noise(height: int, width: int, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


class TestListImages:
    def test_is_recursive_sorted_by_path_and_blind_to_case(self, tmp_path: Path) -> None:
        names = ["b/2.JPG", "a/z.png", "10.TIFF", "b/1.jpeg"]
        for name in [*names, "notes.txt", "a/data.json"]:
            touch(tmp_path / name)
        found = [path.relative_to(tmp_path).as_posix() for path in list_images(tmp_path)]
        assert found == ["10.TIFF", "a/z.png", "b/1.jpeg", "b/2.JPG"]

    def test_leaves_out_hidden_files_and_folders(self, tmp_path: Path) -> None:
        for name in ["._a.jpg", ".ipynb_checkpoints/a.jpg", "a.jpg"]:
            touch(tmp_path / name)
        assert list_images(tmp_path) == [tmp_path / "a.jpg"]

    def test_follows_links_but_never_in_a_circle(self, tmp_path: Path) -> None:
        touch(tmp_path / "elsewhere" / "a.png")
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "link").symlink_to(tmp_path / "elsewhere")
        (tmp_path / "folder" / "circle").symlink_to(tmp_path / "folder")
        assert list_images(tmp_path / "folder") == [tmp_path / "folder" / "link" / "a.png"]


class TestOrientation:
    @pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
    @pytest.mark.parametrize("orientation", range(1, 9))
    def test_turns_a_file_as_its_tag_asks_for(self, tmp_path: Path, suffix: str, orientation: int) -> None:
        path, image = tmp_path / f"image.{suffix}", noise(24, 40)
        exif = Image.Exif()
        exif[0x0112] = orientation
        image.save(path, exif=exif, lossless=True)
        with Image.open(path) as unturned:  # Pillow's own turning is the oracle
            expected = np.asarray(ImageOps.exif_transpose(unturned))
        assert np.array_equal(read_image(path, channels=3), expected)
        assert image_size(path) == expected.shape[:2]

    @pytest.mark.parametrize("orientation", [0, 9, 77])
    def test_ignores_a_tag_that_means_nothing(self, tmp_path: Path, orientation: int) -> None:
        exif = Image.Exif()
        exif[0x0112] = orientation
        noise(6, 9).save(tmp_path / "a.png", exif=exif)
        assert image_size(tmp_path / "a.png") == (6, 9)

    @pytest.mark.parametrize(
        ("orientation", "inverse"), [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (6, 8), (7, 7), (8, 6)]
    )
    def test_every_turn_has_its_inverse(self, orientation: int, inverse: int) -> None:
        values = np.arange(6).reshape(2, 3)
        assert np.array_equal(apply_orientation(apply_orientation(values, orientation), inverse), values)


class TestRefusals:
    def test_bomb_is_refused_by_its_header(self, tmp_path: Path) -> None:
        side = int(MAX_PIXELS**0.5) + 1
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        path = tmp_path / "bomb.png"
        path.write_bytes(
            b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", zlib.compress(b"\0" * 99))
        )
        for read in (lambda: read_image(path, channels=3), lambda: image_size(path)):
            with pytest.raises(DataError, match=rf"bomb\.png: {side} x {side} pixels exceed the limit of 250 million"):
                read()

    def test_large_image_below_the_cap_has_a_size(self, tmp_path: Path) -> None:
        header = struct.pack(">IIBBBBB", 20000, 10000, 8, 0, 0, 0, 0)  # Pillow alone refuses it
        path = tmp_path / "large.png"
        path.write_bytes(b"\x89PNG\r\n\x1a\n" + png_chunk(b"IHDR", header) + png_chunk(b"IDAT", b"\0" * 30_000))
        assert image_size(path) == (10000, 20000)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp", "gif"])
    @pytest.mark.parametrize("mode", ["1", "L", "RGB"])
    def test_the_emptiest_image_of_each_format_is_read(self, tmp_path: Path, suffix: str, mode: str) -> None:
        path = tmp_path / f"blank.{suffix}"
        options = {
            "jpg": {"quality": 1, "optimize": True, "progressive": True, "subsampling": 2 if mode == "RGB" else 0},
            "png": {"compress_level": 9},
            "tif": {"compression": "group4" if mode == "1" else "tiff_adobe_deflate"},
        }
        Image.new(mode, (3000, 2000)).save(path, **options.get(suffix, {}))
        assert image_size(path) == (2000, 3000)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "gif"])
    def test_header_that_promises_more_than_the_file_can_hold_is_refused(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"hollow.{suffix}"
        noise(8, 8).save(path)
        content = bytearray(path.read_bytes())
        place, size = {
            "jpg": (content.find(b"\xff\xc0") + 5, struct.pack(">HH", 15_000, 15_000)),
            "png": (16, struct.pack(">II", 15_000, 15_000)),
            "gif": (6, struct.pack("<HH", 15_000, 15_000)),
        }[suffix]
        content[place : place + len(size)] = size
        if suffix == "png":
            content[29:33] = struct.pack(">I", zlib.crc32(content[12:29]))
        path.write_bytes(content)
        with pytest.raises(DataError, match=r"says 15000 x 15000 pixels, more than a .* file of .* bytes can hold"):
            image_size(path)

    @pytest.mark.parametrize("suffix", ["jpg", "png", "tif", "bmp", "webp", "gif"])
    def test_truncated_file_is_named(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"half.{suffix}"
        noise(64, 64).save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(DataError, match=rf"half\.{suffix}: cannot be read as an image: .+; replace or remove"):
            read_image(path, channels=3)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [(b"", "the file is empty"), (b"<html>not found</html>", "is not an image in a supported")],
    )
    def test_what_is_no_image_is_named(self, tmp_path: Path, content: bytes, reason: str) -> None:
        (tmp_path / "a.jpg").write_bytes(content)
        with pytest.raises(DataError, match=rf"a\.jpg: {reason}|a\.jpg: the file is empty"):
            image_size(tmp_path / "a.jpg")

    def test_absent_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match=r"a\.jpg: no such file"):
            image_size(tmp_path / "a.jpg")

    def test_folder_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="a folder, not an image"):
            image_size(tmp_path)

    @pytest.mark.parametrize("suffix", ["gif", "png", "tif", "webp"])
    def test_several_pages_are_refused(self, tmp_path: Path, suffix: str) -> None:
        path = tmp_path / f"pages.{suffix}"
        noise(8, 8).save(path, save_all=True, append_images=[noise(8, 8, seed=1)])
        with pytest.raises(DataError, match="several pages or frames"):
            read_image(path, channels=3)

    @given(place=st.integers(0, 10**6), value=st.integers(0, 255), suffix=st.sampled_from(["jpg", "png", "tif", "gif"]))
    @settings(max_examples=150, deadline=None)
    def test_damaged_bytes_give_an_image_or_a_data_error(
        self, tmp_path_factory: pytest.TempPathFactory, place: int, value: int, suffix: str
    ) -> None:
        path = tmp_path_factory.getbasetemp() / f"mutant.{suffix}"
        noise(12, 12).save(path)
        content = bytearray(path.read_bytes())
        content[place % len(content)] = value
        path.write_bytes(content)
        with suppress(DataError):
            image = read_image(path, channels=3)
            assert image.shape == (*image_size(path), 3)
