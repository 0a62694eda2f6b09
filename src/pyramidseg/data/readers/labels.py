"""Which mask value is which class: said by the user, defined by the format, or inferred aloud."""

from pathlib import Path
from typing import NamedTuple

import numpy as np

from pyramidseg.classes import IGNORE, MAX_CLASSES, Classes, default_palette
from pyramidseg.data.masks import IndexMasks, in_ranges, read_mask_values
from pyramidseg.data.parallel import Track, in_threads
from pyramidseg.data.readers.listing import Listing
from pyramidseg.data.readers.yaml_file import ClassEntry
from pyramidseg.errors import ConfigError, DataError


class Labels(NamedTuple):
    """Classes, the decoder of their masks, and what was inferred."""

    classes: Classes
    masks: IndexMasks
    notes: tuple[str, ...]


def decide_labels(
    listing: Listing,
    *,
    source: str,
    classes: tuple[ClassEntry, ...] | None,
    binary: bool,
    ignore: tuple[int, ...],
    assumed: Classes | None,
    track: Track,
) -> Labels:
    """The user's classes before the format's, those before the model's, and those before what the masks hold.

    Args:
        assumed: the classes of the model that the dataset is opened for, if there is one already.

    Raises:
        ConfigError: class entries that contradict each other.
        DataError: nothing was said, and the values in the masks leave more than one reading.
    """
    if binary:
        return _binary(classes, source=source, ignore=ignore)
    if classes is not None:
        return _named(classes, source=source, ignore=ignore)
    if listing.classes is not None:
        masks = IndexMasks.plain(len(listing.classes), ignore=(*listing.ignore, *ignore))
        names = ", ".join(listing.classes.names)
        note = f"no classes were given: those of the layout are taken ({names}; ignored {in_ranges(masks.ignored)})"
        return Labels(listing.classes, masks, (note,))
    if assumed is not None:
        masks = IndexMasks.plain(len(assumed), ignore=ignore)
        return Labels(assumed, masks, (f"no classes were given: those of the model are taken ({len(assumed)})",))
    return _inferred(listing, source=source, ignore=ignore, track=track)


def _binary(classes: tuple[ClassEntry, ...] | None, *, source: str, ignore: tuple[int, ...]) -> Labels:
    classes = classes or (ClassEntry(name="background"), ClassEntry(name="foreground"))
    if len(classes) != 2 or any(entry.value is not None for entry in classes):
        raise ConfigError(
            f"{source}: binary masks have two classes, 0 and 255; got {len(classes)} classes"
            f"{' with values of their own' if len(classes) == 2 else ''}: leave out binary, or the class list"
        )
    return Labels(_make_classes(classes), IndexMasks.of_values({0: 0, IGNORE: 1}, ignore=ignore), ())


def _named(classes: tuple[ClassEntry, ...], *, source: str, ignore: tuple[int, ...]) -> Labels:
    values = [entry.value for entry in classes if entry.value is not None]
    if values and len(values) < len(classes):
        lacking = next(entry.name for entry in classes if entry.value is None)
        raise ConfigError(f"{source}: class {lacking!r} has no value while others have: give all of them one, or none")
    doubled = sorted({value for value in values if values.count(value) > 1})
    if doubled:
        raise ConfigError(f"{source}: value {doubled[0]} is given to more than one class: values must differ")
    ids = {value: index for index, value in enumerate(values or range(len(classes)))}
    try:
        return Labels(_make_classes(classes), IndexMasks.of_values(ids, ignore=ignore), ())
    except DataError as error:
        raise ConfigError(f"{source}: {error}") from None


def _make_classes(entries: tuple[ClassEntry, ...]) -> Classes:
    spare = default_palette(len(entries))
    colors = tuple(entry.color or color for entry, color in zip(entries, spare, strict=True))
    return Classes(tuple(entry.name for entry in entries), colors)


def _inferred(listing: Listing, *, source: str, ignore: tuple[int, ...], track: Track) -> Labels:
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
    masks = IndexMasks.plain(len(ids), ignore=ignore)
    note = f"no classes were given: {held}, so there are {len(ids)} (ignored {in_ranges(masks.ignored)})"
    return Labels(Classes.numbered(len(ids)), masks, (note,))


def _first_file_by_value(listing: Listing, track: Track) -> dict[int, Path]:
    masks = [record.mask for records in listing.splits.values() for record in records if record.mask is not None]
    found: dict[int, Path] = {}
    passes = zip(masks, in_threads(_values_in, masks), strict=True)
    for mask, values in track(passes, total=len(masks), what="reading the values in the masks"):
        for value in values:
            found.setdefault(value, mask)
    return found


def _values_in(mask: Path) -> list[int]:
    # bincount of bytes is far quicker than unique, which sorts
    return np.flatnonzero(np.bincount(read_mask_values(mask).ravel())).tolist()
