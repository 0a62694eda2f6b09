"""Which mask belongs to which image: the name without its extension, and without a suffix that all have, says it."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from unicodedata import normalize

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Record
from pyramidseg.images.image_files import list_images

MASK_SUFFIXES = (
    *("_mask", "_masks", "_label", "_labels", "_gt", "_seg", "_segmentation", "_annot", "_anno", "-mask", "-label"),
    *("_L", "_P"),
)
"""What the names of all masks may end in beside the image's name. `_L` is CamVid's, `_P` fastai's."""

IMAGE_SUFFIXES = ("_sat", "_image", "_img", "_rgb", "-image")
"""What the names of all images may end in, likewise."""


@dataclass(frozen=True)
class Side:
    """Images or masks: files below a folder, and for each the key that its partner has too."""

    folder: Path
    files: tuple[Path, ...]
    keys: tuple[str, ...]

    @classmethod
    def of(cls, folder: Path, files: Iterable[Path]) -> "Side":
        """Keyed by the path below the folder without its extension."""
        files = tuple(files)
        return cls(folder, files, tuple(key_of(file, folder) for file in files))

    def without(self, suffix: str) -> "Side":
        """Keyed without a suffix that every key has."""
        return replace(self, keys=tuple(key[: len(key) - len(suffix)] for key in self.keys))

    def in_lower_case(self) -> "Side":
        """Keyed whatever the case."""
        return replace(self, keys=tuple(key.casefold() for key in self.keys))

    def first(self) -> dict[str, Path]:
        """The first file of each key, in order."""
        files: dict[str, Path] = {}
        for key, file in zip(self.keys, self.files, strict=True):
            files.setdefault(key, file)
        return files


@dataclass(frozen=True)
class MatchedFiles:
    """Records in the order of the images, what is wrong with files that are in none, and what was inferred."""

    records: tuple[Record, ...]
    defects: tuple[Defect, ...] = ()
    notes: tuple[str, ...] = ()

    @classmethod
    def of_none(cls, folder: Path, detail: str) -> "MatchedFiles":
        """No records, as something is needed that is not in a folder, or not beside it."""
        return cls((), (Defect(DefectKind.ABSENT, folder, detail),))

    @classmethod
    def of_error(cls, folder: Path, error: DataError) -> "MatchedFiles":
        """No records, as an error says that was met in a folder."""
        return cls.of_none(folder, str(error).removeprefix(f"{folder}: "))


def without_labels(split: str, pairs: MatchedFiles, folder: Path) -> MatchedFiles:
    """The same, but of a test split without any mask, or without images, a note alone."""
    bare = not pairs.records and all(
        defect.kind in (DefectKind.ABSENT, DefectKind.MISSING_MASK) for defect in pairs.defects
    )
    return (
        MatchedFiles((), notes=(f"the test split ({folder}) has no image with a mask and was left out",))
        if split == "test" and bare
        else pairs
    )


def pair_folders(images: Path, masks: Path) -> MatchedFiles:
    """Pair all images below one folder with all masks below the other.

    Where no image meets a mask, and all files of one folder lie deeper, names count from there on, aloud. That nothing
    is in one of them is a defect.
    """
    image_files, mask_files = list_images(images), list_images(masks)
    if not image_files:
        return MatchedFiles.of_none(
            images, "no images in this folder; look for another path, or an unusual file format"
        )
    if not mask_files:
        return MatchedFiles.of_none(
            masks, f"no masks in this folder, though {images} has {len(image_files)} images; add them"
        )
    sides = Side.of(images, image_files), Side.of(masks, mask_files)
    pairs = pair_by_suffix(*sides)
    if pairs.records or _shared_folders(sides[0]) == _shared_folders(sides[1]):
        return pairs
    images, masks = images / _shared_folders(sides[0]), masks / _shared_folders(sides[1])
    pairs = pair_by_suffix(Side.of(images, image_files), Side.of(masks, mask_files))
    return replace(pairs, notes=(f"images lie in {images}, masks in {masks}", *pairs.notes))


def pair_by_suffix(images: Side, masks: Side) -> MatchedFiles:
    """Pair by keys after taking off what the names of all masks, or of all images, end in; aloud."""
    image_suffix, mask_suffix = "", ""
    if set(images.keys).isdisjoint(masks.keys):
        mask_suffix = _common_suffix(masks.keys, MASK_SUFFIXES)
        image_suffix = _common_suffix(images.keys, IMAGE_SUFFIXES)
        if image_suffix and set(images.keys).isdisjoint(masks.without(mask_suffix).keys):
            images = images.without(image_suffix)
        else:
            image_suffix = ""
        masks = masks.without(mask_suffix)
    pairs = pair(images, masks)
    suffixes = (("masks", mask_suffix), ("images", image_suffix))
    notes = tuple(f"{what} carry the suffix {suffix!r} in their names" for what, suffix in suffixes if suffix)
    return replace(pairs, notes=(*notes, *pairs.notes))


def pair(images: Side, masks: Side) -> MatchedFiles:
    """Pair by keys; by keys in lower case, aloud, where that makes every image meet its mask and nothing else does."""
    if set(images.keys) != set(masks.keys):
        low_images, low_masks = images.in_lower_case(), masks.in_lower_case()
        if sorted(set(low_images.keys)) == sorted(low_images.keys) == sorted(low_masks.keys):
            by_key = dict(zip(low_masks.keys, masks.files, strict=True))
            paired = zip(images.keys, images.files, low_images.keys, strict=True)
            records = tuple(Record(key, file, by_key[low]) for key, file, low in paired)
            return MatchedFiles(records, notes=("names of images and masks differ in upper and lower case",))
    first_images, first_masks = images.first(), masks.first()
    records = tuple(Record(key, file, first_masks[key]) for key, file in first_images.items() if key in first_masks)
    defects = (
        *_doubles(images, first_images),
        *_doubles(masks, first_masks),
        *_alone(images, masks, DefectKind.MISSING_MASK, "no mask of this name in"),
        *_alone(masks, images, DefectKind.MISSING_IMAGE, "no image of this name in"),
    )
    return MatchedFiles(records, defects)


def key_of(file: Path, folder: Path) -> str:
    """The path of a file below a folder, without its extension.

    In Unicode's composed form: macOS writes the letters of `café` otherwise than Windows and Linux do.
    """
    # not Path.relative_to and with_suffix, which take seconds for a hundred thousand files
    return normalize("NFC", file.as_posix().removeprefix(f"{folder.as_posix()}/").removesuffix(file.suffix))


def _shared_folders(side: Side) -> str:
    """The folders below the side's own that all files lie in."""
    return os.path.commonpath([key.rpartition("/")[0] for key in side.keys])


def _common_suffix(keys: Sequence[str], suffixes: Iterable[str]) -> str:
    """The one of the suffixes that all keys end in, as it is written there."""
    fitting = (suffix for suffix in suffixes if all(key.lower().endswith(suffix.lower()) for key in keys))
    longest = max(fitting, key=len, default="")
    return keys[0][len(keys[0]) - len(longest) :] if longest else ""


def _doubles(side: Side, first: Mapping[str, Path]) -> Iterator[Defect]:
    for key, file in zip(side.keys, side.files, strict=True):
        if first[key] is not file:
            detail = f"shares its name with {first[key].name}, so which of them is meant cannot be told; keep one"
            yield Defect(DefectKind.SAME_STEM, file, detail)


def _alone(side: Side, partners: Side, kind: DefectKind, what: str) -> Iterator[Defect]:
    known = set(partners.keys)
    for key, file in zip(side.keys, side.files, strict=True):
        if key not in known:
            yield Defect(kind, file, f"{what} {partners.folder}; add it, or take this file out")
