"""Pairs images with masks by their names, without the extension and without a suffix that all names have."""

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

import numpy as np

from pyramidseg.base.config import CLASS, STEM
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import UNLABELLED_SPLIT, PartialMatch
from pyramidseg.formats.label_studio.label_studio_brushes import refuse_brush_files
from pyramidseg.formats.name_matching import (
    class_pattern,
    find_masks,
    likely_mask_name,
    mask_names,
    match_names,
    shared_mask_names,
    without_extension,
)
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError
from pyramidseg.images.decode import read_image
from pyramidseg.images.image_files import list_files, list_images, pack_images, pack_masks

_MASK_WORDS = "masks?|labels?|gt|seg|segmentation|annot|anno"
_MASK_SUFFIX = re.compile(rf"(?:[-_. ]|(?<=\d))(?:{_MASK_WORDS})$", re.IGNORECASE)
_MASK_PREFIX = re.compile(rf"(?:{_MASK_WORDS})(?:[-_. ]|(?=\d))", re.IGNORECASE)
"""The ends and the beginnings of names of masks that are in one folder with their images."""

IMAGE_SUFFIXES = ("_image", "_sat", "_img", "_rgb", "-image")
"""Suffixes that are not part of ids if the names of all images have them."""

_SAMPLED = 8
"""Masks that are looked at."""

LOSSY_EXTENSIONS = (".jpg", ".jpeg")
"""Extensions, in lower case, of images that cannot be exact masks."""


@dataclass(frozen=True)
class Side:
    """Images or masks: files below a folder, with a key for each that its partner shares."""

    folder: Path
    files: tuple[Path, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, files: Iterable[Path]) -> "Side":
        """Keys are the paths below the folder without extension."""
        files = tuple(files)
        return cls(folder, files, tuple(key_of(file, folder) for file in files))

    def first(self) -> dict[str, Path]:
        """The first file of each key, in order."""
        files: dict[str, Path] = {}
        for key, file in zip(self.keys, self.files, strict=True):
            files.setdefault(key, file)
        return files


@dataclass(frozen=True)
class MatchedFiles:
    """Records in the order of the images, defects of files that are in no record, and notes on what was inferred."""

    records: tuple[Record, ...]
    defects: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_none(cls, folder: Path, detail: str) -> "MatchedFiles":
        """No records, because something is missing in a folder or next to it."""
        return cls((), (Defect(DefectKind.ABSENT, folder, detail),))


def without_labels(split: str, pairs: MatchedFiles, folder: Path) -> MatchedFiles:
    """The same files; for a test split without masks or images, only a note."""
    missing = (DefectKind.ABSENT, DefectKind.MISSING_MASK)
    if split == UNLABELLED_SPLIT and not pairs.records and all(defect.kind in missing for defect in pairs.defects):
        return MatchedFiles((), notes=(f"the test split ({folder}) has no masks and was left out",))
    return pairs


def pair_folders(images: Path, masks: Path, mask_name: str | None = None) -> MatchedFiles:
    """Pair all images below one folder with all masks below the other, or next to them if it is the same.

    If no image has a mask and all files of one folder are in a deeper folder, names are compared from there on, with a
    note. An empty folder is a defect.
    """
    if images == masks and (mixed := pair_mixed_folder(images, mask_name)):
        return mixed
    refuse_brush_files(masks)
    packed_images, packed_masks = pack_images(images), pack_masks(masks)
    if mask_name is None and (records := _equal_pairs(images, packed_images, masks, packed_masks)):
        return MatchedFiles(tuple(records))
    mask_files = [*packed_masks]
    inside = {*mask_files} if images in masks.parents else set()
    image_files = [file for file in packed_images if file not in inside]
    if not image_files:
        return MatchedFiles.of_none(images, "no images in this folder; check the path and the file format")
    if not mask_files:
        return MatchedFiles.of_none(masks, f"no masks here, but {len(image_files)} images in {images}; add them")
    sides = Side.of(images, image_files), Side.of(masks, mask_files)
    pairs = pair_by_name(*sides, mask_name)
    if pairs.records or _shared_folders(sides[0]) == _shared_folders(sides[1]):
        return pairs
    images, masks = images / _shared_folders(sides[0]), masks / _shared_folders(sides[1])
    pairs = pair_by_name(Side.of(images, image_files), Side.of(masks, mask_files), mask_name)
    return replace(pairs, notes=(f"images are in {images}, masks in {masks}", *pairs.notes))


def _equal_pairs(images: Path, image_files: Sequence[Path], masks: Path, mask_files: Sequence[Path]) -> list[Record]:
    """Pairs in the order of both folders, in little memory, if all keys agree one by one; else none."""
    if images in masks.parents or len(image_files) != len(mask_files):
        return []
    records: list[Record] = []
    for image, mask in zip(image_files, mask_files, strict=True):
        if (key := key_of(image, images)) != key_of(mask, masks):
            return []
        records.append(Record(key, image, mask))
    return records if len({record.id for record in records}) == len(records) else []


def pair_by_name(images: Side, masks: Side, mask_name: str | None = None) -> MatchedFiles:
    """Pair by keys; if files remain without a partner, by what all names of images, and of masks, have in common.

    A one-to-one matching without common affixes (`match_names`) is taken, with a note. If there is none and no name
    agrees, the common affixes of the masks are taken for their names, and files that do not fit are defects.

    Args:
        mask_name: how masks are named, such as `{stem}_mask`; nothing else is then tried.

    Raises:
        AmbiguousReadingError: images have several masks, each with its own prefix and suffix.
    """
    if mask_name is not None:
        return _pair_by_pattern(images, masks, mask_name)
    pairs = pair(images, masks)
    if not pairs.defects:
        return pairs
    if match := match_names(images.keys, masks.keys):
        suffix = next((end for end in IMAGE_SUFFIXES if all(key.lower().endswith(end) for key in images.keys)), "")
        ids = (key[: len(key) - len(suffix)] for key in images.keys)
        partners = zip(ids, images.files, match.partners, strict=True)
        records = tuple(Record(key, file, masks.files[place]) for key, file, place in partners)
        return MatchedFiles(records, notes=(f"images and masks are paired by their names without {match.rule}",))
    patterns = mask_names(images.keys, masks.keys)
    shared = patterns if pairs.records or len(patterns) > 1 else shared_mask_names(images.keys, masks.keys)
    classes = _of_classes(shared, masks)
    if len(patterns) > 1 or classes:
        raise _several_masks(masks.folder, patterns, classes)
    if pairs.records or (not patterns and min(len(images.files), len(masks.files)) < 2):
        return pairs
    pattern = patterns[0] if patterns else likely_mask_name(images.keys, masks.keys)
    return _pair_by_pattern(images, masks, pattern, is_stated=False)


def _pair_by_pattern(images: Side, masks: Side, pattern: str, *, is_stated: bool = True) -> MatchedFiles:
    """Pair by a pattern of the masks' names; other masks are left out with a note, or defects if it is inferred."""
    places = find_masks(images.keys, masks.keys, pattern)
    partners = {key: masks.files[at] for key, at in zip(images.keys, places, strict=True) if at is not None}
    if not partners:
        return MatchedFiles((), (_no_pairs(images, masks, pattern),))
    used = set(partners.values())
    rest = {file: key for key, file in zip(masks.keys, masks.files, strict=True) if file not in used}
    if not is_stated:
        partners.update({key: file for file, key in rest.items()})
    found = pair(images, Side(masks.folder, tuple(partners.values()), tuple(partners)))
    notes = [f"masks are named {pattern!r}, where {STEM} is the name of the image", *found.notes]
    if rest and is_stated:
        notes.append(f"{len(rest)} files in {masks.folder}, such as {min(rest).name}, are not named so: left out")
    return replace(found, notes=tuple(notes))


def _several_masks(folder: Path, patterns: Iterable[str], classes: Iterable[Alternative]) -> AmbiguousReadingError:
    named = [Alternative(f"masks are named like {name}", {"mask_name": name}) for name in patterns]
    return AmbiguousReadingError(f"{folder}: images have several masks by their names", [*named, *classes])


def _of_classes(patterns: Sequence[str], masks: Side) -> list[Alternative]:
    """That each pattern is a class, if the first masks have at most two values each."""
    by_class = class_pattern(patterns)
    try:
        of_one_object = (len(np.unique(read_image(file, channels=1))) <= 2 for file in masks.files[:_SAMPLED])
        is_by_class = by_class is not None and all(of_one_object)
    except DataError:
        is_by_class = False
    return [Alternative("each class has its own mask", {"mask_name": by_class})] if is_by_class else []


def _no_pairs(images: Side, masks: Side, pattern: str) -> Defect:
    """One defect for all files, as their names do not agree at all."""
    what = f"none of its {len(masks.files)} masks" + (f", such as {masks.files[0].name}," if masks.files else "")
    detail = (
        f"{what} agrees in its name ({pattern}) with one of the {len(images.files)} images in {images.folder}, such as "
        f'{images.files[0].name}; state the names in dataset.yaml (mask_name: "{STEM}_seg"; for a mask of each class '
        f'"{STEM}_{CLASS}", "{CLASS}/{STEM}" or "{STEM}/{CLASS}"), rename files, or write '
        "lines such as images/a.jpg masks/b.png to train.txt and val.txt"
    )
    return Defect(DefectKind.MISSING_IMAGE, masks.folder, detail)


def pair(images: Side, masks: Side) -> MatchedFiles:
    """Pair by keys; ignoring case, with a note, if only that gives every image its mask."""
    if set(images.keys) != set(masks.keys):
        low_images, low_masks = ([key.casefold() for key in side.keys] for side in (images, masks))
        if sorted(set(low_images)) == sorted(low_images) == sorted(low_masks):
            by_key = dict(zip(low_masks, masks.files, strict=True))
            paired = zip(images.keys, images.files, low_images, strict=True)
            records = tuple(Record(key, file, by_key[low]) for key, file, low in paired)
            return MatchedFiles(records, notes=("names of images and masks differ in upper and lower case",))
    first_images, first_masks = images.first(), masks.first()
    records = tuple(Record(key, file, first_masks[key]) for key, file in first_images.items() if key in first_masks)
    defects = (
        *_same_names(images, first_images),
        *_same_names(masks, first_masks),
        *_without_partner(images, masks, DefectKind.MISSING_MASK, "no mask of this name in"),
        *_without_partner(masks, images, DefectKind.MISSING_IMAGE, "no image of this name in"),
    )
    return MatchedFiles(records, defects)


# One folder with images and their masks, told apart by a suffix of the masks' names, or by the extension.


def pair_mixed_folder(folder: Path, mask_name: str | None = None) -> MatchedFiles | None:
    """Pair the images in and below a folder with the masks next to them; None if none are found.

    Raises:
        PartialMatch: files come in pairs, but either file could be the mask.
        AmbiguousReadingError: files with several prefixes or suffixes could be the masks.
    """
    files = list_images(folder)
    if mask_name is None:
        return _pair_by_affix(folder, files) or _pair_by_extension(folder, files) or _pair_with_arrays(folder, files)
    mask_name = without_extension(mask_name)
    images, masks = _divided(folder, files, mask_name)
    _, others = _further_masks(images, masks, mask_name)
    pairs = pair_by_name(Side.of(folder, [file for file in images.files if file not in others]), masks, mask_name)
    if not others:
        return pairs
    note = f"{len(others)} files, such as {min(others).name}, are further masks of these images and were left out"
    return replace(pairs, notes=(*pairs.notes, note))


def _divided(folder: Path, files: Iterable[Path], pattern: str) -> tuple[Side, Side]:
    """The images of a folder, and the files that are named like a mask (all but JPEG files if that is any name)."""
    before, _, after = pattern.partition(STEM)
    of_side: tuple[list[Path], list[Path]] = [], []
    for file in files:
        is_mask = file.stem.startswith(before) and file.stem.endswith(after)
        of_side[file.suffix.lower() not in LOSSY_EXTENSIONS if pattern == STEM else is_mask].append(file)
    return Side.of(folder, of_side[0]), Side.of(folder, of_side[1])


def _further_masks(images: Side, masks: Side, pattern: str) -> tuple[list[str], set[Path]]:
    """Patterns and files of further masks among the images: every image with a mask has one of the pattern.

    A file that has the name of a JPEG file is its mask, too.
    """
    places = [*zip(images.keys, images.files, find_masks(images.keys, masks.keys, pattern), strict=True)]
    paired = [key for key, _, at in places if at is not None]
    bare = [(key, file) for key, file, at in places if at is None]
    keys = [key for key, _ in bare]
    patterns = mask_names(paired, keys)
    found = [at for name in patterns for at in find_masks(paired, keys, name) if at is not None]
    photographs = {key for key, file, _ in places if file.suffix.lower() in LOSSY_EXTENSIONS}
    twins = {file for key, file, _ in places if key in photographs and file.suffix.lower() not in LOSSY_EXTENSIONS}
    return patterns, twins.union(bare[at][1] for at in found)


def _pair_by_affix(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a_mask.png`, or `img_1.jpg` and `mask_1.png`, if most files that are named so have an image."""
    fitting: dict[str, tuple[Side, Side]] = {}
    ends = (f"{STEM}{match[0]}" for file in files if (match := _MASK_SUFFIX.search(file.stem)))
    starts = (f"{match[0]}{STEM}" for file in files if (match := _MASK_PREFIX.match(file.stem)))
    patterns = {pattern.lower(): pattern for pattern in (*ends, *starts)}
    for pattern in sorted(patterns.values(), key=lambda pattern: "mask" not in pattern.lower()):
        images, masks = _divided(folder, files, pattern)
        found = find_masks(images.keys, masks.keys, pattern)
        is_complete = match_names(images.keys, masks.keys) is not None
        if is_complete or 2 * (len(found) - found.count(None)) >= len(masks.files):
            fitting[pattern] = images, masks
    if not fitting:
        return None
    pattern, sides = next(iter(fitting.items()))
    readings = [*dict.fromkeys((*fitting, *_further_masks(*sides, pattern)[0]))]
    if len(readings) > 1:
        raise _several_masks(folder, readings, _of_classes(readings, sides[1]))
    return pair_by_name(*sides)


def _pair_by_extension(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a.png`: the JPEG is the image, as it cannot be an exact mask."""
    counts = Counter(key_of(file, folder) for file in files)
    paired = [file for file in files if counts[key_of(file, folder)] == 2]
    if not files or 2 * len(paired) < len(files):
        return None
    images, masks = _divided(folder, files, STEM)
    if len(set(images.keys) & set(masks.keys)) < len(paired) // 2:
        kinds = " and ".join(sorted({file.suffix.lower() for file in paired}))
        raise PartialMatch(
            f"{folder}: files come in pairs of {kinds}, and either could be the mask; move the masks into a folder "
            "masks next to a folder images"
        )
    return pair_by_name(images, masks)


def _pair_with_arrays(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a.npy`, if most images have an array."""
    arrays = list_files(folder, (".npy",))
    if not files or 2 * len(arrays) < len(files):
        return None
    pairs = pair_by_name(Side.of(folder, files), Side.of(folder, arrays))
    return pairs if 2 * len(pairs.records) >= len(files) else None


def key_of(file: Path, folder: Path) -> str:
    """The path of a file below a folder, without its extension.

    In Unicode's composed form: macOS decomposes letters such as the last one of `café`.
    """
    # not Path.relative_to and with_suffix, which take seconds for a hundred thousand files
    return normalize("NFC", file.as_posix().removeprefix(f"{folder.as_posix()}/").removesuffix(file.suffix))


def _shared_folders(side: Side) -> str:
    """The folders below the side's folder that contain all files."""
    return os.path.commonpath([key.rpartition("/")[0] for key in side.keys])


def _same_names(side: Side, first: Mapping[str, Path]) -> Iterator[Defect]:
    for key, file in zip(side.keys, side.files, strict=True):
        if first[key] is not file:
            detail = f"has the same name as {first[key].name}; keep one of them"
            yield Defect(DefectKind.SAME_STEM, file, detail)


def _without_partner(side: Side, partners: Side, kind: DefectKind, what: str) -> Iterator[Defect]:
    known = set(partners.keys)
    for key, file in zip(side.keys, side.files, strict=True):
        if key not in known:
            yield Defect(kind, file, f"{what} {partners.folder}; add it, or remove this file")
