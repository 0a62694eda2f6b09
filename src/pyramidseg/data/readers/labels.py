"""Which source value is which class: said by the user, defined by the format, or inferred aloud."""

from pyramidseg.cache import FORGETFUL, Memory
from pyramidseg.classes import IGNORE, Classes
from pyramidseg.config import LabelConfig
from pyramidseg.data.masks.colors import ColorValues
from pyramidseg.data.masks.index import IndexValues
from pyramidseg.data.parallel import Track
from pyramidseg.data.readers.binary_labels import binary_labels
from pyramidseg.data.readers.class_map import EVERYTHING_ELSE, ClassMap, Labels
from pyramidseg.data.readers.held import mask_files
from pyramidseg.data.readers.inferred import colors_proposed, inferred
from pyramidseg.data.readers.listing import Listing, SourceLabel
from pyramidseg.data.readers.looks import only_255_beside_0
from pyramidseg.data.readers.unclear import Reading, UnclearLabels
from pyramidseg.data.readers.yaml_file import ClassEntry
from pyramidseg.errors import ConfigError

SAY_FOREGROUND = (
    "the masks hold 255 and, beside 0, no value of a class; 255 is a foreground for some and ignored pixels for "
    "others: say data.binary=true, give the class its value in a YAML file (value: 255), or list 255 under ignore "
    "(data.ignore=255)"
)


def decide_labels(
    listing: Listing,
    *,
    source: str,
    classes: tuple[ClassEntry, ...] | None,
    config: LabelConfig,
    assumed: Classes | None,
    track: Track,
    memory: Memory = FORGETFUL,
) -> Labels:
    """The user's classes before the format's, those before the model's, and those before what the masks hold.

    Args:
        assumed: the classes of the model that the dataset is opened for, if there is one already.
        memory: of what masks held in earlier runs.

    Raises:
        ConfigError: class entries that contradict each other, name what is not there, or settings without effect.
        DataError: nothing was said, and the values in the masks leave more than one reading.
    """
    if config.binary or config.threshold is not None:
        return binary_labels(listing, classes, config, source=source, memory=memory)
    if config.inverted:
        raise ConfigError(f"{source}: inverted is for binary masks: say binary or threshold too, or leave it out")
    models = None if assumed is None or listing.labels else _entries(assumed)
    known = ClassMap.of(listing, classes or models, config, source=source, memory=memory)
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
        raise colors_proposed(listing, known, track)
    else:
        return inferred(listing, known, track, memory)
    _refuse_lost_foreground(listing, known, labels, classes, memory)
    return labels._replace(notes=(*known.notes, *note, *labels.notes))


def _entries(classes: Classes) -> tuple[ClassEntry, ...]:
    return tuple(ClassEntry(name=name, color=color) for name, color in zip(classes.names, classes.colors, strict=True))


def _refuse_lost_foreground(
    listing: Listing, known: ClassMap, labels: Labels, classes: tuple[ClassEntry, ...] | None, memory: Memory
) -> None:
    """Masks of 0 and 255, with stray values or without, would be all background where 255 is no class.

    Raises:
        DataError: these are such masks, and nobody has said that 255 is to be ignored.
    """
    values = {value for value, _ in labels.masks.ids}
    said = {IGNORE, EVERYTHING_ELSE} & set(known.config.ignore) or any(
        label.value == IGNORE and label.ignored for label in known.labels
    )
    if IGNORE in values or 0 not in values or said or not isinstance(known.values, IndexValues):
        return
    if only_255_beside_0(mask_files(listing), values, how=known.values, memory=memory):
        binary = values == {0, 1} and not any(entry.merged or entry.value is not None for entry in classes or ())
        settings = {"binary": True} if binary else {"ignore": (*known.config.ignore, IGNORE)}
        raise UnclearLabels(known.source, SAY_FOREGROUND, Reading(settings=settings))


def _in_words(known: ClassMap, labels: Labels) -> str:
    """Classes with their values, as far as these are a file's, and what is ignored."""
    words = known.values.in_words
    by_name: dict[str, list[SourceLabel]] = {}
    for label in known.labels:
        by_name.setdefault(label.name, []).append(label)
    plain = isinstance(known.values, (IndexValues, ColorValues))
    names = [
        f"{name} {words(label.value for label in by_name[name])}" if plain else name for name in labels.classes.names
    ]
    return f"{', '.join(names)}; ignored {words(labels.masks.ignored)}"
