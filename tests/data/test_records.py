"""`Record` and `dataset_from_records`: accepted and rejected arguments."""

import copy
import pickle
import tracemalloc
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import pytest

from pyramidseg.base.errors import DataError
from pyramidseg.data.from_records import dataset_from_records
from pyramidseg.data.records import Record

RECORD = Record("a", Path("a.png"), Path("a_mask.png"))


def test_paths_may_be_strings() -> None:
    assert Record("a", "a.png", "a_mask.png") == RECORD  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": ["x.png"]}, r"train: 'x.png' is not a Record; create it with Record\(id, image, mask\)"),
        ({"classes": [1, 2]}, "class name 1: a non-empty text is needed"),
        ({"ignore": "7"}, "ignore: '7' is not a mask value"),
    ],
)
def test_invalid_arguments_are_rejected(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        dataset_from_records(**{"train": [RECORD], "classes": ["a", "b"], **given})


def test_ignore_takes_a_single_value() -> None:
    one, listed = (dataset_from_records(classes=["a"], ignore=given) for given in (9, [9]))  # type: ignore[arg-type]
    assert one.masks == listed.masks


@pytest.mark.parametrize(
    ("id", "image", "mask"),
    [
        ("a", "/data/images/a.png", "/data/masks/a_mask.png"),
        ("train/deep/a", "/data/train/deep/a.jpg", None),
        ("a", "a/a/a.a.png", "other.json"),
        ("", "x.png", ""),
        ("0", "000.png", "/masks/100.png"),
    ],
)
def test_a_record_gives_back_its_paths(id: str, image: str, mask: str | None) -> None:
    record = Record(id, Path(image), mask and Path(mask))
    assert (record.id, record.image, record.mask) == (id, Path(image), None if mask is None else Path(mask or "."))
    assert pickle.loads(pickle.dumps(record)) == copy.deepcopy(record) == record
    renamed = replace(record, id="other/name")
    assert (renamed.id, renamed.image, renamed.mask) == ("other/name", record.image, record.mask)
    with pytest.raises(FrozenInstanceError):
        record.image = Path("b.png")


def test_records_of_the_same_folders_share_the_text_of_their_paths() -> None:
    """A `Path` would take 300 bytes, and its text 100."""
    folder = Path("/home/somebody/a/dataset/with/a/long/path")
    tracemalloc.start()
    try:
        records = [
            Record(f"train/{number:06}", folder / "images" / f"{number:06}.png", folder / "masks" / f"{number:06}.png")
            for number in range(1000)
        ]
        size, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert size / len(records) < 150
