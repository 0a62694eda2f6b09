"""Names by class id: what is taken, what is refused."""

from typing import Any

import pytest

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ("abc", "classes: a list of names is needed, got 'abc'"),
        (3, "classes: a list of names is needed, got 3"),
        ([1, 2], "class name 1: a non-empty text is needed"),
        (["", "a"], "class name '': a non-empty text is needed"),
        (["a", "a"], "'a' is given more than once"),
        ([], "0 classes: 1 to 255 are possible"),
    ],
)
def test_what_are_no_names_is_refused(names: Any, said: str) -> None:
    with pytest.raises(DataError, match=said):
        Classes.from_names(names)
