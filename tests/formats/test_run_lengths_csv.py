"""CSV of run lengths: columns by header, numbering of pixels, rows without pixels, and what cannot be read."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from pycocotools import mask as coco_mask

from made_files import all_ids, image, opened, write
from made_files import mask as index_mask
from pyramidseg.base.config import DataConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.data.records import Dataset
from pyramidseg.formats.open_dataset import open_with_defects
from pyramidseg.formats.yaml_proposal import AmbiguousDatasetError

HEIGHT, WIDTH = 8, 10


def table(root: Path, *rows: str) -> Path:
    for name in ("a.jpg", "b.jpg"):
        image(root / "images" / name, height=HEIGHT, width=WIDTH)
    return write(root / "train.csv", "\n".join(rows) + "\n")


def mask(dataset: Dataset, id: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    (record,) = [record for records in dataset.splits.values() for record in records if record.id == id]
    return dataset.masks.read(record)


@pytest.mark.parametrize(
    ("order", "pixels"),
    [
        ("columns-1", [[1, 0], [2, 0]]),
        ("columns-0", [[2, 0], [3, 0]]),
        ("rows-1", [[0, 1], [0, 2]]),
        ("rows-0", [[0, 2], [0, 3]]),
    ],
)
def test_the_setting_decides_which_pixels_a_run_covers(tmp_path: Path, order: str, pixels: list[list[int]]) -> None:
    table(tmp_path, "ImageId,EncodedPixels", "a.jpg,2 2", "b.jpg,2 2")
    dataset = opened(tmp_path, run_lengths=order)
    assert np.argwhere(mask(dataset, "images/a")).tolist() == pixels


@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # of pycocotools
@pytest.mark.parametrize("order", ["columns-1", "rows-0"])
def test_runs_cover_the_pixels_that_pycocotools_draws(order: str, tmp_path: Path) -> None:
    """It numbers pixels down the columns; along the rows they are those of the transposed image."""
    size = (HEIGHT, WIDTH) if order == "columns-1" else (WIDTH, HEIGHT)
    cells, expected = {}, {}
    for seed, name in enumerate("ab"):
        borders = np.sort(np.random.default_rng(seed).choice(HEIGHT * WIDTH, 12, replace=False))
        counts = np.diff(borders, prepend=0, append=HEIGHT * WIDTH).tolist()
        drawn = coco_mask.decode(coco_mask.frPyObjects({"size": size, "counts": counts}, *size))
        expected[name] = drawn if order == "columns-1" else drawn.T
        first = borders[::2] + (order == "columns-1")
        cells[name] = " ".join(map(str, np.stack([first, borders[1::2] - borders[::2]], 1).ravel()))
    table(tmp_path, "ImageId,EncodedPixels", f"a.jpg,{cells['a']}", f"b.jpg,{cells['b']}")
    dataset = opened(tmp_path, run_lengths=order)
    for name in "ab":
        np.testing.assert_array_equal(mask(dataset, f"images/{name}"), expected[name])


@pytest.mark.parametrize(
    ("row", "readings"),
    [
        ("a.jpg,5 2", ["columns-1", "columns-0", "rows-1", "rows-0"]),
        ("a.jpg,0 2", ["columns-0", "rows-0"]),
        ("a.jpg,79 2", ["columns-1", "rows-1"]),
    ],
)
def test_without_the_setting_the_possible_readings_are_proposed(tmp_path: Path, row: str, readings: list[str]) -> None:
    table(tmp_path, "ImageId,EncodedPixels", row, "b.jpg,")
    with pytest.raises(AmbiguousDatasetError) as caught:
        opened(tmp_path)
    suggestion = caught.value.suggestion
    assert [line.removeprefix("# ") for line in suggestion.splitlines() if "run_lengths" in line] == [
        f"run_lengths: {order}" for order in readings
    ]
    write(tmp_path / "dataset.yaml", suggestion)
    assert yaml.safe_load(suggestion) == {"run_lengths": readings[0]}
    assert mask(opened(tmp_path), "images/a").sum() == 2


def test_class_in_the_id_rows_anywhere_and_rows_without_pixels(tmp_path: Path) -> None:
    rows = ("a.jpg_2,1 8", "b.jpg_1,", "b.jpg_2,-1", "a.jpg_1,9 8")
    table(tmp_path, "ImageId_ClassId,EncodedPixels", *rows)
    dataset = opened(tmp_path, run_lengths="columns-1")
    assert dataset.classes.names == ("background", "1", "2")
    assert mask(dataset, "images/a")[0].tolist() == [2, 1] + 8 * [0]
    assert not mask(dataset, "images/b").any()


def test_columns_are_found_by_header_and_names_may_lack_the_extension(tmp_path: Path) -> None:
    rows = ('"8 1",Public,"fig, ripe",a', '"16 1",Ignored,"fig, ripe",a', '"",Public,leaf,b')
    table(tmp_path, "EncodedPixels,Usage,Class,ImageId", *rows)
    dataset = opened(tmp_path, run_lengths="columns-1")
    assert dataset.classes.names == ("background", "fig, ripe") and all_ids(dataset) == ["images/a", "images/b"]
    assert np.argwhere(mask(dataset, "images/a")).tolist() == [[7, 0], [7, 1]]


@pytest.mark.parametrize(
    "rows",
    [
        ("id,annotation,width,height", "a,,10,8", "a,1 8,10,8", "b,9 8,10,8"),
        ("id,class,segmentation", "a,leaf,1 8", "b,leaf,9 8"),
        ("ImageId;EncodedPixels", "a.jpg;1 8", "b.jpg;9 8"),
        ("\ufeffImageId;ClassId;EncodedPixels", 'a.jpg;leaf;"1 8"', "b.jpg;leaf;9 8"),
    ],
)
def test_other_names_of_columns_and_semicolons_between_them(tmp_path: Path, rows: tuple[str, ...]) -> None:
    table(tmp_path, *rows)
    dataset = opened(tmp_path, run_lengths="columns-1")
    assert [np.argwhere(mask(dataset, f"images/{name}").any(0)).tolist() for name in "ab"] == [[[0]], [[1]]]


def test_list_of_files_of_masks_is_no_table_of_run_lengths(tmp_path: Path) -> None:
    for name in ("a", "b"):
        index_mask(tmp_path / "masks" / f"{name}.png")
    table(tmp_path, "image,annotation", "images/a.jpg,masks/a.png", "images/b.jpg,masks/b.png")
    for name in ("a", "b"):
        image(tmp_path / "images" / f"{name}.jpg")
    assert opened(tmp_path).layout == "lists of images and masks"


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("b.jpg,1 2 3", "have to be pairs of whole numbers"),
        ("b.jpg,1 -2", "have to be pairs of whole numbers"),
        ("b.jpg,1 nan", "have to be pairs of whole numbers"),
        ("b.jpg,1 99999999999999999999", "have to be pairs of whole numbers"),
        ("b.jpg,1 0", "a run of 0 pixels"),
        ("../b.png,1 2", "which is not in the dataset"),
        ("b.jpg", "has 1 columns"),
    ],
)
def test_row_that_cannot_be_read_is_a_defect(tmp_path: Path, row: str, message: str) -> None:
    file = table(tmp_path, "ImageId,EncodedPixels", "a.jpg,1 8", row)
    _, defects = open_with_defects(tmp_path, DataConfig(run_lengths="columns-1"))
    assert [(defect.file, message in defect.detail) for defect in defects] == [(file, True)]
    assert defects[0].kind in (DefectKind.BAD_ANNOTATION, DefectKind.MISSING_IMAGE)
