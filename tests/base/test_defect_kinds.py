import pickle
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectError, DefectKind, as_defects
from pyramidseg.base.errors import DataError


def test_error_says_file_and_detail_and_survives_another_process() -> None:
    error = DefectError(DefectKind.EMPTY, Path("a.png"), "the file is empty")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) == "a.png: the file is empty"
    assert again.defect == Defect(DefectKind.EMPTY, Path("a.png"), "the file is empty")
    assert isinstance(again, DataError)


def test_error_without_a_kind_becomes_the_kind_of_what_was_being_read() -> None:
    file = Path("folder/a.png")
    found = as_defects(DataError(f"{file}: is odd"), file=file, otherwise=DefectKind.UNREADABLE_MASK)
    assert found == (Defect(DefectKind.UNREADABLE_MASK, file, "is odd"),)
    error = DefectError(DefectKind.EMPTY, Path("other.png"), "empty")
    assert as_defects(error, file=file, otherwise=DefectKind.UNREADABLE_MASK) == (error.defect,)


def test_error_of_several_defects_tells_the_first_few_and_keeps_all() -> None:
    defects = [Defect(DefectKind.BAD_ANNOTATION, Path("a.txt"), f"line {number}") for number in range(5)]
    again = pickle.loads(pickle.dumps(DefectError.of(defects)))
    assert str(again) == "a.txt: line 0; line 1; line 2; ... and 2 more"
    assert as_defects(again, file=Path("a.txt"), otherwise=DefectKind.EMPTY) == tuple(defects)


def test_values_are_words_that_a_shell_takes() -> None:
    assert all(kind.value == kind.value.lower() and " " not in kind.value for kind in DefectKind)
