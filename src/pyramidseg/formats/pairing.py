"""Pairs images with masks by their names, without the extension and without a suffix that all names have."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import UNLABELLED_SPLIT, PartialMatch
from pyramidseg.formats.name_matching import match_names
from pyramidseg.images.image_files import list_images

MASK_SUFFIXES = (
    *("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation", "_annot", "_anno", "-mask", "-label"),
    *("_L", "_P"),
)
"""Suffixes that the names of all masks may have after the image's name. `_L` is CamVid's, `_P` fastai's."""

IMAGE_SUFFIXES = ("_sat", "_image", "_img", "_rgb", "-image")
"""Suffixes that the names of all images may have."""

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

    def without(self, *suffixes: str) -> "Side":
        """The same files with keys without the longest of the suffixes that every key has, in upper or lower case."""
        common = [end for end in suffixes if all(key.lower().endswith(end.lower()) for key in self.keys)]
        length = max(map(len, common), default=0)
        return replace(self, keys=tuple(key[: len(key) - length] for key in self.keys))

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
        return MatchedFiles((), notes=(f"the test split ({folder}) has no image with a mask and was left out",))
    return pairs


def pair_folders(images: Path, masks: Path) -> MatchedFiles:
    """Pair all images below one folder with all masks below the other.

    If no image has a mask and all files of one folder are in a deeper folder, names are compared from there on, with a
    note. An empty folder is a defect.
    """
    image_files, mask_files = list_images(images), list_images(masks)
    if not image_files:
        return MatchedFiles.of_none(images, "no images in this folder; check the path and the file format")
    if not mask_files:
        return MatchedFiles.of_none(
            masks, f"no masks in this folder, although {images} has {len(image_files)} images; add them"
        )
    sides = Side.of(images, image_files), Side.of(masks, mask_files)
    pairs = pair_by_suffix(*sides)
    if pairs.records or _shared_folders(sides[0]) == _shared_folders(sides[1]):
        return pairs
    images, masks = images / _shared_folders(sides[0]), masks / _shared_folders(sides[1])
    pairs = pair_by_suffix(Side.of(images, image_files), Side.of(masks, mask_files))
    return replace(pairs, notes=(f"images are in {images}, masks in {masks}", *pairs.notes))


def pair_by_suffix(images: Side, masks: Side) -> MatchedFiles:
    """Pair by keys without the suffix that the names of all masks, or of all images, have, with a note.

    Where files remain without a partner, a one-to-one matching of all names without common affixes (`match_names`) is
    taken, with a note. If there is none and no name agrees, a single defect shows an example of each side.
    """
    pairs = pair(images, masks)
    bare_masks = masks.without(*MASK_SUFFIXES)
    for bare_images in () if pairs.records else (images, images.without(*IMAGE_SUFFIXES)):
        bare = pair(bare_images, bare_masks)
        if bare.records:
            suffixes = ("masks", _suffix(masks, bare_masks)), ("images", _suffix(images, bare_images))
            notes = tuple(f"the names of all {what} have the suffix {suffix!r}" for what, suffix in suffixes if suffix)
            pairs = replace(bare, notes=(*notes, *bare.notes))
            break
    if pairs.defects and (match := match_names(images.keys, masks.keys)):
        partners = zip(images.keys, images.files, match.partners, strict=True)
        records = tuple(Record(key, file, masks.files[place]) for key, file, place in partners)
        return MatchedFiles(records, notes=(f"images and masks are paired by their names without {match.rule}",))
    if not pairs.records and len(images.files) > 1 and len(masks.files) > 1:
        return MatchedFiles((), (_no_pairs(images, masks),))
    return pairs


def _suffix(side: Side, bare: Side) -> str:
    return side.keys[0][len(bare.keys[0]) :]


def _no_pairs(images: Side, masks: Side) -> Defect:
    """One defect for all files, as their names do not agree at all."""
    detail = (
        f"none of its {len(masks.files)} masks, such as {masks.files[0].name}, agrees in its name with one of the "
        f"{len(images.files)} images in {images.folder}, such as {images.files[0].name}; rename them, or write lines "
        "such as images/a.jpg masks/b.png to train.txt and val.txt"
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


def pair_mixed_folder(folder: Path) -> MatchedFiles | None:
    """Pair the images in and below a folder with the masks next to them; None if there are no such pairs.

    Raises:
        PartialMatch: files come in pairs, but either file could be the mask.
    """
    files = list_images(folder)
    return _pair_by_suffix(folder, files) or _pair_by_extension(folder, files)


def _pair_by_suffix(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a_mask.png`, if most files that end in the suffix have an image."""
    fitting: dict[str, tuple[Side, Side]] = {}
    for suffix in MASK_SUFFIXES:
        with_suffix = {file for file in files if file.stem.lower().endswith(suffix.lower())}
        if not with_suffix:
            continue
        images = Side.of(folder, (file for file in files if file not in with_suffix))
        masks = Side.of(folder, (file for file in files if file in with_suffix))
        image_keys = {*images.keys, *(key.removesuffix(end) for key in images.keys for end in IMAGE_SUFFIXES)}
        if 2 * len(image_keys & set(masks.without(suffix).keys)) >= len(with_suffix):
            fitting[suffix] = images, masks
    if len(fitting) > 1:
        raise PartialMatch(
            f"{folder}: the masks could be the files ending in {' or in '.join(fitting)}; move the others away"
        )
    return next((pair_by_suffix(images, masks) for images, masks in fitting.values()), None)


def _pair_by_extension(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a.png`: the JPEG is the image, as it cannot be an exact mask."""
    counts = Counter(key_of(file, folder) for file in files)
    paired = [file for file in files if counts[key_of(file, folder)] == 2]
    if not files or 2 * len(paired) < len(files):
        return None
    images = Side.of(folder, (file for file in files if file.suffix.lower() in LOSSY_EXTENSIONS))
    masks = Side.of(folder, (file for file in files if file.suffix.lower() not in LOSSY_EXTENSIONS))
    if len(set(images.keys) & set(masks.keys)) < len(paired) // 2:
        kinds = " and ".join(sorted({file.suffix.lower() for file in paired}))
        raise PartialMatch(
            f"{folder}: files come in pairs of {kinds}, and either could be the mask; move the masks into a folder "
            "masks next to a folder images"
        )
    return pair(images, masks)


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
