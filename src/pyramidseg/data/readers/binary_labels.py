"""Binary masks: background and foreground, and what says so."""

from pyramidseg.cache import FORGETFUL, Memory
from pyramidseg.classes import IGNORE
from pyramidseg.config import LabelConfig
from pyramidseg.data.masks.binary import BACKGROUND, FOREGROUND, ThresholdValues
from pyramidseg.data.masks.class_masks import ClassMasks
from pyramidseg.data.masks.index import NODATA, IndexValues
from pyramidseg.data.readers.class_map import EVERYTHING_ELSE, Labels, index_values, make_classes
from pyramidseg.data.readers.held import mask_files
from pyramidseg.data.readers.listing import Listing
from pyramidseg.data.readers.looks import foreground_value
from pyramidseg.data.readers.yaml_file import ClassEntry
from pyramidseg.errors import ConfigError


def binary_labels(
    listing: Listing,
    classes: tuple[ClassEntry, ...] | None,
    config: LabelConfig,
    *,
    source: str,
    memory: Memory = FORGETFUL,
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
    entries = classes or _entries(listing)
    if len(entries) != 2 or any(entry.value is not None or entry.merged for entry in entries):
        raise ConfigError(
            f"{source}: binary masks have two classes, background and foreground; got {len(entries)} classes"
            f"{' with values of their own' if len(entries) == 2 else ''}: leave out binary, or the class list"
        )
    parted = config.threshold is not None
    unclear = [value for value in config.ignore if isinstance(value, str) and value not in (EVERYTHING_ELSE, NODATA)]
    if unclear or (config.ignore and parted):
        raise ConfigError(
            f"{source}: ignore={list(config.ignore)}: binary masks have numbers only, and none beside 0 and 255 once "
            "a threshold parts them; list the numbers that count nowhere, or leave ignore out"
        )
    indices = index_values(config)
    foreground = FOREGROUND if parted else foreground_value(mask_files(listing), how=indices, memory=memory)
    listed = {value for value in config.ignore if isinstance(value, int) and value >= 0}
    masks = ClassMasks(  # not of_values, by which 255 would be ignored where the first mask makes 1 the foreground
        ids=tuple(sorted({BACKGROUND: int(config.inverted), foreground: int(not config.inverted)}.items())),
        ignored=tuple(sorted(listed | (set(indices.void) - {IGNORE}))),
        values=indices if config.threshold is None else ThresholdValues(config.threshold),
        rest_ignored=EVERYTHING_ELSE in config.ignore,
        resize=config.resize_masks,
    )
    how = f"grey levels parted at {config.threshold}" if parted else f"0 and {foreground}"
    order = "foreground and background" if config.inverted else "background and foreground"
    return Labels(make_classes(entries), masks, (f"binary masks: {how} are {order}",))


def _entries(listing: Listing) -> tuple[ClassEntry, ...]:
    """The two classes of the dataset's own list, if it has just two; else background and foreground."""
    named = [label for label in listing.labels if not label.ignored]
    if len(named) == 2:
        return tuple(ClassEntry(name=label.name, color=label.color) for label in named)
    return ClassEntry(name="background"), ClassEntry(name="foreground")
