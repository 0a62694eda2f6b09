"""Classes: ids, names, colours, and the ignore label."""

import colorsys
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import DataError
from pyramidseg.base.text import is_printable

IGNORE = 255
"""The label of pixels that are ignored in losses and metrics."""

MAX_CLASSES = 255
"""Labels are uint8, and 255 is `IGNORE`."""

MAX_NAME = 200
"""Most characters of a class name; messages, tables and plots show it whole."""

Color = tuple[int, int, int]


@dataclass(frozen=True)
class Classes:
    """Names and colours by class id; the id is the position.

    Raises:
        DataError: no class or more than 255, a name that is not text, empty or repeated, a number of colours that
            differs from the number of names, or a colour outside 0-255.
    """

    names: tuple[str, ...]
    colors: tuple[Color, ...]

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= MAX_CLASSES:
            raise DataError(f"{len(self.names)} classes: 1 to {MAX_CLASSES} are possible, as labels have 8 bits")
        if len(self.colors) != len(self.names):
            raise DataError(f"{len(self.names)} class names but {len(self.colors)} colours: give one colour per class")
        for name in self.names:
            if not isinstance(name, str) or not name:
                raise DataError(f"class name {name!r}: a non-empty text is needed")
            if len(name) > MAX_NAME:
                raise DataError(
                    f"class name {name[:40]!r}...: has {len(name)} characters; at most {MAX_NAME} are possible"
                )
            if not is_printable(name):
                raise DataError(f"class name {name[:80]!a}: has control characters; use letters, digits and spaces")
        doubled = sorted({name for name in self.names if self.names.count(name) > 1})
        if doubled:
            raise DataError(f"class name {doubled[0]!r} is given more than once; names must differ")
        for name, color in zip(self.names, self.colors, strict=True):
            if len(color) != 3 or any(not 0 <= value <= 255 for value in color):
                raise DataError(f"colour {color} of class {name!r}: three values from 0 to 255 are needed")

    @classmethod
    def from_names(cls, names: Iterable[str]) -> "Classes":
        """Classes with the default palette.

        Raises:
            DataError: invalid names; or a single text instead of a list.
        """
        if isinstance(names, str) or not isinstance(names, Iterable):
            raise DataError(f"classes: a list of names is needed, got {names!r}")
        names = tuple(names)
        return cls(names, default_palette(len(names)))

    @classmethod
    def unnamed(cls, count: int) -> "Classes":
        """Classes without names of their own: `class 0`, `class 1`, ..."""
        return cls.from_names(f"class {index}" for index in range(count))

    def __len__(self) -> int:
        return len(self.names)

    def palette(self) -> NDArray[np.uint8]:
        """(256, 3) uint8 colour table; black for labels without a class and for `IGNORE`."""
        table = np.zeros((256, 3), np.uint8)
        table[: len(self)] = self.colors
        return table

    def colorize(self, labels: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W) uint8 labels to (H, W, 3) uint8 RGB."""
        return self.palette()[labels]

    def to_dict(self) -> dict[str, Any]:
        """Plain lists for JSON and YAML."""
        return {"names": list(self.names), "colors": [list(color) for color in self.colors]}

    @classmethod
    def from_dict(cls, data: dict[str, Any]) -> "Classes":
        """The inverse of `to_dict`."""
        colors = tuple((int(red), int(green), int(blue)) for red, green, blue in data["colors"])
        return cls(tuple(str(name) for name in data["names"]), colors)


def hex_color(text: object) -> Color | None:
    """The colour of a text such as `#40c000`; None if it is anything else."""
    if not isinstance(text, str) or not re.fullmatch("#[0-9a-fA-F]{6}", text):
        return None
    red, green, blue = bytes.fromhex(text[1:])
    return red, green, blue


def default_palette(count: int) -> tuple[Color, ...]:
    """`count` distinct colours: hues a golden angle apart, in three bands of lightness."""
    colors: list[Color] = []
    for index in range(count):
        hue = (0.58 + index * 0.618034) % 1.0
        value, saturation = ((0.90, 0.65), (0.65, 0.80), (1.0, 0.40))[index % 3]
        red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    return tuple(colors)
