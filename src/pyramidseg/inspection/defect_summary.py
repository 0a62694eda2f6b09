"""Summary of the defects of many files in one error message, and of the mask values that are not known classes."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.class_masks import UnknownValuesError, next_step

MAX_VALUES = 1000
"""Further unknown values are counted together."""

MAX_VALUES_OF_MASK = 256
"""The most frequent unknown values of a mask are counted by value: a photograph among masks has a hundred thousand."""

_DEFECTS_SHOWN, _VALUES_SHOWN = 3, 8


@dataclass(frozen=True)
class UnknownValue:
    """A mask value that is not a known class; `name` is a number, a colour or a name."""

    name: str
    pixels: int
    masks: int


class UnknownValues:
    """Counts unknown values over all masks, because users will name or ignore all of them at once."""

    def __init__(self) -> None:
        self.files: list[Path] = []
        self._known = self._advice = ""
        self._pixels: Counter[str] = Counter()
        self._masks: Counter[str] = Counter()

    def add(self, error: UnknownValuesError) -> None:
        """Add the unknown values of one mask."""
        self.files.append(error.path)
        self._known, self._advice = error.known, next_step(error.source)
        for value, pixels in Counter(error.pixels).most_common(MAX_VALUES_OF_MASK):
            name = error.source.describe([value])
            if name not in self._pixels and len(self._pixels) >= MAX_VALUES:
                name = "others"
            self._pixels[name] += pixels
            self._masks[name] += 1

    def values(self) -> tuple[UnknownValue, ...]:
        """The values, the most frequent first."""
        return tuple(UnknownValue(name, pixels, self._masks[name]) for name, pixels in self._pixels.most_common())

    def __str__(self) -> str:
        values = [f"{value.name} ({value.pixels} pixels in {value.masks} masks)" for value in self.values()]
        return (
            f"mask values that are not known classes: {first_few(values, limit=_VALUES_SHOWN)}, "
            f"in {first_few(self.files, limit=_DEFECTS_SHOWN)} ({self._known}); {self._advice}"
        )


def refuse_files(source: str, defects: Sequence[Defect], unknown: UnknownValues | None = None, *, total: int) -> None:
    """Refuse a dataset of `total` images if any has a defect.

    Args:
        unknown: the unknown values that some of the defects are about.

    Raises:
        DataError: a single defect as it is; of several their number and the first few.
    """
    if len(defects) == 1:
        raise DefectError.of(defects)
    if not defects:
        return
    parts = [str(unknown)] if unknown is not None and unknown.files else []
    others = [defect for defect in defects if not (parts and defect.kind is DefectKind.UNKNOWN_VALUE)]
    parts += [f"{defect.file}: {defect.detail}" for defect in others[:_DEFECTS_SHOWN]]
    if len(others) > _DEFECTS_SHOWN:
        parts.append(f"... and {len(others) - _DEFECTS_SHOWN} more")
    raise DataError(f"{source}: {len(defects)} defects in {total} images: {'; '.join(parts)}")
