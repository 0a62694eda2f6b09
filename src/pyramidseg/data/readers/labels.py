"""Which source value is which class: said by the user, defined by the format, or inferred aloud."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyramidseg.classes import IGNORE, MAX_CLASSES, Classes, default_palette
from pyramidseg.config import LabelConfig, MaskReference
from pyramidseg.data.masks.binary import BACKGROUND, FOREGROUND, ThresholdValues
from pyramidseg.data.masks.class_masks import ClassMasks
from pyramidseg.data.masks.colors import ColorValues, mask_kind, pack, packed, read_colors
from pyramidseg.data.masks.index import IndexValues, in_ranges, read_mask_values
from pyramidseg.data.parallel import Track, in_threads
from pyramidseg.data.readers.listing import Listing, SourceLabel
from pyramidseg.data.readers.yaml_file import ClassEntry
from pyramidseg.data.records import ValueSource
from pyramidseg.errors import ConfigError, DataError, nearest

EVERYTHING_ELSE = "*"


class Labels(NamedTuple):
    """Classes, the decoder of their masks, and what was inferred."""

    classes: Classes
    masks: ClassMasks
    notes: tuple[str, ...] = ()


def decide_labels(
    listing: Listing,
    *,
    source: str,
    classes: tuple[ClassEntry, ...] | None,
    config: LabelConfig,
    assumed: Classes | None,
    track: Track,
) -> Labels:
    """The user's classes before the format's, those before the model's, and those before what the masks hold.

    Args:
        assumed: the classes of the model that the dataset is opened for, if there is one already.

    Raises:
        ConfigError: class entries that contradict each other, or name what is not there.
        DataError: nothing was said, and the values in the masks leave more than one reading.
    """
    if config.binary or config.threshold is not None:
        return _binary(classes, config, source=source)
    if config.inverted:
        raise ConfigError(f"{source}: inverted is for binary masks: say binary or threshold too, or leave it out")
    book = _Book.of(listing, classes, config, source=source)
    if classes is not None:
        labels = book.named(classes)
        return labels._replace(notes=book.notes + labels.notes)
    if book.labels:
        labels = book.named(tuple(ClassEntry(name=label.name) for label in book.labels if not label.ignored))
        names, ignored = ", ".join(labels.classes.names), book.values.in_words(labels.masks.ignored)
        note = f"no classes were given: those of the layout are taken ({names}; ignored {ignored})"
    elif assumed is not None:
        colored = zip(assumed.names, assumed.colors, strict=True)
        labels = book.named(tuple(ClassEntry(name=name, color=color) for name, color in colored))
        note = f"no classes were given: those of the model are taken ({len(assumed)})"
    elif isinstance(book.values, ColorValues):
        raise _proposal(listing, source=source, track=track)
    else:
        labels, note = _inferred(listing, book, track), ""
    return labels._replace(notes=(*book.notes, *([note] if note else []), *labels.notes))


def _binary(classes: tuple[ClassEntry, ...] | None, config: LabelConfig, *, source: str) -> Labels:
    classes = classes or (ClassEntry(name="background"), ClassEntry(name="foreground"))
    if len(classes) != 2 or any(entry.value is not None or entry.merged for entry in classes):
        raise ConfigError(
            f"{source}: binary masks have two classes, 0 and 255; got {len(classes)} classes"
            f"{' with values of their own' if len(classes) == 2 else ''}: leave out binary, or the class list"
        )
    values = IndexValues() if config.threshold is None else ThresholdValues(config.threshold)
    unclear = [value for value in config.ignore if isinstance(value, str) and value != EVERYTHING_ELSE]
    if unclear or (config.ignore and config.threshold is not None):
        raise ConfigError(
            f"{source}: ignore={list(config.ignore)}: binary masks have numbers only, and none beside 0 and 255 once "
            "a threshold parts them; list the numbers that count nowhere, or leave ignore out"
        )
    masks = ClassMasks.of_values(
        {BACKGROUND: int(config.inverted), FOREGROUND: int(not config.inverted)},
        ignore=[value for value in config.ignore if isinstance(value, int)],
        values=values,
        rest_ignored=EVERYTHING_ELSE in config.ignore,
        resize=config.resize_masks,
    )
    how = "0 and 255" if config.threshold is None else f"grey levels parted at {config.threshold}"
    order = "foreground and background" if config.inverted else "background and foreground"
    return Labels(_make_classes(classes, {}), masks, (f"binary masks: {how} are {order}",))


@dataclass(frozen=True)
class _Book:
    """What values there are and what they are called: where entries and ignored values are looked up.

    Attributes:
        source: what the user named, for messages.
        labels: the format's, with values as `values` reads them.
    """

    source: str
    values: ValueSource
    labels: tuple[SourceLabel, ...]
    config: LabelConfig
    notes: tuple[str, ...] = ()

    @classmethod
    def of(
        cls, listing: Listing, classes: tuple[ClassEntry, ...] | None, config: LabelConfig, *, source: str
    ) -> "_Book":
        """Index files whose pixels turn out to be colours are read as such, aloud."""
        if not isinstance(listing.values, IndexValues) or not (colored := _first_colored(listing)):
            if config.tolerance:
                raise ConfigError(
                    f"{source}: tolerance={config.tolerance}: tolerance is for masks that hold colours, and these hold "
                    "none; leave it out"
                )
            return cls(source, listing.values, listing.labels, config)
        labels = tuple(replace(label, value=pack(label.color)) for label in listing.labels if label.color is not None)
        colors = {pack(entry.color) for entry in classes or () if entry.color is not None}
        references = [reference for entry in classes or () for reference in entry.merged] + list(config.ignore)
        colors |= {value for reference in references if (value := _hex(reference)) is not None}
        known = tuple(sorted(colors | {label.value for label in labels}))
        exact = "exactly" if not config.tolerance else f"to {config.tolerance} in each channel"
        note = f"the masks hold colours ({colored}), which are compared {exact}"
        return cls(source, ColorValues(known, config.tolerance), labels, config, (note,))

    def named(self, entries: tuple[ClassEntry, ...]) -> Labels:
        """Classes of a list of entries: by value, by colour, by the format's names, or else by position."""
        origins = [self._origins(entry) for entry in entries]
        notes: tuple[str, ...] = ()
        if not any(origins) and isinstance(self.values, IndexValues):
            origins = [(index,) for index in range(len(entries))]
            if self.labels:
                notes = ("the classes given replace those of the layout: mask values are their positions",)
        lacking = [entry.name for entry, origin in zip(entries, origins, strict=True) if not origin]
        if lacking:
            raise ConfigError(self._no_origin(lacking[0]))
        ids: dict[int, int] = {}
        for index, origin in enumerate(origins):
            for value in origin:
                if ids.setdefault(value, index) != index:
                    raise ConfigError(
                        f"{self.source}: value {self.values.in_words([value])} is given to more than one class: "
                        "values must differ"
                    )
        colors = {label.value: label.color for label in self.labels if label.color is not None}
        of_class = {index: colors[origin[0]] for index, origin in enumerate(origins) if origin and origin[0] in colors}
        try:
            masks = ClassMasks.of_values(
                ids,
                ignore=self.ignored(ids),
                values=self.values,
                rest_ignored=EVERYTHING_ELSE in self.config.ignore,
                resize=self.config.resize_masks,
            )
            return Labels(_make_classes(entries, of_class), masks, notes)
        except DataError as error:
            raise ConfigError(f"{self.source}: {error}") from None

    def ignored(self, ids: Iterable[int]) -> tuple[int, ...]:
        """The values that the user ignores, and those that the format does unless they are a class."""
        said = {
            value
            for reference in self.config.ignore
            if reference != EVERYTHING_ELSE
            for value in self._values_of(reference)
        }
        classes = set(ids)
        return tuple(sorted(said | {label.value for label in self.labels if label.ignored} - classes))

    def _origins(self, entry: ClassEntry) -> tuple[int, ...]:
        """The values of one class; none where only its position could tell."""
        if entry.merged:
            return tuple(dict.fromkeys(value for reference in entry.merged for value in self._values_of(reference)))
        if entry.value is not None:
            return self._values_of(entry.value)
        if isinstance(self.values, ColorValues) and entry.color is not None:
            return (pack(entry.color),)
        return tuple(label.value for label in self.labels if label.name == entry.name)

    def _values_of(self, reference: MaskReference) -> tuple[int, ...]:
        colors = isinstance(self.values, ColorValues)
        if isinstance(reference, int):
            if colors:
                raise ConfigError(
                    f"{self.source}: value {reference}: the masks hold colours; name a colour, such as '#40c000'"
                )
            return (reference,)
        values = tuple(label.value for label in self.labels if label.name == reference)
        color = _hex(reference)
        if values or (colors and color is not None):
            return values or (color or 0,)
        names = [label.name for label in self.labels]
        what = (
            "the masks hold no colours"
            if color is not None
            else nearest(reference, names)
            if names
            else ("this format defines no names, so values are needed")
        )
        raise ConfigError(f"{self.source}: {reference!r} is nothing that the masks hold; {what}")

    def _no_origin(self, name: str) -> str:
        if isinstance(self.values, ColorValues):
            return f"{self.source}: class {name!r} has no color, and the masks hold colours: give every class its color"
        if self.labels:
            names = [label.name for label in self.labels]
            return (
                f"{self.source}: class {name!r} is not defined by the dataset while others are, or has no value; "
                f"{nearest(name, names)}, or say where it comes from (from: [...])"
            )
        return f"{self.source}: class {name!r} has no value while others have: give all of them one, or none"


def _hex(reference: MaskReference) -> int | None:
    """`#rrggbb` as an integer."""
    if not isinstance(reference, str) or len(reference) != 7 or reference[0] != "#":
        return None
    try:
        return int(reference[1:], 16)
    except ValueError:
        return None


def _first_colored(listing: Listing) -> Path | None:
    """The first mask that holds colours; the first that cannot be grey levels saved as colours decides."""
    for mask in _mask_files(listing):
        try:
            kind = mask_kind(mask)
        except DataError:
            continue  # named by the check of all masks, with all others
        if kind != "grey in colours":
            return mask if kind == "colours" else None
    return None


def _make_classes(entries: Sequence[ClassEntry], format_colors: dict[int, tuple[int, int, int]]) -> Classes:
    spare = default_palette(len(entries))
    colors = tuple(entry.color or format_colors.get(index, spare[index]) for index, entry in enumerate(entries))
    return Classes(tuple(entry.name for entry in entries), colors)


def _inferred(listing: Listing, book: _Book, track: Track) -> Labels:
    source = book.source
    ignore = book.ignored(())
    first_in = _first_file_by_value(listing, track)
    values = sorted(set(first_in) - set(ignore))
    if values == [0, IGNORE]:
        raise DataError(
            f"{source}: the masks hold only 0 and 255, which is a foreground for some and ignored pixels for others; "
            "say data.binary=true or data.ignore=255 (in a YAML file binary: true or ignore: 255)"
        )
    ids = [value for value in values if value != IGNORE]
    held = f"the masks hold {in_ranges(first_in)}"
    if len(ids) > MAX_CLASSES:
        raise DataError(f"{source}: {held}, which is {len(ids)} classes; {MAX_CLASSES} are possible")
    if not ids:
        raise DataError(f"{source}: {held} and nothing else: no pixel has a class")
    if ids != list(range(len(ids))):
        gap = next(index for index, value in enumerate(ids) if index != value)
        raise DataError(
            f"{source}: {held} (first {ids[gap]} in {first_in[ids[gap]]}), and without a class list ids must run "
            f"from 0 without gaps (255 is ignored), so {gap} is missing; list stray values under ignore "
            "(data.ignore=[3,4]), or give each class its value in a YAML file (classes: {road: 0, car: 7})"
        )
    masks = ClassMasks.of_values({index: index for index in ids}, ignore=ignore, resize=book.config.resize_masks)
    note = f"no classes were given: {held}, so there are {len(ids)} (ignored {in_ranges(masks.ignored)})"
    return Labels(Classes.numbered(len(ids)), masks, (note,))


def _proposal(listing: Listing, *, source: str, track: Track) -> DataError:
    """The error for colours that nobody has named, with all of them in the form of a class list."""
    pixels = _pixels_by_color(listing, track)
    if len(pixels) > MAX_CLASSES:
        return DataError(
            f"{source}: the masks hold more than {MAX_CLASSES} colours, as pictures do and not labels: anti-aliased or "
            "JPEG masks need the color of every class in a YAML file, and data.tolerance"
        )
    entries = ", ".join(
        f"{{name: class {index}, color: [{color >> 16}, {color >> 8 & 255}, {color & 255}]}}"
        for index, color in enumerate(sorted(pixels, key=lambda color: -pixels[color]))
    )
    return DataError(
        f"{source}: the masks hold {len(pixels)} colours and no class list says what they are; give them names in a "
        f"YAML file, most frequent first: classes: [{entries}]"
    )


def _pixels_by_color(listing: Listing, track: Track) -> dict[int, int]:
    """Pixels by packed colour over all masks; ends early where there are more than can be classes."""
    masks = _mask_files(listing)
    pixels: dict[int, int] = {}
    for found in track(in_threads(_colors_in, masks), total=len(masks), what="reading the colours in the masks"):
        for color, count in found.items():
            pixels[color] = pixels.get(color, 0) + count
        if len(pixels) > MAX_CLASSES:
            break
    return pixels


def _colors_in(mask: Path) -> dict[int, int]:
    colors, counts = np.unique(packed(read_colors(mask)), return_counts=True)
    return dict(zip(colors.tolist(), counts.tolist(), strict=True))


def _first_file_by_value(listing: Listing, track: Track) -> dict[int, Path]:
    masks = _mask_files(listing)
    found: dict[int, Path] = {}
    passes = zip(masks, in_threads(_values_in, masks), strict=True)
    for mask, values in track(passes, total=len(masks), what="reading the values in the masks"):
        for value in values:
            found.setdefault(value, mask)
    return found


def _mask_files(listing: Listing) -> list[Path]:
    return [record.mask for records in listing.splits.values() for record in records if record.mask is not None]


def _values_in(mask: Path) -> list[int]:
    # bincount of bytes is far quicker than unique, which sorts
    return np.flatnonzero(np.bincount(read_mask_values(mask).ravel())).tolist()
