"""Maps the names, values and colours that the user and the format give to classes and a mask decoder."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pyramidseg.base.classes import Classes, Color, default_palette, hex_color
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import DataError, nearest
from pyramidseg.base.setting_types import MaskReference
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.color_masks import ColorValues, pack
from pyramidseg.data.index_masks import NODATA_KEYWORD, IndexValues
from pyramidseg.data.records import ValueSource
from pyramidseg.formats.dataset_format import ParsedDataset, SourceLabel
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.mask_sampling import find_color_mask

OTHER = "*"
"""In `ignore`, or as the origin of one class: all values that are not named."""


@dataclass(frozen=True)
class Labels:
    """Classes and the decoder of their masks.

    Attributes:
        config: the settings that they follow from, inferred ones included.
        notes: what was inferred.
    """

    classes: Classes
    masks: ClassMasks
    config: LabelConfig
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ClassMap:
    """The values that masks can have and their names: where class entries and ignored values are looked up.

    Attributes:
        stated: what the user stated; its classes are looked up.
        labels: the format's, with values as `values` reads them.
    """

    stated: Statements
    values: ValueSource
    labels: tuple[SourceLabel, ...]
    notes: tuple[str, ...] = ()

    @classmethod
    def of(cls, parsed: ParsedDataset, stated: Statements) -> "ClassMap":
        """Read image files by their colours if their pixels turn out to be colours, with a note.

        Raises:
            ConfigError: a tolerance for masks that hold no colours.
        """
        classes, config, values = stated.classes or (), stated.config, parsed.values
        exactness = f"to {config.tolerance} in each channel" if config.tolerance else "exactly"
        if isinstance(values, ColorValues):
            values = replace(values, tolerance=config.tolerance, transparent=config.transparent)
            return cls(stated, values, parsed.labels, (f"colours are compared {exactness}",))
        color_mask = None
        known: list[tuple[int, Color | None]] = []
        if isinstance(values, IndexValues):
            values = index_values(config)
            known = _own_colors(classes)
            if not any(color for _, color in known):
                known = [(label.value, label.color) for label in parsed.labels]
            color_mask = find_color_mask(parsed.mask_files, known, tolerance=config.tolerance, how=values)
        if color_mask is None:
            if config.tolerance:
                detail = "tolerance applies to masks of colours, and these contain none; leave it out"
                raise stated.error(f"tolerance={config.tolerance}: {detail}")
            if isinstance(values, IndexValues):
                explicit = bool(classes) and all(entry.value is not None or entry.merged for entry in classes)
                in_palettes = tuple((value, color) for value, color in known if color)
                values = replace(values, colors=in_palettes, explicit=explicit)
            return cls(stated, values, parsed.labels)
        labels = tuple(replace(label, value=pack(label.color)) for label in parsed.labels if label.color is not None)
        colors = {pack(color) for _, color in _own_colors(classes) if color is not None}
        references = [reference for entry in classes for reference in entry.merged] + list(config.ignore)
        colors |= {value for reference in references if (value := _hex(reference)) is not None}
        packed = tuple(sorted(colors | {label.value for label in labels}))
        note = f"the masks contain colours ({color_mask}), which are compared {exactness}"
        return cls(stated, ColorValues(packed, config.tolerance, config.transparent), labels, (note,))

    def named(self, entries: tuple[ClassEntry, ...]) -> Labels:
        """Classes of a list of entries: by value, by colour, by the format's names, otherwise by position.

        Raises:
            ConfigError: entries that contradict each other, or name what does not exist.
        """
        config, origins = self.stated.config, [self._origins(entry) for entry in entries]
        notes: tuple[str, ...] = ()
        if not any(origins) and isinstance(self.values, IndexValues):
            origins = [(index,) for index in range(len(entries))]
            if self.labels:
                notes = ("the classes given replace those of the layout: mask values are their positions",)
        rest = [index for index, entry in enumerate(entries) if OTHER in entry.merged]
        if len(rest) > 1:
            names = " and ".join(repr(entries[index].name) for index in rest[:2])
            raise self.stated.error(f"from: '*' is given to {names}; only one class takes all other values")
        lacking = [entries[index].name for index, origin in enumerate(origins) if not origin and index not in rest]
        if lacking:
            raise self.stated.error(f"class {lacking[0]!r} {self._no_origin(lacking[0])}")
        ids: dict[int, int] = {}
        for index, origin in enumerate(origins):
            for value in origin:
                if ids.setdefault(value, index) != index:
                    shown = self.values.describe([value])
                    raise self.stated.error(f"value {shown} is given to more than one class: values must differ")
        colors = {label.value: label.color for label in self.labels if label.color is not None}
        of_class = {index: colors[origin[0]] for index, origin in enumerate(origins) if origin and origin[0] in colors}
        try:
            masks = ClassMasks.from_values(
                ids,
                ignore=self.ignored(ids),
                values=self.values,
                ignore_unlisted=OTHER in config.ignore,
                resize=config.resize_masks,
                rest=rest[0] if rest else None,
            )
            return Labels(make_classes(entries, of_class), masks, config, notes)
        except DataError as error:
            raise self.stated.error(str(error)) from None

    def own_entries(self) -> tuple[ClassEntry, ...]:
        """The format's classes, without those that the user ignores."""
        dropped = self._ignored_by_user()
        kept = (label.name for label in self.labels if not label.ignored and label.value not in dropped)
        return tuple(ClassEntry(name=name) for name in dict.fromkeys(kept))

    def ignored(self, ids: Iterable[int]) -> tuple[int, ...]:
        """The values that the user ignores, and those that the format ignores unless they are a class."""
        of_format = {label.value for label in self.labels if label.ignored} - set(ids)
        return tuple(sorted(self._ignored_by_user() | of_format))

    def _ignored_by_user(self) -> set[int]:
        references = (reference for reference in self.stated.config.ignore if not self._is_no_single_value(reference))
        return {value for reference in references for value in self._values_of(reference)}

    def _is_no_single_value(self, reference: MaskReference) -> bool:
        """Whether an ignored reference is `*`, or nodata or a negative number, which `values` handles itself."""
        if reference == NODATA_KEYWORD and any(label.name == NODATA_KEYWORD for label in self.labels):
            return False
        is_nodata = reference == NODATA_KEYWORD or (isinstance(reference, int) and reference < 0)
        return reference == OTHER or (is_nodata and isinstance(self.values, IndexValues))

    def _origins(self, entry: ClassEntry) -> tuple[int, ...]:
        """The mask values of one class; empty if only its position can tell."""
        if entry.merged:
            stated = (reference for reference in entry.merged if reference != OTHER)
            return tuple(dict.fromkeys(value for reference in stated for value in self._values_of(reference)))
        if entry.value is not None:
            return self._values_of(entry.value)
        if isinstance(self.values, ColorValues) and entry.color is not None:
            return (pack(entry.color),)
        return tuple(label.value for label in self.labels if label.name == entry.name)

    def _values_of(self, reference: MaskReference) -> tuple[int, ...]:
        colors = isinstance(self.values, ColorValues)
        if isinstance(reference, int):
            if colors:
                raise self.stated.error(
                    f"value {reference}: the masks contain colours; name a colour, such as '#40c000'"
                )
            return (reference,)
        values = tuple(label.value for label in self.labels if label.name == reference)
        color = _hex(reference)
        if values or (colors and color is not None):
            return values or (color or 0,)
        if color is not None:
            what = "the masks contain no colours"
        elif self.labels:
            what = nearest(reference, [label.name for label in self.labels])
        else:
            what = "this format defines no names, so values are needed"
        raise self.stated.error(f"{reference!r} is not a class or value of the masks; {what}")

    def _no_origin(self, name: str) -> str:
        """Why a class has no values, and the next step."""
        if isinstance(self.values, ColorValues):
            return "has no color, and the masks contain colours: give every class its color"
        if self.labels:
            known = nearest(name, [label.name for label in self.labels])
            step = f"{known}, or say where it comes from (from: [...])"
            return f"is not defined by the dataset while others are, or has no value; {step}"
        return "has no value while others have: give all of them one, or none"


def index_values(config: LabelConfig) -> IndexValues:
    """The reader of index masks, given the ignored values that cannot be an index."""
    negative = sorted({value for value in config.ignore if isinstance(value, int) and value < 0})
    return IndexValues(negative=tuple(negative), nodata=NODATA_KEYWORD in config.ignore, transparent=config.transparent)


def make_classes(entries: Sequence[ClassEntry], format_colors: dict[int, Color] | None = None) -> Classes:
    """Classes with the colours that were given, otherwise the format's by class id, otherwise the default palette's."""
    spare, known = default_palette(len(entries)), format_colors or {}
    colors = tuple(entry.color or known.get(index, spare[index]) for index, entry in enumerate(entries))
    return Classes(tuple(entry.name for entry in entries), colors)


def _own_colors(classes: tuple[ClassEntry, ...]) -> list[tuple[int, Color | None]]:
    """Values and colours of the user's classes, without merged ones, whose colour is only for display."""
    return [
        (position if entry.value is None else entry.value, entry.color)
        for position, entry in enumerate(classes)
        if not entry.merged
    ]


def _hex(reference: MaskReference) -> int | None:
    """`#rrggbb` as an integer."""
    color = hex_color(reference)
    return None if color is None else pack(color)


# The dataset file that opens a dataset again as it was opened: everything that was stated or inferred.


def dataset_description(parsed: ParsedDataset, stated: Statements, labels: Labels | None) -> dict[str, Any]:
    """The content of a `DatasetFile` in plain lists and numbers, in which every class states its mask values.

    Args:
        stated: a colour of its classes that palettes are compared with is kept as such.
        labels: None if the classes could not be decided.
    """
    config = labels.config if labels else stated.config
    own = {entry.name for entry in stated.classes or () if entry.color is not None and not entry.merged}
    return {
        "path": str(parsed.root.resolve()),
        **({"format": parsed.format} if parsed.format else {}),
        **{split: entry.model_dump(exclude_none=True) for split, entry in stated.splits.items()},
        **({"classes": _classes(labels, own)} if labels else {}),
        **config.model_dump(mode="json", exclude_defaults=True),
    }


def _classes(labels: Labels, own: set[str]) -> list[dict[str, Any]]:
    colored = isinstance(labels.masks.values, ColorValues)
    origins: dict[int, list[int | str]] = {}
    for value, index in labels.masks.ids:
        origins.setdefault(index, []).append(f"#{value:06x}" if colored else value)
    if labels.masks.rest is not None:
        origins.setdefault(labels.masks.rest, []).append(OTHER)
    content: list[dict[str, Any]] = []
    for index, (name, color) in enumerate(zip(labels.classes.names, labels.classes.colors, strict=True)):
        entry: dict[str, Any] = {"name": name, "color": list(color)}
        if labels.config.binary or labels.config.threshold is not None:
            pass  # these settings state the values
        elif name in own and len(origins[index]) == 1 and isinstance(labels.masks.values, IndexValues):
            entry["value"] = origins[index][0]  # next to `from`, the colour would be for display only
        else:
            entry["from"] = origins[index]
        content.append(entry)
    return content
