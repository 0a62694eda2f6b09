"""Gathering what is wrong with the parts of one file, so that the first flaw does not hide the others."""

from collections.abc import Iterator
from contextlib import contextmanager

from pyramidseg.data.defect_kinds import Defect, DefectError, SeveralDefects

MOST_KEPT = 100
"""Flaws of one file that are told one by one; of further ones the number."""


class Flaws:
    """The flaws of a file's parts, in bounded memory.

    flaws = Flaws()
    for line in lines:
        with flaws.caught():
            shapes.append(shape_of(line))
    flaws.refuse()
    """

    def __init__(self) -> None:
        self._kept: list[Defect] = []
        self._more = 0

    @contextmanager
    def caught(self) -> Iterator[None]:
        """Take in what goes wrong in a `with` block, which ends there."""
        try:
            yield
        except DefectError as error:
            self.add(*error.defects)

    def add(self, *defects: Defect, more: int = 0) -> None:
        """Take in flaws, and a number of others like the last one."""
        room = MOST_KEPT - len(self._kept)
        self._kept += defects[:room]
        self._more += len(defects[room:]) + more

    @property
    def defects(self) -> tuple[Defect, ...]:
        """All of them; beyond `MOST_KEPT`, the last one says how many more there are."""
        if not self._more:
            return tuple(self._kept)
        last = self._kept[-1]
        return (*self._kept, Defect(last.kind, last.file, f"... and {self._more} more flaws"))

    def refuse(self) -> None:
        """Raise what was found, if anything was.

        Raises:
            DataError: all of it in one.
        """
        if len(self.defects) == 1:
            (defect,) = self.defects
            raise DefectError(defect.kind, defect.file, defect.detail)
        if self.defects:
            raise SeveralDefects(self.defects)
