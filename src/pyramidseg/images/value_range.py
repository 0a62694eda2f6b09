"""Type and range of a model's training images, and whether other images are in the same units.

A network divides unsigned integers by the range of their type and takes everything else as it is. So floats of 0 to
255, 12 bits in uint16, or images that were normalised before are computed without an error, and labelled wrongly.
"""

import logging
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from pyramidseg.base.errors import DataError
from pyramidseg.base.stored_json import parse_stored

logger = logging.getLogger(__name__)

UNITS = {"uint8": 255.0, "uint16": 65535.0}
"""What the network divides values of a type by, its range (as in torchvision); others by 1."""

SENSOR_BITS = (8, 10, 12, 14)
"""Depths that cameras and scanners store in 16 bits."""


@dataclass(frozen=True)
class ValueRange:
    """The type of some images (`uint8`, `uint16`, `int16` or `float32`) and their smallest and largest value."""

    dtype: str
    low: float
    high: float

    @classmethod
    def of(cls, values: NDArray[Any]) -> "ValueRange":
        """That of an image."""
        return cls(str(values.dtype), float(values.min()), float(values.max()))

    @classmethod
    def from_json(cls, text: str | None) -> "ValueRange | None":
        """Read back from the metadata of a file; None if it has none.

        Raises:
            ValueError: it is something else.
        """
        if text is None or text == "null":
            return None
        stored = parse_stored(cls, text)
        if not stored.low <= stored.high:
            raise ValueError(f"a range of values from {stored.low} to {stored.high}")
        return stored

    @property
    def shares(self) -> tuple[float, float]:
        """The range as the network sees it before normalisation."""
        unit = UNITS.get(self.dtype, 1.0)
        return self.low / unit, self.high / unit

    @property
    def is_raw(self) -> bool:
        """Whether the values are in units of their own, such as metres, instead of shares of a range."""
        return self.dtype not in UNITS and (self.dtype == "int16" or not _is_share(self))

    def __str__(self) -> str:
        return f"{self.dtype} from {self.low:g} to {self.high:g}"


BYTES = ValueRange("uint8", 0, 255)
"""That of 8-bit images, whatever their values are."""


class RangeCheck:
    """Checks images against the range that a model was trained on; None, of older bundles, accepts all.

    Called with an image of any shape and its name. Logs one warning, at the first suspicious image.

    Raises:
        DataError: values that cannot be in the units of the training images, with what to do.
    """

    def __init__(self, trained: ValueRange | None) -> None:
        self.trained = trained
        self._warned = False

    def __call__(self, values: NDArray[Any], name: object) -> None:
        if self.trained is None or str(values.dtype) == self.trained.dtype == "uint8":
            return
        found = ValueRange.of(values)
        if reason := impossible(found, self.trained):
            raise DataError(f"{name}: {reason}")
        if not self._warned and (reason := suspicious(found, self.trained)):
            self._warned = True
            logger.warning(f"{name}: {reason} (further images are not mentioned)")


def impossible(found: ValueRange, trained: ValueRange) -> str:
    """Why images cannot be in the units that a model was trained on, and what to do; empty if they can."""
    low, high = found.shares
    least, most = _expected(trained)
    if trained.is_raw:
        if found.dtype not in UNITS:
            return ""
        return (
            f"{found.dtype} is read as 0 to 1, where this model takes raw values ({trained}): give them as float32 "
            "(image.astype(np.float32)), in the units of the training images"
        )
    if found.dtype == "int16" or not _is_share(found):
        return (
            f"values {found.low:g} to {found.high:g} of {found.dtype}, where this model takes floats in "
            f"[{least:g}, {most:g}]: {_remedy(found, trained)}"
        )
    if found.dtype != trained.dtype and high > most + 3 * (most - least):
        return f"{found}, which is {low:g} to {high:g} of its range, where this model was trained on {trained}: " + (
            "give the images as they were in training"
        )
    return ""


def suspicious(found: ValueRange, trained: ValueRange) -> str:
    """Why images are probably not in the units that a model was trained on, and what to do; empty if they may be."""
    low, high = found.shares
    least, most = _expected(trained)
    span = most - least
    if found.high > found.low and high < least + span / 16:
        bits, usual = _depth(found.high), _depth(most * UNITS["uint16"])
        if found.dtype != "uint16" or bits >= usual:
            return f"{found} is in the lowest sixteenth of what this model was trained on ({trained}): check the units"
        further = ", or give uint8" if usual - bits == 8 else ""
        return (
            f"values up to {found.high:g} of uint16, where this model was trained on {trained}: if the images have "
            f"{bits} bits, shift them to {usual} (image << {usual - bits}){further}"
        )
    if not trained.is_raw and found.dtype not in UNITS and not -0.05 <= low <= high <= 1.05:
        return f"{found}, where floats in [0, 1] are expected: {_remedy(found, trained)}"
    if low < least - span or high > most + span:
        return f"{found} is far outside what this model was trained on ({trained}): check the units"
    return ""


def _depth(high: float) -> int:
    return next((bits for bits in SENSOR_BITS if high < 2**bits), 16)


def _expected(trained: ValueRange) -> tuple[float, float]:
    least, most = BYTES.shares if trained.dtype == "uint8" else trained.shares
    return least, most if most > least else least + 1


def _is_share(found: ValueRange) -> bool:
    """Whether values may be shares of a range; resampling overshoots [0, 1] a little."""
    return found.shares[0] >= -0.5 and found.shares[1] <= 1.5


def _remedy(found: ValueRange, trained: ValueRange) -> str:
    if found.low < 0 and max(-found.low, found.high) < 10:
        return "they look normalised, which the model does itself: give the image as it was before"
    depth = {"uint8": "uint8", "uint16": "uint16"}.get(trained.dtype, "uint8" if found.high <= 255 else "uint16")
    top = UNITS[depth]
    if found.low >= 0 and found.high <= top and (found.high > 255 or depth == "uint8"):
        return f"divide by {top:g} or give {depth}"
    return f"give the images as they were in training ({trained})"
