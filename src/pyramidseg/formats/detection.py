"""Which format a folder is of: every reader is asked, and exactly one may say yes."""

import codecs
import json
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pyramidseg.base.defects import DESCRIPTIONS, Defect, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, nearest
from pyramidseg.base.json_stream import Member, members
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, PartialMatch, SplitNames
from pyramidseg.formats.paths import content, subfolders

# Which format a JSON file is of, from its first bytes: some are too large to be read for that.

_LOOKED_AT = 2**24
"""Bytes after which a file is of no known kind."""

_COCO: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "annotations": ("id", "image_id")}
"""What the elements of COCO's arrays have. Label Studio lists categories in a file of its own, beside YOLO's labels."""

_FIRST_LINE = 2**16


def json_kind(path: Path) -> Literal["coco", "labelme", "damaged"] | None:
    """The first member that one format alone has decides; damaged files are of the kind that they begin as."""
    try:
        for member in members(path):
            if member.key in _COCO and _is_coco(member):
                return "coco"
            if member.key == "shapes" and (member.value == [] or _has(member.value, ("label", "points"))):
                return "labelme"
            if member.end > _LOOKED_AT:
                return None
    except DataError:
        return None if _is_array_or_lines(path) else "damaged"
    return None


def _is_array_or_lines(path: Path) -> bool:
    """Whether it is an array, such as COCO's results, or an object in each line: no annotation file is."""
    try:
        with path.open("rb") as stream:
            line = stream.readline(_FIRST_LINE).removeprefix(codecs.BOM_UTF8).strip()
            if line.startswith(b"["):
                return True
            json.loads(line)
            return bool(stream.readline(_FIRST_LINE).strip())
    except (OSError, ValueError, RecursionError):
        return False


def _is_coco(member: Member) -> bool:
    return member.value == [] or _has(member.value, _COCO[member.key])


def _has(value: Any, keys: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)


_FOLDERS_TRIED = 40
_LAYERS_ENTERED = 3
_SHOWN = 3
_OF_NAMES = {DefectKind.MISSING_MASK, DefectKind.MISSING_IMAGE, DefectKind.SAME_STEM}


class Recognised(NamedTuple):
    """A listing, the key of its format (if it is of one), and its folder: the one given, or the only one in it."""

    format: str | None
    root: Path
    listing: ParsedDataset

    def with_defects(self, defects: Iterable[Defect]) -> "Recognised":
        """The same, and what else is wrong."""
        return self._replace(listing=replace(self.listing, defects=(*self.listing.defects, *defects)))


def recognise(
    root: Path, folders: SplitNames, *, format: str | None, formats: Mapping[str, DatasetFormat[Any]], origin: str
) -> Recognised:
    """List a folder by the one format that fits; a folder that holds nothing but another one is entered.

    Args:
        format: the only format to be tried.
        origin: where `format` was said, for messages.

    Raises:
        ConfigError: there is no such format.
        DataError: no format fits, or several do, or what the one that does says of the files.
    """
    if format is not None and format not in formats:
        raise ConfigError(f"{origin}: unknown dataset format {format!r}; {nearest(format, formats)}")
    tried = {
        name: known for name, known in formats.items() if name == format or (format is None and not known.explicit_only)
    }
    near_misses: list[PartialMatch] = []
    for place in _layers(root):
        claims, missed = claims_on(place, folders, tried)
        near_misses += missed
        if claims:
            name, listing = _the_one(claims, place)
            return Recognised(name, place, listing)
    raise DataError(_not_recognised(root, folders, tried, near_misses))


def refuse_defects(root: Path, defects: Sequence[Defect]) -> None:
    """Refuse files that could not be listed.

    Raises:
        DataError: there are some; a single one as it is, else all are counted and the first few of each kind named.
    """
    if len(defects) == 1:
        raise DefectError(defects[0].kind, defects[0].file, defects[0].detail)
    by_kind: dict[DefectKind, list[Defect]] = {}
    for defect in defects:
        by_kind.setdefault(defect.kind, []).append(defect)
    if by_kind:
        parts = [f"{DESCRIPTIONS[kind]} ({len(found)}): {_few(root, found)}" for kind, found in by_kind.items()]
        if not _OF_NAMES.isdisjoint(by_kind):
            parts.append(
                "an image and its mask need the same name beside the extension: add what is missing, or take these "
                "files out"
            )
        raise DataError(f"{root}: {'; '.join(parts)} (pyramidseg inspect lists all defects)")


def _layers(root: Path) -> Iterator[Path]:
    """The folder, and what is in it as long as that is a single folder, as archives are often unpacked."""
    yield root
    for _ in range(_LAYERS_ENTERED):
        inner = subfolders(root)
        if len(inner) != 1:
            return
        root = inner[0]
        yield root


def claims_on(
    folder: Path, splits: SplitNames, formats: Mapping[str, DatasetFormat[Any]]
) -> tuple[dict[str, ParsedDataset | DataError], list[PartialMatch]]:
    """What each format that fits has to say: its listing, or what is wrong with the files."""
    claims: dict[str, ParsedDataset | DataError] = {}
    near_misses: list[PartialMatch] = []
    for name, format in formats.items():
        try:
            handle = format.detect(folder, splits)
            listing = None if handle is None else format.read(handle)
        except PartialMatch as miss:
            near_misses.append(miss)
        except DataError as error:
            claims[name] = error
        else:
            if listing is not None:
                claims[name] = listing
    covered = {name for claimed in claims for name in formats[claimed].covers}
    return {name: claim for name, claim in claims.items() if name not in covered}, near_misses


def _the_one(claims: Mapping[str, ParsedDataset | DataError], folder: Path) -> tuple[str, ParsedDataset]:
    if len(claims) > 1:
        flaws = "; ".join(f"as {name}, {flaw}" for name, claim in claims.items() if (flaw := _first_flaw(claim)))
        raise DataError(
            f"{folder}: could be {' or '.join(claims)}{f' ({flaws})' if flaws else ''}; say which with "
            "data.format=... (in a YAML file format: ...)"
        )
    ((name, claim),) = claims.items()
    if isinstance(claim, DataError):
        raise claim
    return name, claim


def _first_flaw(claim: ParsedDataset | DataError) -> str:
    if isinstance(claim, DataError):
        return str(claim)
    return "".join(f"{defect.file}: {defect.detail}" for defect in claim.defects[:1])


def _not_recognised(
    root: Path, folders: SplitNames, formats: Mapping[str, DatasetFormat[Any]], near_misses: Iterable[PartialMatch]
) -> str:
    asked, known = "", f"known layouts: {', '.join(formats)}"
    if len(formats) == 1:
        ((name, format),) = formats.items()
        asked, known = f" of format {name}", f"expected {format.layout}"
    if folders != SPLIT_NAMES:
        asked += f" with the folders {', '.join(repr(name) for names in folders.values() for name in names)}"
    near = "".join(f"; {miss}" for miss in near_misses)
    fitting = [path for path in subfolders(root)[:_FOLDERS_TRIED] if claims_on(path, folders, formats)[0]]
    names = ", ".join(str(path) for path in fitting[:_SHOWN])
    near += _damaged_json(root)
    inner = f"; what lies in it can be read by itself: name {names}" if fitting else ""
    return (
        f"{root}: not recognised as a dataset{asked}: found {_in_words(root)}{near}{inner}; {known} "
        "(docs/datasets.md shows each as a tree); or name folders in a YAML file (train: {images: ..., masks: ...})"
    )


def _damaged_json(root: Path) -> str:
    """The first JSON files that cannot be read, as they may be what the dataset would be known by."""
    places = [root, *subfolders(root)[:_FOLDERS_TRIED]]
    files = [path for place in places for path in content(place) if path.suffix.lower() == ".json" and path.is_file()]
    damaged = [str(path) for path in files[:_FOLDERS_TRIED] if json_kind(path) == "damaged"]
    return f"; cannot be read as JSON: {', '.join(damaged[:_SHOWN])}" if damaged else ""


def _few(root: Path, defects: list[Defect]) -> str:
    """The first few files, and what is wrong with them where that is not their name alone."""
    told = []
    for kind, file, detail in ((defect.kind, defect.file, defect.detail) for defect in defects[:_SHOWN]):
        name = str(file.relative_to(root)) if file.is_relative_to(root) else str(file)
        told.append(name if kind in _OF_NAMES else f"{name}: {detail}")
    return first_few(told, limit=_SHOWN, total=len(defects))


def _in_words(root: Path) -> str:
    """What lies in a folder, in a few words."""
    folders = [f"{path.name}/" for path in subfolders(root)]
    kinds = Counter(path.suffix.lower() or "without extension" for path in content(root) if path.is_file())
    files = [f"{count} {kind}" for kind, count in kinds.most_common()]
    found = folders[:6] + ([f"{len(folders) - 6} more folders"] if len(folders) > 6 else []) + files[:4]
    return ", ".join(found) or "nothing"
