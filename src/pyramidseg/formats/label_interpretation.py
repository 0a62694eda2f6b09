"""Interpretations of mask values that no class list explains, as proposals that only the user can confirm."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from pyramidseg.base.classes import IGNORE, MAX_CLASSES
from pyramidseg.base.config import LabelConfig
from pyramidseg.data.color_masks import unpack, unpacked
from pyramidseg.data.index_masks import describe_ranges
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.label_mapping import OTHER
from pyramidseg.formats.mask_sampling import ValueCounts
from pyramidseg.formats.pairing import LOSSY_EXTENSIONS
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousDatasetError

BLURRED_VALUES = 16
"""From this many values on, masks that are nearly all 0 and 255 are taken for binary masks with smoothed borders."""

GREY_LEVELS_FROM = 64
"""If value 1 is absent and the largest is at least this, classes are taken for grey levels, and 255 for one of them."""

MANY_VALUES, MANY_VALUES_PER_MASK = 192, 32
"""From this many values on, over all masks or on average in a mask, they are not classes without a class list."""

GREY_FROM = 128
"""Values from here on are bright if the masks hold grey levels."""

FOREGROUND_FROM = 192
"""Next to 0 and 255, rare values from here on are more likely the foreground of some masks than stray."""

STRAY_SHARE = 0.02
"""Values that together have no larger share of the pixels are proposed as stray values instead of classes."""

OVERLAY_OTHERS = 64
"""If no more colours are in the other masks, a mask with hundreds is named instead of the whole dataset."""

COLOR_SHARE, TOLERANCE = 0.01, 20
"""Of more colours than there can be classes, those with this share of the pixels are proposed as classes, together with
the colours that differ by the tolerance at most in each channel."""


@dataclass(frozen=True)
class Interpretation:
    """One way to read the masks, as a dataset file states it.

    Attributes:
        meaning: what is then assumed, as a clause.
        settings: of `LabelConfig`.
        classes: None if the settings suffice.
        strays: values that the proposal ignores, while an inspection reports them file by file.
    """

    meaning: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    classes: tuple[ClassEntry, ...] | None = None
    strays: tuple[int, ...] = ()

    def apply(self, config: LabelConfig) -> LabelConfig:
        """The settings, added to those that were stated; with a threshold, ignored values would have no effect."""
        ignored = () if "threshold" in self.settings else (*config.ignore, *self.settings.get("ignore", ()))
        return config.model_copy(update={**self.settings, "ignore": tuple(dict.fromkeys(ignored))})

    def alternative(self, stated: LabelConfig) -> Alternative:
        """The content of a dataset file, given the settings that were stated."""
        ignored = list(dict.fromkeys((*self.apply(stated).ignore, *self.strays)))
        settings = {**self.settings, **({"ignore": ignored} if ignored or stated.ignore else {})}
        if self.classes and not self.strays:
            entries = [entry.model_dump(exclude_defaults=True, mode="json", by_alias=True) for entry in self.classes]
            return Alternative(self.meaning, {"classes": entries, **settings})
        if settings.get("ignore") == []:  # flags would add to the ignored values of the file
            return Alternative(self.meaning, settings)
        single = ((key, it[0] if isinstance(it, list) and len(it) == 1 else it) for key, it in settings.items())
        flags = " ".join(f"data.{key}={str(value).lower().replace(' ', '')}" for key, value in single)
        return Alternative(f"{self.meaning} ({flags})", settings)


FROM_128_ON = Interpretation("values from 128 on are foreground, as in smoothed or grey masks", {"threshold": 128})


class AmbiguousLabelsError(AmbiguousDatasetError):
    """Mask values have several valid interpretations, and nothing states which one is meant.

    Attributes:
        detail: the reason, without the dataset's name.
        interpretations: the most likely one first.
    """

    def __init__(self, stated: Statements, detail: str, interpretations: Sequence[Interpretation]) -> None:
        super().__init__(stated.source, detail, [it.alternative(stated.config) for it in interpretations])
        self.detail, self.interpretations = detail, tuple(interpretations)


def interpret_values(counts: ValueCounts, values: list[int]) -> tuple[str, list[Interpretation]]:
    """The reason why mask values are ambiguous, and their interpretations, the most likely first."""
    found = f"the mask values are {describe_ranges(counts.pixels)}"
    ids = [value for value in values if value != IGNORE]
    others = [value for value in ids if value]
    if set(values) <= {0, IGNORE}:
        detail = f"the mask values are only {describe_ranges(values)}; without 255 there is no second class"
        return detail, [Interpretation("255 is the foreground", {"binary": True})]
    if others == values[1:] and len(others) == 1 and values[0] == 0:
        entries = ClassEntry(name="background", value=0), ClassEntry(name="foreground", value=others[0])
        level = Interpretation(f"values from {others[0]} on are foreground", {"threshold": others[0]})
        detail = f"the mask values are only 0 and {others[0]}; {_occurrences(counts, others)}"
        return detail, [Interpretation(f"{others[0]} is the foreground", classes=entries), level]
    if {0, IGNORE} <= set(values) and 1 not in values and counts.share(*others) <= STRAY_SHARE:
        if len(others) >= BLURRED_VALUES:
            share = counts.share(0, IGNORE)
            detail = f"{found}, of which 0 and 255 make up {share:.1%}, as in binary masks with smoothed borders"
            return detail, [FROM_128_ON]
        ignored = Interpretation(
            "255 is the foreground, stray values are ignored", {"binary": True}, strays=tuple(others)
        )
        either_way = [FROM_128_ON, ignored] if min(others) >= FOREGROUND_FROM else [ignored, FROM_128_ON]
        return f"{found}, as in binary masks with stray values: {_occurrences(counts, others)}", either_way
    if len(ids) > MAX_CLASSES or are_levels(counts, values):
        detail = f"{found}, which is {len(values)} values, like grey levels or instance numbers; classes need a list"
        return detail, _levels(max(values))
    missing = next((index for index, value in enumerate(ids) if index != value), len(ids))
    beyond = [value for value in ids if value > missing]
    are_grey_levels = 1 not in values and max(ids) >= GREY_LEVELS_FROM
    as_classes = _by_value(values if are_grey_levels or len(ids) < 2 else ids, ignored=IGNORE in values)
    detail = f"{found}, and without a class list they must run from 0 without gaps (255 is ignored), but {missing} is"
    if missing == 0:
        return f"{detail} missing", [as_classes]
    detail = f"{detail} missing, while {_occurrences(counts, beyond)}"
    if missing == 1:  # ignoring the others would leave a single class
        return detail, [as_classes]
    if len(values) >= BLURRED_VALUES and GREY_FROM <= max(values) <= IGNORE:
        return detail, [FROM_128_ON, as_classes]
    meaning = f"stray values are ignored: {describe_ranges(beyond)}"
    without = replace(_by_value(ids[:missing]), meaning=meaning, strays=tuple(beyond))
    return detail, [without, as_classes] if counts.share(*beyond) <= STRAY_SHARE else [as_classes, without]


def are_levels(counts: ValueCounts, values: Sequence[int]) -> bool:
    """Whether values without a class list look like grey levels or numbers of instances, not like classes."""
    return len(values) >= MANY_VALUES or counts.values_per_mask >= MANY_VALUES_PER_MASK


def _levels(largest: int) -> list[Interpretation]:
    """Interpretations of grey levels and of instance numbers; grey levels first if the values may be both."""
    entries = ClassEntry(name="background", value=0), ClassEntry.model_validate({"name": "foreground", "from": OTHER})
    numbers = [
        Interpretation("every value except 0 is foreground, as in masks of instance numbers", classes=entries),
        Interpretation("values from 1 on are foreground", {"threshold": 1}),
    ]
    return [FROM_128_ON, *numbers] if GREY_FROM <= largest <= IGNORE else numbers


def _by_value(values: Sequence[int], *, ignored: bool = False) -> Interpretation:
    entries = tuple(ClassEntry(name=f"class {value}", value=value) for value in values)
    also = ", and 255 is ignored" if ignored and IGNORE not in values else ""
    return Interpretation(f"each value is a class{also}", classes=entries)


def _occurrences(counts: ValueCounts, values: Sequence[int]) -> str:
    shown = [
        f"{value} occurs in {counts.masks[value]} masks ({counts.share(value):.2%} of the pixels, first in "
        f"{counts.first[value]})"
        for value in values[:4]
    ]
    return ", ".join(shown) + (f" and {len(values) - 4} more values" if len(values) > 4 else "")


def interpret_colors(counts: ValueCounts) -> tuple[str, list[Interpretation]]:
    """The same for colours that no class list names."""
    if len(counts.pixels) > MAX_CLASSES:
        ((file, new),) = Counter(counts.first.values()).most_common(1)
        if 2 <= len(counts.pixels) - new <= OVERLAY_OTHERS:
            detail = (
                f"{file} contains {new} colours, and the masks before it {len(counts.pixels) - new}: it looks like a "
                "picture, or labels blended with one; replace it by the mask"
            )
            entries = _color_entries([color for color in counts.pixels if counts.first[color] != file])
            return detail, [Interpretation("each colour of the other masks is a class", classes=entries)]
    if len(counts.pixels) > MAX_CLASSES or any(file.suffix in LOSSY_EXTENSIONS for file in counts.first.values()):
        found = f"more than {MAX_CLASSES}" if len(counts.pixels) > MAX_CLASSES else len(counts.pixels)
        detail = (
            f"the masks contain {found} colours, as photographs do and labels do not; smoothed or JPEG masks need the "
            "color of every class and a tolerance"
        )
        settings = {"tolerance": TOLERANCE, "ignore": (OTHER,)}
        entries = _color_entries(_frequent_colors(counts) or [0])
        return detail, [Interpretation("the most frequent are classes, others are ignored", settings, entries)]
    entries = _color_entries([color for color, _ in counts.pixels.most_common()])
    detail = f"the masks contain {len(entries)} colours, and no class list names them"
    return detail, [Interpretation("each colour is a class, most frequent first", classes=entries)]


def _frequent_colors(counts: ValueCounts) -> list[int]:
    """Colours that, with those within the tolerance, have `COLOR_SHARE` of the pixels; apart by twice the tolerance."""
    colors, pixels = (np.array(column, np.uint32) for column in zip(*counts.pixels.most_common(), strict=True))
    frequent: list[int] = []
    for _ in range(MAX_CLASSES):
        channels = unpacked(colors)
        distance = np.abs(channels - channels[:1]).max(axis=1)
        if pixels[distance <= TOLERANCE].sum() >= COLOR_SHARE * counts.pixels.total():
            frequent.append(int(colors[0]))
        colors, pixels = colors[distance > 2 * TOLERANCE], pixels[distance > 2 * TOLERANCE]
        if not len(colors):
            break
    return frequent


def _color_entries(colors: Sequence[int]) -> tuple[ClassEntry, ...]:
    return tuple(ClassEntry(name=f"class {index}", color=unpack(color)) for index, color in enumerate(colors))
