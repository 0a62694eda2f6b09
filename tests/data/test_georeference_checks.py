from pathlib import Path

import numpy as np
import pytest

from made_files import mask
from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.data.image_mask_checks import check_georeference
from pyramidseg.data.records import Record
from pyramidseg.images.open_image import open_image

SIDE = 8


def pair(folder: Path, *, side: int = SIDE, crs: str | None = UTM, transform: tuple[float, ...] = TRANSFORM) -> Record:
    """An image on the default grid, and a mask on the given one."""
    image = write_image(folder / "image.tif", np.zeros((SIDE, SIDE, 3), np.uint8))
    labels = write_image(folder / "mask.tif", np.zeros((side, side, 1), np.uint8), crs=crs, transform=transform)
    return Record("a", image, labels)


def check(record: Record) -> None:
    """`check_georeference` with the tags of both files."""
    tags = []
    for file in (record.image, record.mask):
        assert file is not None
        with open_image(file) as opened:
            tags.append(opened.tiff)
    check_georeference(record, *tags)


def moved(columns: float, *, factor: float = 1) -> tuple[float, ...]:
    a, b, c, d, e, f = TRANSFORM
    return a * factor, b, c + columns * a, d, e * factor, f


@pytest.mark.parametrize("columns", [0.6, -80])
def test_mask_on_another_grid_is_refused(tmp_path: Path, columns: float) -> None:
    with pytest.raises(DefectError, match=rf"is {abs(columns):.1f} pixels away .*UTM zone 16N") as caught:
        check(pair(tmp_path, transform=moved(columns)))
    assert caught.value.defect.kind is DefectKind.OFF_GRID


def test_mask_on_another_map_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DefectError, match=r"UTM zone 17N.* and the image .*UTM zone 16N"):
        check(pair(tmp_path, crs="EPSG:32617"))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"transform": moved(0.4)},
        {"transform": moved(0, factor=2), "side": SIDE // 2},  # of a coarser resolution, for `resize_masks`
        {"transform": moved(7), "crs": None},
    ],
)
def test_what_fits_or_does_not_say_is_taken(tmp_path: Path, options: dict[str, object]) -> None:
    check(pair(tmp_path, **options))  # type: ignore[arg-type]


def test_mask_without_a_place_is_taken(tmp_path: Path) -> None:
    record = pair(tmp_path)
    check(Record("a", record.image, mask(tmp_path / "mask.png")))
