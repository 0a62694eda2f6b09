"""Palettes that give one index different colours in different masks: then an index is not one class."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import Color
from pyramidseg.data.masks.class_masks import ClassMasks
from pyramidseg.data.masks.index import IndexValues
from pyramidseg.data.masks.palettes import read_palette
from pyramidseg.data.records import MaskSource, Record


def colors_shown(record: Record, masks: MaskSource, counts: NDArray[np.int64]) -> Mapping[int, Color]:
    """The colours that a mask's palette gives to the values of classes in it, where nobody has said what they mean.

    Args:
        counts: (256,) pixels by label.

    Raises:
        DataError: the mask is unreadable.
    """
    if not isinstance(masks, ClassMasks) or type(masks.values) is not IndexValues or record.mask is None:
        return {}
    if masks.values.stated or masks.values.colors:
        return {}
    palette = read_palette(record.mask)
    return {value: palette[value] for value, label in masks.ids if counts[label] and value < len(palette)}


class Palettes:
    """The colours of the values of a dataset."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[Color, Path]] = {}
        self._other: dict[int, tuple[Color, Path]] = {}

    def add(self, record: Record, colors: Mapping[int, Color]) -> None:
        """Take in what one mask shows."""
        file = record.mask or record.image
        for value, color in colors.items():
            if self._first.setdefault(value, (color, file))[0] != color:
                self._other.setdefault(value, (color, file))

    def contradiction(self) -> str | None:
        """What is wrong, if anything is."""
        if not self._other:
            return None
        value = min(self._other)
        (color, file), (other_color, other_file) = self._first[value], self._other[value]
        more = f", and {len(self._other) - 1} more indices differ" if len(self._other) > 1 else ""
        return (
            f"palettes contradict each other: index {value} is {list(color)} in {file} and {list(other_color)} in "
            f"{other_file}{more}; where the colours count, name the classes by them in a YAML file (classes: [{{name: "
            f"class {value}, color: {list(color)}}}, ...]), and where the indices do, by these (classes: {{class "
            f"{value}: {value}, ...}})"
        )
