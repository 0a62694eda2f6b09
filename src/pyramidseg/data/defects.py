"""Defects of many files, told in one message."""

from collections import Counter

from pyramidseg.data.masks.class_masks import NEXT_STEP, UnknownValues
from pyramidseg.errors import DataError

_FILES_SHOWN, _VALUES_SHOWN = 3, 8


class Defects:
    """Collects defects as they come, in constant memory: all are counted and the first few kept.

    Values that are no class are added up over all masks, as the user will want to name or ignore all of them at once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self.strays = 0
        self.first_strays: list[UnknownValues] = []
        self.pixels: Counter[int] = Counter()
        self.masks: Counter[int] = Counter()
        self.others = 0
        self.first_others: list[DataError] = []

    def add(self, error: DataError) -> None:
        """Take in one defect."""
        if isinstance(error, UnknownValues):
            self.strays += 1
            self.pixels.update(error.pixels)
            self.masks.update(error.pixels.keys())
            if len(self.first_strays) < _FILES_SHOWN:
                self.first_strays.append(error)
        else:
            self.others += 1
            if len(self.first_others) < _FILES_SHOWN:
                self.first_others.append(error)

    def refuse(self, total: int) -> None:
        """Raise what was found among `total` records, if anything was.

        Raises:
            DataError: a single defect as it is, or the number of all and the first few of each kind.
        """
        if self.strays + self.others == 0:
            return
        if self.strays + self.others == 1:
            raise [*self.first_strays, *self.first_others][0]
        parts = [self._stray_values()] if self.strays else []
        parts += [str(error) for error in self.first_others]
        if self.others > len(self.first_others):
            parts.append(f"... and {self.others - len(self.first_others)} more")
        raise DataError(f"{self.source}: {self.strays + self.others} of {total} pairs have defects: {'; '.join(parts)}")

    def _stray_values(self) -> str:
        in_words = self.first_strays[0].source.in_words
        values = [
            f"{in_words([value])} ({self.pixels[value]} pixels in {self.masks[value]} masks)"
            for value in sorted(self.masks)[:_VALUES_SHOWN]
        ]
        files = [str(error.path) for error in self.first_strays]
        return (
            f"mask values that are no class: {_few(values, len(self.masks))}, in {_few(files, self.strays)} "
            f"({self.first_strays[0].known}); {NEXT_STEP}"
        )


def _few(shown: list[str], total: int) -> str:
    return ", ".join(shown) + (f" and {total - len(shown)} more" if total > len(shown) else "")
