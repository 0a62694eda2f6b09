"""Records from Python: what is taken, what is refused."""

from pathlib import Path
from typing import Any

import pytest

from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Dataset, Record

RECORD = Record("a", Path("a.png"), Path("a_mask.png"))


def test_paths_may_be_text() -> None:
    assert Record("a", "a.png", "a_mask.png") == RECORD  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": ["x.png"]}, r"train: 'x.png' is no Record; make it Record\(id, image, mask\)"),
        ({"classes": [1, 2]}, "class name 1: text is needed"),
        ({"ignore": "7"}, "ignore: '7' is no value of a mask"),
    ],
)
def test_what_is_no_dataset_is_refused(given: dict[str, Any], said: str) -> None:
    with pytest.raises(DataError, match=said):
        Dataset.from_records(**{"train": [RECORD], "classes": ["a", "b"], **given})


def test_one_value_is_ignored_as_a_list_of_it_is() -> None:
    one, listed = (Dataset.from_records(classes=["a"], ignore=given) for given in (9, [9]))  # type: ignore[arg-type]
    assert one.masks == listed.masks
