"""Sequences whose elements are made when they are read, so that long lists of files take little memory."""

import os
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Generic, TypeVar, overload

T = TypeVar("T")
R = TypeVar("R")


class Mapped(Sequence[R], Generic[T, R]):
    """What a function returns for each element of a sequence, called again whenever an element is read."""

    def __init__(self, function: Callable[[T], R], items: Sequence[T]) -> None:
        self.function, self.items = function, items

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[R]:
        return map(self.function, self.items)

    @overload
    def __getitem__(self, place: int) -> R: ...
    @overload
    def __getitem__(self, place: slice) -> "Mapped[T, R]": ...
    def __getitem__(self, place: int | slice) -> "R | Mapped[T, R]":
        if isinstance(place, slice):
            return Mapped(self.function, self.items[place])
        return self.function(self.items[place])


class PackedNames(Sequence[str]):
    """File names in 8 bytes each more than they have characters; a `str` takes 49 more, and a `Path` 300."""

    def __init__(self, names: Iterable[str]) -> None:
        self._content, self._ends = bytearray(), array("Q")
        for name in names:
            self._content += os.fsencode(name)
            self._ends.append(len(self._content))

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, place: int) -> str: ...
    @overload
    def __getitem__(self, place: slice) -> "PackedNames": ...
    def __getitem__(self, place: int | slice) -> "str | PackedNames":
        if isinstance(place, slice):
            return PackedNames(self[at] for at in range(*place.indices(len(self))))
        at = range(len(self))[place]
        return os.fsdecode(bytes(self._content[self._ends[at - 1] if at else 0 : self._ends[at]]))
