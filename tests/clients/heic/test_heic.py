"""HEIC photographs, written by pillow-heif: read, turned by EXIF, and refused as masks."""

from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("pillow_heif", reason="make test-clients")

import pillow_heif
from PIL import Image

from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import read_image
from pyramidseg.inspection.training_check import check_dataset


def photograph(path: Path, *, orientation: int = 1) -> Path:
    """A dark image, 48 x 32, whose left half is red."""
    pillow_heif.register_heif_opener()
    pixels = np.zeros((32, 48, 3), np.uint8)
    pixels[:, :24, 0] = 200
    exif = Image.Exif()
    exif[0x0112] = orientation
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, format="HEIF", quality=95, exif=exif.tobytes())
    return path


@pytest.mark.parametrize("extension", [".heic", ".HEIC", ".heif"])
def test_a_photograph_is_read(extension: str, tmp_path: Path) -> None:
    pixels = read_image(photograph(tmp_path / f"a{extension}"), channels=3)
    assert pixels.shape == (32, 48, 3) and pixels.dtype == np.uint8
    assert abs(int(pixels[16, 8, 0]) - 200) < 12 and pixels[16, 40].max() < 12


def test_images_of_a_dataset_may_be_heic_and_masks_may_not(tmp_path: Path) -> None:
    for name in "abc":
        photograph(tmp_path / "images" / f"{name}.heic")
        mask = np.zeros((32, 48), np.uint8)
        mask[:, :24] = 1
        (tmp_path / "masks").mkdir(exist_ok=True)
        Image.fromarray(mask).save(tmp_path / "masks" / f"{name}.png")
    dataset = open_dataset(tmp_path, DataConfig())
    check_dataset(dataset)
    assert sum(map(len, dataset.splits.values())) == 3
    photograph(tmp_path / "masks" / "a.heic")
    (tmp_path / "masks" / "a.png").unlink()
    with pytest.raises(DataError, match=r"a\.heic"):
        check_dataset(open_dataset(tmp_path, DataConfig()))


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_a_turned_photograph_is_shown_as_other_programs_show_it(orientation: int, tmp_path: Path) -> None:
    file = photograph(tmp_path / "a.heic", orientation=orientation)
    expected = np.asarray(pillow_heif.open_heif(file).to_pillow())  # pillow-heif turns it by the file's own boxes
    assert read_image(file, channels=3).shape == expected.shape
