"""Summary of the defects of many files in one error message."""

from collections import Counter
from collections.abc import Sequence

from pyramidseg.base.defects import Defect, DefectError
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import NEXT_STEP, UnknownValuesError

_FILES_SHOWN, _VALUES_SHOWN = 3, 8


class DefectSummary:
    """Counts all defects, and keeps the first few, in constant memory.

    Mask values that are not classes are added up over all masks, because users will name or ignore all of them at once.
    """

    def __init__(self, source: str) -> None:
        self.source = source
        self._records = self._unknown = self._others = 0
        self._pixels: Counter[int] = Counter()
        self._masks: Counter[int] = Counter()
        self._first_unknown: list[UnknownValuesError] = []
        self._first_others: list[Defect] = []

    def add(self, defects: Sequence[Defect], unknown_values: UnknownValuesError | None = None) -> None:
        """Add the defects of one record, among them those of `unknown_values`."""
        self._records += bool(defects)
        if unknown_values is not None:
            self._unknown += 1
            self._pixels.update(unknown_values.pixels)
            self._masks.update(unknown_values.pixels.keys())
            self._first_unknown = [*self._first_unknown, unknown_values][:_FILES_SHOWN]
            defects = [defect for defect in defects if defect not in unknown_values.defects]
        self._others += len(defects)
        self._first_others = [*self._first_others, *defects][:_FILES_SHOWN]

    def raise_if_any(self, total: int) -> None:
        """Refuse a dataset of `total` records if any has a defect.

        Raises:
            DataError: a single defect as it is; of several the number of records and the first few of each kind.
        """
        found = [*(error.defect for error in self._first_unknown), *self._first_others]
        if len(found) == 1:
            raise DefectError(found[0].kind, found[0].file, found[0].detail)
        if found:
            parts = [self._describe_unknown()] if self._unknown else []
            parts += [f"{defect.file}: {defect.detail}" for defect in self._first_others]
            if self._others > len(self._first_others):
                parts.append(f"... and {self._others - len(self._first_others)} more")
            raise DataError(f"{self.source}: {self._records} of {total} images have defects: {'; '.join(parts)}")

    def _describe_unknown(self) -> str:
        describe = self._first_unknown[0].source.describe
        values = [
            f"{describe([value])} ({self._pixels[value]} pixels in {self._masks[value]} masks)"
            for value in sorted(self._masks)[:_VALUES_SHOWN]
        ]
        shown = first_few(values, limit=_VALUES_SHOWN, total=len(self._masks))
        files = first_few([error.path for error in self._first_unknown], total=self._unknown)
        return (
            f"mask values that are not known classes: {shown}, in {files} ({self._first_unknown[0].known}); {NEXT_STEP}"
        )
