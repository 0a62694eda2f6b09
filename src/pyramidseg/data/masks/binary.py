"""Binary masks whose two values have been blurred, by anti-aliasing or by JPEG: a stated threshold parts them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.image_files import opened, pixels, turn
from pyramidseg.data.masks.index import in_ranges, refuse_transparent
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

BACKGROUND, FOREGROUND = 0, 255


@dataclass(frozen=True)
class ThresholdValues:
    """Grey levels, 0 below the threshold and 255 from it on. Lossy files are taken; colours count by their luma.

    Attributes:
        threshold: 1 to 255.
    """

    threshold: int
    void: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint8]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        with opened(record.mask) as file:
            if file.bits > 8 or file.image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
                raise DefectError(
                    Kind.UNREADABLE_MASK,
                    record.mask,
                    f"a threshold is for grey levels of 8 bits, and this file holds {file.image.mode} pixels of "
                    f"{file.bits} bits; save it with 8 bits, or leave out threshold",
                )
            refuse_transparent(record.mask, file)
            levels = turn(pixels(file.image.convert("L")), file.orientation).astype(np.uint8, copy=False)
        return np.where(levels >= self.threshold, FOREGROUND, BACKGROUND).astype(np.uint8)

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_ranges(values)
