"""Which mask value is which class: given by the user, defined by the format, or inferred with a message."""

from dataclasses import replace

from pyramidseg.base.classes import IGNORE, MAX_CLASSES, Classes
from pyramidseg.base.config import LabelConfig
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.color_masks import ColorValues
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
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.dataset_yaml import ClassEntry
from pyramidseg.formats.label_interpretation import (
    AmbiguousLabelsError,
    Interpretation,
    are_levels,
    interpret_colors,
    interpret_values,
)
from pyramidseg.formats.label_mapping import OTHER, ClassMap, Labels, index_values, make_classes
from pyramidseg.formats.mask_sampling import (
    any_255_without_class,
    count_mask_colors,
    count_mask_values,
    foreground_value,
)

MANY_IDS = 32
"""With more classes than these and no class list, the values may be numbers of instances."""


def decide_labels(parsed: ParsedDataset, stated: Statements, *, fallback_classes: Classes | None = None) -> Labels:
    """Decide on the classes: the user's, otherwise the format's, otherwise the model's, otherwise from the mask values.

    Args:
        fallback_classes: the classes of the model that the dataset is opened for, if there is one.

    Raises:
        ConfigError: class entries that contradict each other or name what does not exist, or settings without effect.
        AmbiguousLabelsError: nothing was stated, and the mask values have several interpretations.
    """
    config = stated.config
    if config.binary or config.threshold is not None:
        return binary_labels(parsed, stated)
    if config.inverted:
        raise stated.error("inverted applies to binary masks only: add binary or threshold, or leave it out")
    of_model = None
    if fallback_classes is not None and not parsed.labels:
        pairs = zip(fallback_classes.names, fallback_classes.colors, strict=True)
        of_model = tuple(ClassEntry(name=name, color=color) for name, color in pairs)
    known = ClassMap.of(parsed, replace(stated, classes=stated.classes or of_model))
    notes = known.notes
    if stated.classes is not None:
        labels = known.named(stated.classes)
    elif known.labels:
        labels = known.named(known.own_entries())
        notes += (f"no classes were given: those of the layout are used ({_describe(known, labels)})",)
    elif of_model is not None:
        labels = known.named(of_model)
        notes += (f"no classes were given: those of the model are used ({len(of_model)})",)
    elif isinstance(known.values, ColorValues):
        counts = count_mask_colors(parsed.mask_files, transparent=config.transparent)
        raise AmbiguousLabelsError(stated, *interpret_colors(counts))
    else:
        labels = _infer_ids(parsed, known)
    _refuse_lost_foreground(parsed, known, labels)
    return replace(labels, notes=(*notes, *labels.notes))


def placeholder_labels(parsed: ParsedDataset, stated: Statements) -> Labels:
    """One class and everything else ignored: to inspect files whose classes cannot be decided."""
    entries = (ClassEntry(name="class 0", color=(0, 0, 0)),)
    return ClassMap.of(parsed, replace(stated, classes=entries, config=LabelConfig(ignore=(OTHER,)))).named(entries)


# Index masks without a class list.


def _infer_ids(parsed: ParsedDataset, known: ClassMap) -> Labels:
    """Numbered classes of index masks whose values run from 0 without gaps; 255 is ignored.

    Raises:
        AmbiguousLabelsError: any other values.
    """
    ignored = known.ignored(())
    how = known.values if isinstance(known.values, IndexValues) else PLAIN_INDICES
    counts = count_mask_values(parsed.mask_files, how=how)
    values = sorted(set(counts.pixels) - set(ignored))
    ids = [value for value in values if value != IGNORE] or [0]  # of which the check then finds no pixel
    has_gaps = ids != list(range(len(ids))) or values in ([IGNORE], [0, IGNORE])
    if has_gaps or len(ids) > MAX_CLASSES or are_levels(counts, values):
        raise AmbiguousLabelsError(known.stated, *interpret_values(counts, values))
    masks = ClassMasks.from_values(
        {index: index for index in ids}, ignore=ignored, values=how, resize=known.stated.config.resize_masks
    )
    note = (
        f"no classes were given: the mask values are {describe_ranges(counts.pixels)}, so there are {len(ids)} "
        f"(ignored: {how.describe(masks.ignored)})"
    )
    if len(ids) > MANY_IDS:
        note += "; if they number instances of one class, set data.threshold=1, or give a class from: '*'"
    return Labels(Classes.unnamed(len(ids)), masks, known.stated.config, (note,))


def _refuse_lost_foreground(parsed: ParsedDataset, known: ClassMap, labels: Labels) -> None:
    """Refuse masks of 0 and 255 where 255 is not a class: all their labelled pixels would be background.

    Raises:
        AmbiguousLabelsError: the masks are such, and nobody has stated that 255 is ignored.
    """
    values = {value for value, _ in labels.masks.ids}
    is_stated = {IGNORE, OTHER} & set(known.stated.config.ignore) or any(
        label.value == IGNORE and label.ignored for label in known.labels
    )
    has_all = is_stated or labels.masks.rest is not None
    if IGNORE in values or 0 not in values or has_all or not isinstance(known.values, IndexValues):
        return
    if not any_255_without_class(parsed.mask_files, values, how=known.values):
        return
    by_position = not any(entry.merged or entry.value is not None for entry in known.stated.classes or ())
    ignored = Interpretation("255 is ignored", {"ignore": (IGNORE,)})
    interpretations = [ignored]
    if values == {0, 1} and by_position:
        interpretations = [Interpretation("255 is the foreground", {"binary": True}), ignored]
    elif len(labels.classes) > 1:
        own = {index: value for value, index in labels.masks.ids}
        bright = next(index for index in own if own[index])
        named = zip(labels.classes.names, sorted((own | {bright: IGNORE}).items()), strict=True)
        entries = tuple(ClassEntry(name=name, value=value) for name, (_, value) in named)
        interpretations = [Interpretation(f"255 is {entries[bright].name}", classes=entries), ignored]
    detail = "the masks contain 255 and, apart from 0, no value of a class, so 255 may be the foreground or ignored"
    raise AmbiguousLabelsError(known.stated, detail, interpretations)


# Binary masks.


def binary_labels(parsed: ParsedDataset, stated: Statements) -> Labels:
    """Two classes: value 0 and the other one, which is 255 or, as in 1-bit files, 1; or values below and above a level.

    Raises:
        ConfigError: settings without effect on binary masks, or a class list that does not have two classes.
    """
    config = stated.config
    if not isinstance(parsed.values, IndexValues):
        raise stated.error("binary and threshold apply to mask images, and this format has none; leave them out")
    if config.tolerance:
        detail = "tolerance applies to colours, and binary masks have none; leave it out"
        raise stated.error(f"tolerance={config.tolerance}: {detail}")
    entries = stated.classes or _binary_entries(parsed)
    if len(entries) != 2 or any(entry.value is not None or entry.merged for entry in entries):
        raise stated.error(
            f"binary masks have two classes, background and foreground; got {len(entries)} classes"
            f"{' with values of their own' if len(entries) == 2 else ''}: leave out binary, or the class list"
        )
    by_level = config.threshold is not None
    not_numbers = [value for value in config.ignore if isinstance(value, str) and value not in (OTHER, NODATA_KEYWORD)]
    if config.ignore and by_level:
        raise stated.error(
            f"ignore={list(config.ignore)} has no effect with a threshold, after which every pixel is "
            "background or foreground; leave out ignore or threshold"
        )
    if not_numbers:
        raise stated.error(f"ignore={list(config.ignore)}: binary masks contain numbers; list the numbers to ignore")
    indices = replace(index_values(config), binary=True)
    foreground = FOREGROUND if by_level else foreground_value(parsed.mask_files, how=indices)
    listed = {value for value in config.ignore if isinstance(value, int) and value >= 0}
    masks = ClassMasks(  # not from_values, which would ignore 255 if the first mask makes 1 the foreground
        ids=tuple(sorted({BACKGROUND: int(config.inverted), foreground: int(not config.inverted)}.items())),
        ignored=tuple(sorted(listed | (set(indices.ignored_values) - {IGNORE}))),
        values=indices if config.threshold is None else ThresholdValues(config.threshold, config.transparent),
        ignore_unlisted=OTHER in config.ignore,
        resize=config.resize_masks,
    )
    how = f"values below and from {config.threshold} on" if by_level else f"0 and {foreground}"
    order = "foreground and background" if config.inverted else "background and foreground"
    return Labels(make_classes(entries), masks, config, (f"binary masks: {how} are {order}",))


def _binary_entries(parsed: ParsedDataset) -> tuple[ClassEntry, ...]:
    """The dataset's own classes if there are exactly two; otherwise background and foreground."""
    named = [label for label in parsed.labels if not label.ignored]
    if len(named) == 2:
        return tuple(ClassEntry(name=label.name, color=label.color) for label in named)
    return ClassEntry(name="background"), ClassEntry(name="foreground")


def _describe(known: ClassMap, labels: Labels) -> str:
    """Classes, with their values in the file if they have any, and the ignored values."""
    describe = known.values.describe
    by_name: dict[str, list[SourceLabel]] = {}
    for label in known.labels:
        by_name.setdefault(label.name, []).append(label)
    has_values = isinstance(known.values, (IndexValues, ColorValues))
    names = [
        f"{name} {describe(label.value for label in by_name[name])}" if has_values else name
        for name in labels.classes.names
    ]
    return f"{', '.join(names)}; ignored: {describe(labels.masks.ignored)}"
