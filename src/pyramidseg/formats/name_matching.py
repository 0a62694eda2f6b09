"""Match two sets of names by what differs within each set."""

import re
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from itertools import combinations
from typing import NamedTuple

from pyramidseg.base.config import CLASS, STEM
from pyramidseg.images.image_files import IMAGE_EXTENSIONS


class NameMatch(NamedTuple):
    """A one-to-one matching.

    Attributes:
        partners: for each name of the first set the position of its partner in the second.
        rule: the affixes that were ignored, as messages say it.
    """

    partners: tuple[int, ...]
    rule: str


def match_names(first: Sequence[str], second: Sequence[str]) -> NameMatch | None:
    """Match names by their cores: what is left without the prefix and the suffix that all names of a set share.

    `img_001`, `img_002` and `001_mask`, `002_mask` have the cores `001` and `002`. An affix ends between words, numbers
    and separators, never inside a number or a word: `img_10` is not the partner of `mask_11`. Folders must agree.
    A second extension of an image (`a.jpg.png`) is not part of a name, and numbers match without their leading zeros
    (`1`, `001`) where they do not match with them.

    Returns:
        None unless the cores of each set are unique and both sets have the same ones; for fewer than two names, too.
    """
    if len(first) != len(second) or len(first) < 2:
        return None
    (cores, *affixes), (others, *other_affixes) = _cores(first), _cores(second)
    sides = ("images", affixes), ("masks", other_affixes)
    ignored = [f"{affix!r} of the {side}" for side, both in sides for affix in both if affix]
    for padded in (True, False):
        keys, partners = ([core if padded else _without_zeros(core) for core in some] for some in (cores, others))
        places = {key: place for place, key in enumerate(partners)}
        if len(places) == len(set(keys)) == len(keys) and places.keys() == set(keys):
            rule = " and ".join([*ignored, *([] if padded else ["zeros before numbers"])])
            return NameMatch(tuple(places[key] for key in keys), rule or "a second extension")
    return None


def mask_names(images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """The patterns such as `{stem}_mask` by each of which every image has a mask."""
    for stems, names in readings(images, masks) if images else ():
        known = set(names)
        folder, _, stem = max(stems, key=len).rpartition("/")
        inside = [name.removeprefix(f"{folder}/") for name in names if name.startswith(f"{folder}/")]
        patterns = {
            f"{name[: at.start()]}{STEM}{name[at.start() + len(stem) :]}"
            for name in inside
            for at in re.finditer(f"(?={re.escape(stem)})", name)
            if _is_between(name, at.start()) and _is_between(name, at.start() + len(stem))
        }
        if found := [pattern for pattern in patterns if all(_fill(pattern, stem) in known for stem in stems)]:
            return sorted(found)
    return []


def shared_mask_names(images: Sequence[str], masks: Sequence[str]) -> list[str]:
    """The patterns by each of which several images have a mask, if most masks are named by one of them.

    Of a name with several readings, the pattern that most names have is taken.
    """
    for stems, names in readings(images, masks) if images else ():
        known = set(stems)
        patterns = [[*_patterns(name, known)] for name in names]
        counts = Counter(pattern for some in patterns for pattern in some)
        chosen = Counter(max(some, key=lambda pattern: counts[pattern]) for some in patterns if some)
        shared = {pattern: count for pattern, count in chosen.items() if count > 1}
        if 2 * sum(shared.values()) > len(names):
            return sorted(shared)
    return []


def _patterns(name: str, stems: Set[str]) -> Iterator[str]:
    """The patterns by which a mask belongs to one of the images."""
    cuts = [cut for cut in range(1, len(name) + 1) if _is_between(name, cut)]
    for slash in (at for at, character in enumerate(name) if character == "/"):
        for start, end in combinations([cut for cut in cuts if cut > slash], 2):
            if f"{name[: slash + 1]}{name[start:end]}" in stems:
                yield f"{name[slash + 1 : start]}{STEM}{name[end:]}"


def class_pattern(patterns: Sequence[str]) -> str | None:
    """`{stem}_{class}` for `{stem}_car`, `{stem}_tree`: what differs between the patterns is the class."""
    if len(patterns) < 2:
        return None
    parts = [pattern.partition(STEM) for pattern in patterns]
    for at in (0, 2):
        texts = [part[at] for part in parts]
        start = re.sub(r"[^\W_]*$", "", texts[0][: common_start(texts)])
        backwards = [text[::-1] for text in texts]
        end = re.sub(r"^[^\W_]*", "", backwards[0][: common_start(backwards)][::-1])
        if len({part[2 - at] for part in parts}) == 1 and all(len(text) > len(start + end) for text in texts):
            return "".join(
                (f"{start}{CLASS}{end}", *parts[0][1:]) if at == 0 else (*parts[0][:2], f"{start}{CLASS}{end}")
            )
    return None


def likely_mask_name(images: Sequence[str], masks: Sequence[str]) -> str:
    """The pattern of the prefix and suffix that all masks share, or of one of them, by which most images have one."""
    _, prefix, suffix = _cores(masks)
    patterns = (f"{prefix}{STEM}{suffix}", f"{STEM}{suffix}", f"{prefix}{STEM}")
    return max(patterns, key=lambda pattern: -find_masks(images, masks, pattern).count(None))


def find_masks(images: Sequence[str], masks: Sequence[str], pattern: str) -> list[int | None]:
    """The position of each image's mask by a pattern.

    `{stem}` is the image's name; if no mask is called so, its core (see `match_names`), in the end without zeros.
    """
    found: list[int | None] = [None] * len(images)
    for stems, names in readings(images, masks):
        places = {name: place for place, name in reversed([*enumerate(names)])}
        found = [places.get(_fill(without_extension(pattern), stem)) for stem in stems]
        if any(place is not None for place in found):
            break
    return found


def readings(images: Sequence[str], masks: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """What may be the stems of the images, each with the names of the masks."""
    stems, names = ([f"/{without_extension(name)}" for name in some] for some in (images, masks))
    yield stems, names
    if len(images) > 1:
        cores, _, _ = _cores(images)
        yield cores, names
        bare, bare_names = ([_without_zeros(name) for name in some] for some in (cores, names))
        if len({*bare}) == len(bare) and len({*bare_names}) == len(names):
            yield bare, bare_names


def _fill(pattern: str, stem: str) -> str:
    folder, _, last = stem.rpartition("/")
    return f"{folder}/{pattern.replace(STEM, last)}"


def _cores(names: Sequence[str]) -> tuple[list[str], str, str]:
    """The folder and core of each name, and the prefix and the suffix that were removed."""
    parts = [f"/{name}".rpartition("/") for name in names]
    lasts = [without_extension(last) for _, _, last in parts]
    start = common_start(lasts)
    start = next(cut for cut in range(start, -1, -1) if all(_is_between(last, cut) for last in lasts))
    rests = [last[start:] for last in lasts]
    end = common_start([rest[::-1] for rest in rests])
    end = next(cut for cut in range(end, -1, -1) if all(_is_between(rest, len(rest) - cut) for rest in rests))
    cores = [f"{folder}/{rest[: len(rest) - end]}" for (folder, _, _), rest in zip(parts, rests, strict=True)]
    return cores, lasts[0][:start], rests[0][len(rests[0]) - end :]


def common_start(names: Sequence[str]) -> int:
    """The number of characters that all names begin with."""
    low, high = min(names), max(names)  # all others are between them
    return next(
        (place for place, (a, b) in enumerate(zip(low, high, strict=False)) if a != b), min(len(low), len(high))
    )


def _is_between(name: str, cut: int) -> bool:
    """Whether a cut is at an end of a name or next to a separator, or between a letter and a digit."""
    if not 0 < cut < len(name):
        return True
    before, after = name[cut - 1], name[cut]
    return not (before.isalnum() and after.isalnum()) or before.isdigit() != after.isdigit()


def without_extension(name: str) -> str:
    """A name without the extension of an image, if it has one."""
    stem, dot, extension = name.rpartition(".")
    return stem if dot and f".{extension.lower()}" in IMAGE_EXTENSIONS else name


def _without_zeros(core: str) -> str:
    return re.sub(r"(?<!\d)0+(?=\d)", "", core)
