import pytest

from pyramidseg.base.sequences import Mapped, PackedNames

NAMES = ["a.png", "deep/é.png", "", "\udcff.png", "z" * 300]


def test_elements_are_made_when_they_are_read() -> None:
    made = []
    squares = Mapped(lambda number: made.append(number) or number * number, range(10))
    assert not made and len(squares) == 10
    assert squares[3] == squares[-7] == 9 and [*squares[2:8:3]] == [4, 25] and [*squares][-1] == 81
    with pytest.raises(IndexError):
        squares[10]


def test_an_error_of_the_function_does_not_end_an_iteration() -> None:
    with pytest.raises(IndexError):
        list(Mapped([1, 2].__getitem__, range(3)))


def test_names_are_kept_with_their_bytes() -> None:
    names = PackedNames(iter(NAMES))
    assert [*names] == NAMES and len(names) == len(NAMES)
    assert names[-1] == NAMES[-1] and [*names[1:4]] == NAMES[1:4] and [*names[::-1]] == NAMES[::-1]
    assert not PackedNames([])
    with pytest.raises(IndexError):
        names[len(NAMES)]
