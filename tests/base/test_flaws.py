from pathlib import Path

import pytest

from pyramidseg.base.defects import MAX_KEPT, Defect, DefectCollector, DefectError, DefectKind

FILE = Path("a.txt")


def gathered(count: int) -> DefectCollector:
    flaws = DefectCollector()
    for number in range(count):
        with flaws.collect():
            raise DefectError(DefectKind.BAD_ANNOTATION, FILE, f"line {number}")
    return flaws


def test_nothing_gathered_is_no_error() -> None:
    gathered(0).raise_if_any()


def test_a_single_flaw_is_told_as_it_is() -> None:
    with pytest.raises(DefectError, match=r"a\.txt: line 0$"):
        gathered(1).raise_if_any()


def test_all_flaws_are_in_one_error() -> None:
    with pytest.raises(DefectError) as caught:
        gathered(3).raise_if_any()
    assert [defect.detail for defect in caught.value.defects] == ["line 0", "line 1", "line 2"]


def test_of_too_many_flaws_the_number_is_told() -> None:
    flaws = gathered(MAX_KEPT + 7)
    flaws.add(more=3)
    assert len(flaws.defects) == MAX_KEPT + 1
    assert flaws.defects[-1] == Defect(DefectKind.BAD_ANNOTATION, FILE, "... and 10 more defects")


def test_errors_of_the_dataset_as_a_whole_are_not_held_back() -> None:
    flaws = DefectCollector()
    with pytest.raises(ValueError, match="ours"), flaws.collect():
        raise ValueError("ours")
