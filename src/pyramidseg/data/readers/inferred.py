"""Classes by what the masks hold, where nobody names them; or a proposal, where that leaves more than one reading."""

from pyramidseg.cache import FORGETFUL, Memory
from pyramidseg.classes import IGNORE, MAX_CLASSES, Classes
from pyramidseg.data.masks.class_masks import ClassMasks
from pyramidseg.data.masks.colors import unpack
from pyramidseg.data.masks.index import PLAIN, IndexValues, in_ranges
from pyramidseg.data.parallel import Track
from pyramidseg.data.readers.class_map import EVERYTHING_ELSE, ClassMap, Labels
from pyramidseg.data.readers.held import Held, held_colors, held_values, mask_files
from pyramidseg.data.readers.listing import Listing
from pyramidseg.data.readers.unclear import Reading, UnclearLabels
from pyramidseg.data.readers.yaml_file import ClassEntry

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


def inferred(listing: Listing, known: ClassMap, track: Track, memory: Memory = FORGETFUL) -> Labels:
    """Numbered classes of index masks whose values run from 0 without gaps; 255 is ignored.

    Raises:
        DataError: the values leave more than one reading; the message proposes settings.
    """
    ignore = known.ignored(())
    how = known.values if isinstance(known.values, IndexValues) else PLAIN
    held = held_values(mask_files(listing), track, memory, how=how)
    values = sorted(set(held.pixels) - set(ignore))
    if values == [0, IGNORE]:
        raise UnclearLabels(known.source, SAY_BINARY, Reading(settings={"binary": True}))
    ids = [value for value in values if value != IGNORE]
    found = f"the masks hold {in_ranges(held.pixels)}"
    if not ids:
        raise UnclearLabels(known.source, f"{found} and nothing else: no pixel has a class", _void_but(0))
    if len(ids) > MAX_CLASSES:
        frequent = sorted(ids, key=lambda value: -held.pixels[value])[:MAX_CLASSES]
        raise UnclearLabels(
            known.source,
            f"{found}, which is {len(ids)} classes; {MAX_CLASSES} are possible; merge values in a YAML file "
            "(classes: [{name: car, from: [300, 301]}, ...])",
            _by_value(sorted(frequent))._replace(settings={"ignore": (EVERYTHING_ELSE,)}),
        )
    if ids != list(range(len(ids))):
        why, reading = _gap(held, values)
        raise UnclearLabels(known.source, f"{found}, {why}", reading)
    masks = ClassMasks.of_values(
        {index: index for index in ids}, ignore=ignore, values=how, resize=known.config.resize_masks
    )
    note = f"no classes were given: {found}, so there are {len(ids)} (ignored {how.in_words(masks.ignored)})"
    return Labels(Classes.numbered(len(ids)), masks, (note,))


def colors_proposed(listing: Listing, known: ClassMap, track: Track) -> UnclearLabels:
    """The error for colours that nobody has named, with all of them in the form of a class list."""
    held = held_colors(mask_files(listing), track)
    if len(held.pixels) > MAX_CLASSES:
        frequent = [color for color in held.pixels if held.share(color) >= FREQUENT_SHARE]
        return UnclearLabels(
            known.source,
            f"the masks hold more than {MAX_CLASSES} colours, as pictures do and not labels: smoothed or JPEG masks "
            "need the color of every class in a YAML file, and data.tolerance",
            _by_color(frequent or [0])._replace(settings={"ignore": (EVERYTHING_ELSE,)}),
        )
    entries = ", ".join(
        f"{{name: class {index}, color: {list(unpack(color))}}}"
        for index, (color, _) in enumerate(held.pixels.most_common())
    )
    return UnclearLabels(
        known.source,
        f"the masks hold {len(held.pixels)} colours and no class list says what they are; give them names in a YAML "
        f"file, most frequent first: classes: [{entries}]",
        _by_color([color for color, _ in held.pixels.most_common()]),
    )


def _void_but(value: int) -> Reading:
    return _by_value([value])._replace(settings={"ignore": (IGNORE,)})


def _by_value(values: list[int]) -> Reading:
    return Reading(tuple(ClassEntry(name=f"class {value}", value=value) for value in values))


def _by_color(colors: list[int]) -> Reading:
    return Reading(tuple(ClassEntry(name=f"class {index}", color=unpack(color)) for index, color in enumerate(colors)))


def _gap(held: Held, values: list[int]) -> tuple[str, Reading]:
    """What values that are no ids could mean, and what to say for it."""
    ids = [value for value in values if value != IGNORE]
    others = [value for value in ids if value]
    if {0, IGNORE} <= set(values) and 1 not in values and sum(map(held.share, others)) < RARE_SHARE:
        if len(others) >= BLURRED_VALUES:
            return (
                f"of which 0 and 255 make up {held.share(0) + held.share(IGNORE):.1%} of the pixels, as in binary "
                "masks whose borders have been smoothed; say from which level on a pixel is foreground "
                "(data.threshold=128)",
                Reading(settings={"threshold": 128}),
            )
        return (
            f"of which {_where(held, others)}, as in binary masks with stray values; say data.binary=true, and for the "
            f"stray values data.ignore={_compact(others)}",
            Reading(settings={"binary": True}),  # strays are named file by file then
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


def _where(held: Held, values: list[int]) -> str:
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
