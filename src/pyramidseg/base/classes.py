"""Classes: the only truth on ids, names, colours and the ignore label."""

import colorsys
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import DataError

IGNORE = 255
"""The label of pixels that count nowhere: not in the loss, not in a metric."""

MAX_CLASSES = 255
"""Labels are uint8 and 255 is taken by `IGNORE`."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Names and colours by class id; the id is the position.

    Raises:
        DataError: no class, more than 255, a name that is no text, empty or given twice, another number of colours than
            of names, a colour out of 0-255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise DataError(f"{len(self.names)} classes: 1 to {MAX_CLASSES} are possible, as labels are 8 bit")
        if len(self.colors) != len(self.names):
            raise DataError(f"{len(self.names)} class names but {len(self.colors)} colours: give one colour a class")
        for name in self.names:
            if not isinstance(name, str) or not name:
                raise DataError(f"class name {name!r}: text is needed that is not empty")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise DataError(f"class name {doubled[0]!r} is given more than once: names must differ")
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or any(not 0 <= value <= 255 for value in color):
                raise DataError(f"colour {color} of class {name!r}: three values from 0 to 255 are needed")

    @classmethod
    def named(cls, names: Iterable[str]) -> "Classes":
        """Classes with the default palette.

        Raises:
            DataError: see above; or one text, which would be taken apart into letters.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise DataError(f"classes={names!r}: a list of names is needed")
        names = tuple(names)
        return cls(names, default_palette(len(names)))

    @classmethod
    def numbered(cls, count: int) -> "Classes":
        """Classes that have no names of their own: `class 0`, `class 1`, ..."""
        return cls.named(f"class {index}" for index in range(count))

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) uint8: colour by label, black for labels without a class and for `IGNORE`."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        return table

    def colorize(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) uint8 labels to (H, W, 3) uint8 RGB."""
        return self.palette()[labels]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists, for JSON and YAML; `from_dict` reads them."""
        return {"names": list(self.names), "colors": [list(color) for color in self.colors]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Classes":
        """The inverse of `to_dict`."""
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in data["colors"])
        return cls(tuple(str(name) for name in data["names"]), colors)


def default_palette(count: int) -> tuple[Color, ...]:
    """`count` clearly different colours: hues a golden angle apart, in three bands of lightness."""
    colors: list[Color] = []
    for index in range(count):
        hue = (0.58 + index * 0.618034) % 1.0
        value, saturation = ((0.90, 0.65), (0.65, 0.80), (1.0, 0.40))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)
