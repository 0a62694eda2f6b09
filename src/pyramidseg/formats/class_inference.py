"""Which source value is which class: said by the user, defined by the format, or inferred aloud."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from pyramidseg.base.classes import IGNORE, MAX_CLASSES, Classes
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.color_masks import ColorValues, unpack
from pyramidseg.data.index_masks import (
    BACKGROUND,
    FOREGROUND,
    NODATA_KEYWORD,
    PLAIN_INDICES,
    IndexValues,
    ThresholdValues,
    describe_ranges,
)
from pyramidseg.formats.dataset_format import ParsedDataset, SourceLabel
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.label_mapping import OTHER, ClassMap, Labels, index_values, make_classes
from pyramidseg.formats.mask_sampling import (
    ValueCounts,
    count_mask_colors,
    count_mask_values,
    foreground_value,
    mask_files,
    only_255_beside_0,
)

# Masks that leave more than one reading: what to say so that one of them holds.


class Interpretation(NamedTuple):
    """One way to read the masks, as a dataset file would say it; a proposal, which only the user can confirm.

    Attributes:
        classes: None where the settings say it all.
        settings: of `LabelConfig`.
    """

    classes: tuple[ClassEntry, ...] | None = None
    settings: Mapping[str, Any] = {}


class AmbiguousLabelsError(DataError):
    """Nobody has said what the masks mean, and they do not say it themselves.

    Attributes:
        detail: the message without the dataset's name.
        reading: a possible one.
    """

    def __init__(self, source: str, detail: str, reading: Interpretation) -> None:
        self.detail, self.reading = detail, reading
        super().__init__(f"{source}: {detail}")


# Classes by what the masks hold, where nobody names them; or a proposal, where that leaves more than one reading.

BLURRED_VALUES = 16
"""From so many values on, masks that are nearly all 0 and 255 look as if their borders had been smoothed."""

LEVELS_FROM = 64
"""A largest value of this or more, without 1, looks as if classes were grey levels and not counted."""

RARE_SHARE = 0.05
"""Values beside 0 and 255 that have a larger part of the pixels than this are classes rather than strays."""

FREQUENT_SHARE = 0.01
"""Of more colours than there can be classes, those that have this part of the pixels are proposed as classes."""

STRAY_SHARE = 0.01
"""Values behind a gap, after ids without one, that have no larger part of the pixels together are strays."""

SAY_BINARY = (
    "the masks hold only 0 and 255, which is a foreground for some and ignored pixels for others; "
    "say data.binary=true or data.ignore=255 (in a YAML file binary: true or ignore: 255)"
)


def inferred(listing: ParsedDataset, known: ClassMap) -> Labels:
    """Numbered classes of index masks whose values run from 0 without gaps; 255 is ignored.

    Raises:
        DataError: the values leave more than one reading; the message proposes settings.
    """
    ignore = known.ignored(())
    how = known.values if isinstance(known.values, IndexValues) else PLAIN_INDICES
    held = count_mask_values(mask_files(listing), how=how)
    values = sorted(set(held.pixels) - set(ignore))
    if values == [0, IGNORE]:
        raise AmbiguousLabelsError(known.source, SAY_BINARY, Interpretation(settings={"binary": True}))
    ids = [value for value in values if value != IGNORE]
    found = f"the masks hold {describe_ranges(held.pixels)}"
    if not ids:
        raise AmbiguousLabelsError(known.source, f"{found} and nothing else: no pixel has a class", _void_but(0))
    if len(ids) > MAX_CLASSES:
        frequent = sorted(ids, key=lambda value: -held.pixels[value])[:MAX_CLASSES]
        raise AmbiguousLabelsError(
            known.source,
            f"{found}, which is {len(ids)} classes; {MAX_CLASSES} are possible; merge values in a YAML file "
            "(classes: [{name: car, from: [300, 301]}, ...])",
            _by_value(sorted(frequent))._replace(settings={"ignore": (OTHER,)}),
        )
    if ids != list(range(len(ids))):
        why, reading = _gap(held, values)
        raise AmbiguousLabelsError(known.source, f"{found}, {why}", reading)
    masks = ClassMasks.from_values(
        {index: index for index in ids}, ignore=ignore, values=how, resize=known.config.resize_masks
    )
    note = f"no classes were given: {found}, so there are {len(ids)} (ignored {how.describe(masks.ignored)})"
    return Labels(Classes.numbered(len(ids)), masks, (note,))


def colors_proposed(listing: ParsedDataset, known: ClassMap) -> AmbiguousLabelsError:
    """The error for colours that nobody has named, with all of them in the form of a class list."""
    held = count_mask_colors(mask_files(listing))
    if len(held.pixels) > MAX_CLASSES:
        frequent = [color for color in held.pixels if held.share(color) >= FREQUENT_SHARE]
        return AmbiguousLabelsError(
            known.source,
            f"the masks hold more than {MAX_CLASSES} colours, as pictures do and not labels: smoothed or JPEG masks "
            "need the color of every class in a YAML file, and data.tolerance",
            _by_color(frequent or [0])._replace(settings={"ignore": (OTHER,)}),
        )
    entries = ", ".join(
        f"{{name: class {index}, color: {list(unpack(color))}}}"
        for index, (color, _) in enumerate(held.pixels.most_common())
    )
    return AmbiguousLabelsError(
        known.source,
        f"the masks hold {len(held.pixels)} colours and no class list says what they are; give them names in a YAML "
        f"file, most frequent first: classes: [{entries}]",
        _by_color([color for color, _ in held.pixels.most_common()]),
    )


def _void_but(value: int) -> Interpretation:
    return _by_value([value])._replace(settings={"ignore": (IGNORE,)})


def _by_value(values: list[int]) -> Interpretation:
    return Interpretation(tuple(ClassEntry(name=f"class {value}", value=value) for value in values))


def _by_color(colors: list[int]) -> Interpretation:
    return Interpretation(
        tuple(ClassEntry(name=f"class {index}", color=unpack(color)) for index, color in enumerate(colors))
    )


def _gap(held: ValueCounts, values: list[int]) -> tuple[str, Interpretation]:
    """What values that are no ids could mean, and what to say for it."""
    ids = [value for value in values if value != IGNORE]
    others = [value for value in ids if value]
    if {0, IGNORE} <= set(values) and 1 not in values and sum(map(held.share, others)) < RARE_SHARE:
        if len(others) >= BLURRED_VALUES:
            return (
                f"of which 0 and 255 make up {held.share(0) + held.share(IGNORE):.1%} of the pixels, as in binary "
                "masks whose borders have been smoothed; say from which level on a pixel is foreground "
                "(data.threshold=128)",
                Interpretation(settings={"threshold": 128}),
            )
        return (
            f"of which {_where(held, others)}, as in binary masks with stray values; say data.binary=true, and for the "
            f"stray values data.ignore={_compact(others)}",
            Interpretation(settings={"binary": True}),  # strays are named file by file then
        )
    gap = next(index for index, value in enumerate(ids) if index != value)
    late = [value for value in ids if value > gap]
    if gap == 0:
        return (
            "and without a class list ids must run from 0 (255 is ignored); give each class its value in a YAML file: "
            f"{_proposed_map(ids)}",
            _by_value(ids),
        )
    strays = gap > 1 and sum(map(held.share, late)) <= STRAY_SHARE
    as_levels = 1 not in values and max(ids) >= LEVELS_FROM  # 255 is white then, and no void
    return (
        f"and without a class list ids must run from 0 without gaps (255 is ignored), so {gap} is missing, while "
        f"{_where(held, late)}; list stray values under ignore (data.ignore={_compact(late)}), or give each class its "
        f"value in a YAML file: {_proposed_map(values if as_levels else ids)}",
        _by_value(ids[:gap] if strays else values if as_levels else ids),  # strays are named file by file then
    )


def _where(held: ValueCounts, values: list[int]) -> str:
    said = [
        f"{value} occurs in {held.masks[value]} masks ({held.share(value):.2%} of the pixels, first in "
        f"{held.first[value]})"
        for value in values[:4]
    ]
    return ", ".join(said) + (f" and {len(values) - 4} more values" if len(values) > 4 else "")


def _compact(values: list[int]) -> str:
    return "[" + ",".join(map(str, values[:12])) + (",...]" if len(values) > 12 else "]")


def _proposed_map(ids: list[int]) -> str:
    entries = ", ".join(f"class {value}: {value}" for value in ids[:12])
    return f"classes: {{{entries}{', ...' if len(ids) > 12 else ''}}}"


# Binary masks: background and foreground, and what says so.


def binary_labels(
    listing: ParsedDataset, classes: tuple[ClassEntry, ...] | None, config: LabelConfig, *, source: str
) -> Labels:
    """Two classes by the value 0 and the other one, which is 255 or, as in 1-bit files, 1; or by a threshold.

    Raises:
        ConfigError: settings that mean nothing for binary masks, or a class list that is not of two.
    """
    if not isinstance(listing.values, IndexValues):
        raise ConfigError(
            f"{source}: binary and threshold are for mask images, and this format has none; leave them out"
        )
    if config.tolerance:
        raise ConfigError(
            f"{source}: tolerance={config.tolerance}: tolerance is for colours, and binary masks have none"
        )
    entries = classes or _binary_entries(listing)
    if len(entries) != 2 or any(entry.value is not None or entry.merged for entry in entries):
        raise ConfigError(
            f"{source}: binary masks have two classes, background and foreground; got {len(entries)} classes"
            f"{' with values of their own' if len(entries) == 2 else ''}: leave out binary, or the class list"
        )
    parted = config.threshold is not None
    unclear = [value for value in config.ignore if isinstance(value, str) and value not in (OTHER, NODATA_KEYWORD)]
    if unclear or (config.ignore and parted):
        raise ConfigError(
            f"{source}: ignore={list(config.ignore)}: binary masks have numbers only, and none beside 0 and 255 once "
            "a threshold parts them; list the numbers that count nowhere, or leave ignore out"
        )
    indices = index_values(config)
    foreground = (
        FOREGROUND
        if parted
        else foreground_value(
            mask_files(listing),
            how=indices,
        )
    )
    listed = {value for value in config.ignore if isinstance(value, int) and value >= 0}
    masks = ClassMasks(  # not of_values, by which 255 would be ignored where the first mask makes 1 the foreground
        ids=tuple(sorted({BACKGROUND: int(config.inverted), foreground: int(not config.inverted)}.items())),
        ignored=tuple(sorted(listed | (set(indices.ignored_values) - {IGNORE}))),
        values=indices if config.threshold is None else ThresholdValues(config.threshold),
        ignore_unlisted=OTHER in config.ignore,
        resize=config.resize_masks,
    )
    how = f"grey levels parted at {config.threshold}" if parted else f"0 and {foreground}"
    order = "foreground and background" if config.inverted else "background and foreground"
    return Labels(make_classes(entries), masks, (f"binary masks: {how} are {order}",))


def _binary_entries(listing: ParsedDataset) -> tuple[ClassEntry, ...]:
    """The two classes of the dataset's own list, if it has just two; else background and foreground."""
    named = [label for label in listing.labels if not label.ignored]
    if len(named) == 2:
        return tuple(ClassEntry(name=label.name, color=label.color) for label in named)
    return ClassEntry(name="background"), ClassEntry(name="foreground")


SAY_FOREGROUND = (
    "the masks hold 255 and, beside 0, no value of a class; 255 is a foreground for some and ignored pixels for "
    "others: say data.binary=true, give the class its value in a YAML file (value: 255), or list 255 under ignore "
    "(data.ignore=255)"
)


def decide_labels(
    listing: ParsedDataset,
    *,
    source: str,
    classes: tuple[ClassEntry, ...] | None,
    config: LabelConfig,
    assumed: Classes | None,
) -> Labels:
    """The user's classes before the format's, those before the model's, and those before what the masks hold.

    Args:
        assumed: the classes of the model that the dataset is opened for, if there is one already.

    Raises:
        ConfigError: class entries that contradict each other, name what is not there, or settings without effect.
        DataError: nothing was said, and the values in the masks leave more than one reading.
    """
    if config.binary or config.threshold is not None:
        return binary_labels(
            listing,
            classes,
            config,
            source=source,
        )
    if config.inverted:
        raise ConfigError(f"{source}: inverted is for binary masks: say binary or threshold too, or leave it out")
    models = None if assumed is None or listing.labels else _entries(assumed)
    known = ClassMap.of(
        listing,
        classes or models,
        config,
        source=source,
    )
    note: tuple[str, ...] = ()
    if classes is not None:
        labels = known.named(classes)
    elif known.labels:
        labels = known.named(known.own_entries())
        note = (f"no classes were given: those of the layout are taken ({_in_words(known, labels)})",)
    elif models is not None:
        labels = known.named(models)
        note = (f"no classes were given: those of the model are taken ({len(models)})",)
    elif isinstance(known.values, ColorValues):
        raise colors_proposed(listing, known)
    else:
        return inferred(listing, known)
    _refuse_lost_foreground(listing, known, labels, classes)
    return labels._replace(notes=(*known.notes, *note, *labels.notes))


def _entries(classes: Classes) -> tuple[ClassEntry, ...]:
    return tuple(ClassEntry(name=name, color=color) for name, color in zip(classes.names, classes.colors, strict=True))


def _refuse_lost_foreground(
    listing: ParsedDataset, known: ClassMap, labels: Labels, classes: tuple[ClassEntry, ...] | None
) -> None:
    """Masks of 0 and 255, with stray values or without, would be all background where 255 is no class.

    Raises:
        DataError: these are such masks, and nobody has said that 255 is to be ignored.
    """
    values = {value for value, _ in labels.masks.ids}
    said = {IGNORE, OTHER} & set(known.config.ignore) or any(
        label.value == IGNORE and label.ignored for label in known.labels
    )
    if IGNORE in values or 0 not in values or said or not isinstance(known.values, IndexValues):
        return
    if only_255_beside_0(mask_files(listing), values, how=known.values):
        binary = values == {0, 1} and not any(entry.merged or entry.value is not None for entry in classes or ())
        settings = {"binary": True} if binary else {"ignore": (*known.config.ignore, IGNORE)}
        raise AmbiguousLabelsError(known.source, SAY_FOREGROUND, Interpretation(settings=settings))


def _in_words(known: ClassMap, labels: Labels) -> str:
    """Classes with their values, as far as these are a file's, and what is ignored."""
    words = known.values.describe
    by_name: dict[str, list[SourceLabel]] = {}
    for label in known.labels:
        by_name.setdefault(label.name, []).append(label)
    plain = isinstance(known.values, (IndexValues, ColorValues))
    names = [
        f"{name} {words(label.value for label in by_name[name])}" if plain else name for name in labels.classes.names
    ]
    return f"{', '.join(names)}; ignored {words(labels.masks.ignored)}"
