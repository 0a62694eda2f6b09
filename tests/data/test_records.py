"""`Record` and `dataset_from_records`: accepted and rejected arguments."""

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
