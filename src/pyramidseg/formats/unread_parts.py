"""Parts of a dataset that its format did not read are never left out or mixed in silently: splits, and mask files.

A format lists what fits its layout. A split with one side missing, without its annotation file, or empty does not fit,
and a split below another folder is read as part of the whole. Without this check a validation split would be cut out of
the training images although there is one, or test images would be trained on.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.text import first_few
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES, UNLABELLED_SPLIT, ParsedDataset
from pyramidseg.formats.paths import content, holds_images, subfolders
from pyramidseg.images.image_files import UNREAD_EXTENSIONS, count_extensions, is_array_name, is_image_name, list_files

_SIDES = "images?|imgs?|pictures|frames|masks?|labels?|annotations?|annot|segmentations?|gt"
_MAX_FOLDERS = 200


def _folder_pattern(names: Iterable[str]) -> re.Pattern[str]:
    """Folder names such as `val`, `val2017`, `val_masks`."""
    return re.compile(rf"(?:{'|'.join(names)})\d*(?:[_-]?(?:{_SIDES}))?", re.IGNORECASE)


_PATTERNS = {
    "train": _folder_pattern((*SPLIT_NAMES["train"], "train_?val")),
    "val": _folder_pattern((*SPLIT_NAMES["val"], *RARE_VAL_NAMES)),
    "test": _folder_pattern(SPLIT_NAMES["test"]),
}
_NOT_ALWAYS_A_SPLIT = _folder_pattern((*RARE_VAL_NAMES, "dev"))
_SIDE = re.compile(rf"{_SIDES}|leftimg8bit|gtfine|gtcoarse", re.IGNORECASE)


def with_unlisted_splits(parsed: ParsedDataset) -> ParsedDataset:
    """Add a defect or a note for each folder that is named like a split which the format did not list."""
    image_folders = {split: _folders(record.image for record in records) for split, records in parsed.splits.items()}
    mask_folders = _folders(parsed.mask_files)
    used = mask_folders.union(*image_folders.values())
    candidates = list(_candidates(parsed, used))
    mixed_in = {split for split, folder in candidates if any(folder in homes for homes in image_folders.values())}
    defects, notes = list[Defect](), list[str]()
    for split, folder in candidates:
        listed_as = [home for home, homes in image_folders.items() if folder in homes]
        is_test = split == UNLABELLED_SPLIT
        if listed_as:
            if not is_test or [*parsed.splits] == ["train"]:
                defects.append(_mixed_split(split, folder, listed_as, parsed, has_masks=folder in mask_folders))
            elif "train" in listed_as:
                notes.append(f"the images in {folder} are listed as train, although it is named like split {split!r}")
        elif folder in used and (is_test or split in mixed_in):
            continue  # the masks of such images
        elif not is_test:
            defects.append(_unread_split(split, folder, parsed))
        elif not any(f"{split} split" in note for note in parsed.notes):
            notes.append(f"{folder} contains nothing that this layout lists, and was left out")
    return replace(parsed, defects=(*parsed.defects, *defects), notes=(*parsed.notes, *notes))


def _candidates(parsed: ParsedDataset, used: set[Path]) -> Iterator[tuple[str, Path]]:
    """Folders named like an absent split, and without a defect so far, in the dataset's folder and below its sides."""
    absent = {split: pattern for split, pattern in _PATTERNS.items() if split not in parsed.splits}
    if not absent:
        return
    done = {folder for defect in parsed.defects for folder in (defect.file, *defect.file.parents)}
    named: set[Path] = set()
    places = [parsed.root]
    for place in places:
        for folder in subfolders(place)[:_MAX_FOLDERS]:
            if _SIDE.fullmatch(folder.name) or folder in used:
                places.append(folder)
            split = next((split for split, pattern in absent.items() if pattern.fullmatch(folder.name)), None)
            if split is None or folder in done or not named.isdisjoint(folder.parents):
                continue
            if not _NOT_ALWAYS_A_SPLIT.fullmatch(folder.name) or holds_images(folder):
                named.add(folder)
                yield split, folder


def _folders(files: Iterable[Path]) -> set[Path]:
    """The folders of files, and all folders above them."""
    return {folder for place in {file.parent for file in files} for folder in (place, *place.parents)}


def _unread_split(split: str, folder: Path, parsed: ParsedDataset) -> Defect:
    if folder.name.lower() in RARE_VAL_NAMES:
        what = "is not read without being named"
        advice = f"name the splits in a YAML file (train: train, {split}: {folder.name}), or rename or remove it"
    else:
        what = "contains no readable samples" if any(folder.iterdir()) else "is empty"
        advice = "add samples, rename it or remove it"
    detail = f"is named like split {split!r} and {what} ({parsed.layout}); {advice}"
    return Defect(DefectKind.ABSENT, folder, detail)


def _mixed_split(split: str, folder: Path, listed: list[str], parsed: ParsedDataset, *, has_masks: bool) -> Defect:
    """A split below the level at which the layout has its splits, so that its images belong to another split."""
    if has_masks:
        advice = f"name {folder.parent} as the dataset"
    elif isinstance(parsed.values, IndexValues):
        advice = f"name the folders of each split in a YAML file ({split}: {{images: ..., masks: ...}})"
    else:
        advice = "list each split separately (train: {images: ..., masks: ...}, val: ...) in a YAML file"
    detail = (
        f"is named like split {split!r}, and its images are listed as {' and '.join(listed)} ({parsed.layout}); "
        f"{advice}, or rename it"
    )
    return Defect(DefectKind.ABSENT, folder, detail)


# Masks of types that are not read.

_SHOWN = 8
_TEXTS = (".json", ".txt", ".xml", ".csv", ".yaml", ".yml", ".html", ".md")
_LOST = (DefectKind.MISSING_MASK, DefectKind.MISSING_IMAGE, DefectKind.ABSENT, DefectKind.REPEATED_ID)


def with_unread_masks(root: Path, parsed: ParsedDataset) -> ParsedDataset:
    """Add a defect for each folder with masks of another type, or one for a dataset without any pair."""
    unread = [*_unread_masks(parsed)]
    if not unread and any(defect.kind in _LOST for defect in parsed.defects):
        masks = {*parsed.mask_files}
        if files := [file for file in list_files(root, UNREAD_EXTENSIONS) if file not in masks]:
            found = f"{count_extensions(files)}, such as {files[0].relative_to(root)}, are of types that are not read"
            detail = f"{found}; if these are the missing files, save them as PNG or TIFF files"
            unread = [Defect(DefectKind.UNREADABLE_MASK, root, detail)]
    defects = [*parsed.defects, *unread]
    if not any(parsed.splits.values()) and all(defect.kind is DefectKind.MISSING_MASK for defect in defects):
        found = f"no image with a mask was found ({parsed.layout}); found {_by_folder(root)}"
        defects.append(Defect(DefectKind.ABSENT, root, f"{found}: add masks as PNG or TIFF files"))
    notes = [*parsed.notes, *_unread_images(parsed)]
    return replace(parsed, defects=tuple(defects), notes=tuple(notes))


def _unread_images(parsed: ParsedDataset) -> Iterator[str]:
    """A note for each folder of images that also holds images, rasters or videos of types that are not read."""
    for folder in dict.fromkeys(record.image.parent for record in parsed.records):
        if files := content(folder, lambda name: name.lower().endswith(UNREAD_EXTENSIONS)):
            yield f"{folder}: {count_extensions(files)}, such as {files[0].name}, are of types that are not read"


def _unread_masks(parsed: ParsedDataset) -> Iterator[Defect]:
    """Files of other types in the folders of the masks, if they are named like an image that has no mask."""
    paired = [record for record in parsed.records if record.mask]
    folders = dict.fromkeys(mask.parent for mask in parsed.mask_files if is_image_name(mask.name))
    images = dict.fromkeys(record.image.parent for record in paired)
    for folder in folders:
        others = content(folder, lambda name: not (is_image_name(name) or Path(name).suffix.lower() in _TEXTS))
        if not others:
            continue
        there, used = content(folder), {record.image for record in paired}
        files = (file for place in images for file in content(place) if is_image_name(file.name))
        alone = {file.stem.lower() for file in files if file not in used}
        absent = {mask for mask in parsed.mask_files if mask.parent == folder}.difference(there)
        alone.update(mask.stem.lower() for mask in absent)
        lost = [file for file in others if file.name.partition(".")[0].lower() in alone and file.is_file()]
        if lost:
            found = f"{len(lost)} masks, such as {lost[0].name}, are of a type that is not read"
            where = " next to image files" if is_array_name(lost[0].name) else ""
            detail = f"{found}{where} ({count_extensions(lost)}); save them as PNG or TIFF files"
            yield Defect(DefectKind.UNREADABLE_MASK, folder, detail)


def _by_folder(root: Path) -> str:
    """Files by folder and extension: `JPEGImages: 6 .jpg, SegmentationClass: nothing`."""
    folders = [root, *(inner for folder in subfolders(root) for inner in (folder, *subfolders(folder)))]
    found = [
        f"{folder.relative_to(root).as_posix()}: {count_extensions(files) or 'nothing'}"
        for folder in folders
        if (files := [file for file in content(folder) if file.is_file()]) or not subfolders(folder)
    ]
    return first_few(found, limit=_SHOWN)
