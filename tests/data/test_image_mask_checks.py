from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from made_files import write
from pyramidseg.base.defects import DefectKind
from pyramidseg.data.image_mask_checks import ExifStatus, exif_status, is_resizable, size_mismatch
from pyramidseg.data.records import Record
from pyramidseg.formats import labelme
from pyramidseg.formats.region_masks import Objects, RegionMasks
from pyramidseg.formats.yolo import yolo_masks

SIDE = st.integers(1, 3000)


def pair(folder: Path, tag: int, own: int) -> Record:
    record = Record("a", folder / "a.jpg", folder / "a.png")
    for file, orientation in ((record.image, tag), (folder / "a.png", own)):
        exif = Image.Exif()
        if orientation > 1:
            exif[0x0112] = orientation
        Image.new("L", (8, 6)).save(file, exif=exif)
    return record


@given(SIDE, SIDE, st.floats(0.01, 1), st.sampled_from([int, round, lambda side: int(side) + 1]))
def test_scaled_mask_is_resizable_however_its_sides_were_rounded(
    height: int, width: int, scale: float, whole: Callable[[float], int]
) -> None:
    mask = max(1, whole(scale * height)), max(1, whole(scale * width))
    if mask != (width, height):
        assert is_resizable(image=(height, width), mask=mask)
        assert is_resizable(image=mask, mask=(height, width))


@pytest.mark.parametrize(
    ("image", "mask"),
    [((480, 640), (640, 480)), ((480, 640), (480, 480)), ((100, 101), (101, 100)), ((96, 128), (90, 128))],
)
def test_mask_of_another_shape_is_not_resizable(image: tuple[int, int], mask: tuple[int, int]) -> None:
    assert not is_resizable(image=image, mask=mask)


@pytest.mark.parametrize(
    ("tag", "own", "kind", "said"),
    [
        (6, 1, DefectKind.EXIF_TURNED, "the image is turned by its EXIF orientation 6"),
        (8, 3, DefectKind.EXIF_TURNED, "the image is turned by its EXIF orientation 8"),
        (1, 5, DefectKind.EXIF_TURNED, "the mask is turned by its EXIF orientation 5"),
        (1, 1, DefectKind.SIZE_DIFFERS, "one of them seems to be turned"),
    ],
)
def test_mask_on_its_side_is_told_with_the_tag_that_turns_either(
    tmp_path: Path, tag: int, own: int, kind: DefectKind, said: str
) -> None:
    defect = size_mismatch(pair(tmp_path, tag, own), image=(8, 6), mask=(6, 8)).defect
    assert defect.kind is kind
    assert defect.file == tmp_path / "a.png"
    assert said in defect.detail
    assert "resize_masks" not in defect.detail


def test_error_about_a_resizable_mask_names_the_setting(tmp_path: Path) -> None:
    assert "resize_masks: true" in size_mismatch(pair(tmp_path, 1, 1), image=(6, 8), mask=(3, 4)).defect.detail


@pytest.mark.parametrize(
    ("tag", "own", "size", "expected"),
    [
        (1, 1, (6, 8), ExifStatus.CONSISTENT),
        (3, 3, (6, 8), ExifStatus.CONSISTENT),
        (6, 1, (8, 6), ExifStatus.CONFIRMED),
        (1, 6, (8, 6), ExifStatus.CONFIRMED),
        (6, 1, (6, 6), ExifStatus.UNVERIFIED),
        (3, 1, (6, 8), ExifStatus.UNVERIFIED),
        (1, 3, (6, 8), ExifStatus.MASK_ONLY),
        (6, 8, (8, 6), ExifStatus.MASK_ONLY),
    ],
)
def test_exif_status_follows_both_tags(
    tmp_path: Path, tag: int, own: int, size: tuple[int, int], expected: ExifStatus
) -> None:
    assert exif_status(pair(tmp_path, tag, own), size, tag, own) is expected


def test_outlines_have_no_exif_tag(tmp_path: Path) -> None:
    record = pair(tmp_path, 3, 1)
    assert exif_status(Record("a", record.image, tmp_path / "a.json"), (6, 8), 3, 1) is ExifStatus.CONSISTENT


def no_regions(object: object, size: object, where: object) -> tuple[()]:
    return ()


@pytest.mark.parametrize("tag", [1, 3, 6])
@pytest.mark.parametrize(("name", "objects"), [("a.txt", yolo_masks.objects), ("a.json", labelme._objects)])
def test_outlines_without_a_size_fit_any_orientation(
    tmp_path: Path, name: str, objects: Callable[[Record], Objects], tag: int
) -> None:
    record = Record("a", pair(tmp_path, tag, 1).image, write(tmp_path / name, "{}"))
    values = RegionMasks(objects, no_regions, {}, ())
    assert exif_status(record, (8, 6), tag, 1, values) is (ExifStatus.CONSISTENT if tag == 1 else ExifStatus.UNVERIFIED)


def test_outlines_with_a_size_are_consistent(tmp_path: Path) -> None:
    file = write(tmp_path / "a.json", '{"imageHeight": 8, "imageWidth": 6, "shapes": []}')
    record = Record("a", pair(tmp_path, 6, 1).image, file)
    assert exif_status(record, (8, 6), 6, 1, RegionMasks(labelme._objects, no_regions, {}, ())) is ExifStatus.CONSISTENT
