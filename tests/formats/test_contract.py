"""What every dataset format does. A new format is one entry in `format_examples.EXAMPLES`."""

import pickle
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from format_examples import EXAMPLES, HEIGHT, LEFT, WIDTH
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset
from pyramidseg.formats.dataset_format import SPLIT_NAMES, PartialMatch
from pyramidseg.formats.open_dataset import FORMATS, open_dataset
from pyramidseg.inspection.inspect_dataset import inspect_dataset
from pyramidseg.inspection.training_check import check_dataset

formats = pytest.mark.parametrize("format", EXAMPLES)


def opened(root: Path, format: str) -> Dataset:
    return open_dataset(root, DataConfig(format=format))


def test_every_format_has_an_example() -> None:
    assert set(EXAMPLES) == set(FORMATS)
    assert all(name == format.name for name, format in FORMATS.items())


@formats
def test_format_detects_its_own_example_and_no_other_does(tmp_path: Path, format: str) -> None:
    EXAMPLES[format](tmp_path)
    assert FORMATS[format].detect(tmp_path, SPLIT_NAMES) is not None
    for other in FORMATS.values():
        if other.name == format or other.name in FORMATS[format].covers:
            continue
        try:
            found = other.detect(tmp_path, SPLIT_NAMES)
        except PartialMatch:
            continue
        assert found is None, other.name


@formats
def test_format_does_not_detect_an_empty_folder(tmp_path: Path, format: str) -> None:
    assert FORMATS[format].detect(tmp_path, SPLIT_NAMES) is None


@formats
def test_read_gives_every_pixel_its_class(tmp_path: Path, format: str) -> None:
    example = EXAMPLES[format](tmp_path)
    dataset = opened(tmp_path, format)
    counts: Counter[str] = Counter()
    records = [record for records in dataset.splits.values() for record in records]
    for record in records:
        mask = dataset.masks.read(record)
        assert (mask[:, :LEFT] == mask[0, 0]).all()
        counts.update(dataset.classes.names[label] for label in mask.ravel().tolist())
    covered = HEIGHT * LEFT
    expected = {example.object: covered, example.background: HEIGHT * WIDTH - covered}
    assert counts == {name: pixels * len(records) for name, pixels in expected.items()}
    assert len(records) == len({record.image for record in records}) >= 2


@formats
def test_source_of_masks_can_be_sent_to_worker_processes(tmp_path: Path, format: str) -> None:
    EXAMPLES[format](tmp_path)
    dataset = opened(tmp_path, format)
    record = dataset.split("train")[0]
    assert np.array_equal(pickle.loads(pickle.dumps(dataset.masks)).read(record), dataset.masks.read(record))


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def replace_by_web_page(file: Path) -> None:
    file.write_bytes(b"<!doctype html><html><body>404: not found</body></html>\n")


@formats
@pytest.mark.parametrize("damage", [truncate, replace_by_web_page])
def test_damaged_labels_are_refused_in_one_line_and_inspect_names_them(
    tmp_path: Path, format: str, damage: Callable[[Path], None]
) -> None:
    file = EXAMPLES[format](tmp_path).label_file
    damage(file)
    with pytest.raises(DataError) as caught:
        check_dataset(opened(tmp_path, format))
    assert "\n" not in str(caught.value)
    assert file.name in str(caught.value)
    inspection = inspect_dataset(tmp_path, data=DataConfig(format=format))
    assert file in {defect.file for defect in inspection.defects}


MASKS = {
    **{"paired": "masks", "segnet": "annot", "camvid": "Labeled", "voc": "SegmentationClass"},
    **{"roboflow": "_mask", "cityscapes": "gtFine", "ade20k": "annotations", "coco_panoptic": "annotations"},
    "object_masks": "masks",
    "huggingface": "gt",
}
"""A part of the paths of mask files. The labels of other formats are text, and their images may be of another type."""


def pixel_files(root: Path, format: str) -> list[Path]:
    """The masks of a format that has them as files, otherwise the images."""
    files = [path for path in sorted(root.rglob("*")) if path.suffix in (".png", ".jpg", ".tif")]
    return [path for path in files if MASKS.get(format, "") in str(path.relative_to(root))]


def findings(root: Path, format: str) -> str:
    """All defects, or the refusal."""
    try:
        found = inspect_dataset(root, data=DataConfig(format=format)).defects
    except DataError as error:
        return str(error)
    assert found
    return "\n".join(f"{defect.file}: {defect.detail}" for defect in found)


@formats
@pytest.mark.parametrize("lost", [1, 2, None])
def test_files_of_a_type_that_is_not_read_are_named_and_counted(tmp_path: Path, format: str, lost: int | None) -> None:
    EXAMPLES[format](tmp_path)
    files = pixel_files(tmp_path, format)[:lost]
    for path in files:
        path.rename(path.with_suffix(".dcm"))
    found = findings(tmp_path, format)
    assert f"{len(files)} .dcm" in found or found.count(f"{len(files) // 2} .dcm") == 2
    with pytest.raises(DataError):
        check_dataset(opened(tmp_path, format))


@formats
def test_a_layout_without_a_pair_is_not_free_of_defects(tmp_path: Path, format: str) -> None:
    EXAMPLES[format](tmp_path)
    for path in pixel_files(tmp_path, format):
        path.unlink()
    assert findings(tmp_path, format)
    with pytest.raises(DataError):
        check_dataset(opened(tmp_path, format))
