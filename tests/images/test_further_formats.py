"""PGM, PPM, JPEG 2000 and AVIF: exact values; HEIC without its extra."""

import io
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError, MissingExtra
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import read_header, read_image
from pyramidseg.images.open_image import open_image

VALUES = np.arange(12, dtype=np.uint16).reshape(3, 4) * 5000 + 7


@pytest.mark.parametrize("limit", [65535, 60000, 4095])
def test_pgm_of_16_bits_is_exact(tmp_path: Path, limit: int) -> None:
    values = np.minimum(VALUES, limit)
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5\n# made by a camera\n4 3\n%d\n" % limit + values.astype(">u2").tobytes())
    assert read_header(path)[:4] == (3, 4, 1, "uint16")
    assert np.array_equal(read_image(path, channels=1)[..., 0], values)


@pytest.mark.parametrize("limit", [255, 18])
def test_pgm_of_few_levels_is_not_stretched(tmp_path: Path, limit: int) -> None:
    values = np.arange(12, dtype=np.uint8).reshape(3, 4)
    path = tmp_path / "a.pgm"
    path.write_bytes(b"P5 4 3 %d\n" % limit + values.tobytes())
    assert np.array_equal(read_image(path, channels=1)[..., 0], values)


def test_ppm_of_16_bits_is_exact_and_truncated_ones_are_named(tmp_path: Path) -> None:
    values = np.stack([VALUES, VALUES[::-1], VALUES[:, ::-1]], axis=2)
    path = tmp_path / "a.ppm"
    content = b"P6 4 3 65535\n" + values.astype(">u2").tobytes()
    path.write_bytes(content)
    assert read_image(path, channels=3).dtype == np.uint16
    assert np.array_equal(read_image(path, channels=3), values)
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match="truncated"):
        read_image(path, channels=3)


def test_jpeg_2000_is_exact(tmp_path: Path) -> None:
    Image.fromarray(VALUES).save(tmp_path / "a.jp2", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "a.jp2", channels=1)[..., 0], VALUES)
    color = np.stack([VALUES % 256] * 3, axis=2).astype(np.uint8)
    Image.fromarray(color).save(tmp_path / "a.j2k", irreversible=False)
    assert np.array_equal(read_image(tmp_path / "a.j2k", channels=3), color)


def test_jpeg_2000_of_48_bits_is_exact_and_36_bits_are_refused(tmp_path: Path) -> None:
    values = np.random.default_rng(0).integers(0, 65536, (64, 96, 3)).astype(np.uint16)
    path = tmp_path / "a.jp2"
    cv2.imwrite(str(path), values[..., ::-1], [cv2.IMWRITE_JPEG2000_COMPRESSION_X1000, 1000])
    assert np.array_equal(read_image(path, channels=3), values)
    content = path.read_bytes()
    start = content.index(b"\xff\x4f\xff\x51") + 42
    twelve = bytearray(content)
    twelve[start : start + 9 : 3] = b"\x0b" * 3
    path.write_bytes(twelve)
    with pytest.raises(DataError, match="12 bits are not supported"):
        read_header(path)


def test_avif_turns_as_exif_prescribes(tmp_path: Path) -> None:
    image = Image.new("RGB", (40, 24), (200, 30, 60))
    exif = image.getexif()
    exif[274] = 6
    image.save(tmp_path / "a.avif", exif=exif, quality=100)
    values = read_image(tmp_path / "a.avif", channels=3)
    assert values.shape == (40, 24, 3)
    assert np.abs(values.mean((0, 1)) - (200, 30, 60)).max() < 4


def test_heic_needs_its_extra() -> None:
    content = b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100)
    try:
        import pillow_heif  # type: ignore[import-not-found]  # noqa: F401
    except ImportError:
        with pytest.raises(MissingExtra, match="heic"):
            read_image(Path("IMG_5.HEIC"), channels=3, content=io.BytesIO(content).getvalue())


@pytest.mark.parametrize("name", ["a.avif", "a.jp2"])
def test_lossy_compression_is_recognised(tmp_path: Path, name: str) -> None:
    image = Image.new("L", (64, 64))
    image.save(tmp_path / name, **({"irreversible": True} if name == "a.jp2" else {}))
    with open_image(tmp_path / name) as file:
        assert file.lossy_compression in ("AVIF", "lossy JPEG 2000")
    image.save(tmp_path / "exact.jp2", irreversible=False)
    with open_image(tmp_path / "exact.jp2") as file:
        assert file.lossy_compression == ""


def test_inspection_notes_files_of_unread_types(tmp_path: Path) -> None:
    for kind in ("images", "masks"):
        for name in ("a", "b"):
            path = tmp_path / "train" / kind / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.eye(8, dtype=np.uint8)).save(path)
    for extra in ("film.mp4", "scan.dcm", "a.xml", "Thumbs.db"):
        (tmp_path / "train" / "images" / extra).touch()
    notes = "\n".join(open_dataset(tmp_path, DataConfig()).notes)
    assert "1 .dcm, 1 .mp4, such as film.mp4, are of types that are not read" in notes
