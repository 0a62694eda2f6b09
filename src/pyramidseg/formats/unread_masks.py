"""Masks that were not read: defects of a dataset without any pair, and of mask files of other types."""

from collections.abc import Container, Iterator
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import ParsedDataset
from pyramidseg.formats.mask_sampling import mask_files
from pyramidseg.formats.paths import content, subfolders
from pyramidseg.images.image_files import UNREAD_EXTENSIONS, count_extensions, is_array_name, is_image_name, list_files

_MAX_FOLDERS = 8
_TEXTS = (".json", ".txt", ".xml", ".csv", ".yaml", ".yml", ".html", ".md")
_LOST = (DefectKind.MISSING_MASK, DefectKind.MISSING_IMAGE, DefectKind.ABSENT, DefectKind.REPEATED_ID)


def with_unread_masks(root: Path, parsed: ParsedDataset) -> ParsedDataset:
    """Add a defect for each folder with masks of another type, or one for a dataset without any pair."""
    unread = [*_unread_masks(parsed)]
    if not unread and any(defect.kind in _LOST for defect in parsed.defects):
        unread = [*_unread_files(root, {*mask_files(parsed)})]
    defects = [*parsed.defects, *unread]
    if not any(parsed.splits.values()) and all(defect.kind is DefectKind.MISSING_MASK for defect in defects):
        found = f"no image with a mask was found ({parsed.layout}); found {_by_folder(root)}"
        defects.append(Defect(DefectKind.ABSENT, root, f"{found}: add masks as PNG or TIFF files"))
    notes = [*parsed.notes, *_unread_images(parsed)]
    return replace(parsed, defects=tuple(defects), notes=tuple(notes))


def _unread_files(root: Path, masks: Container[Path]) -> Iterator[Defect]:
    """A defect for the files of a dataset that may be the missing ones, but whose types are not read."""
    if files := [file for file in list_files(root, UNREAD_EXTENSIONS) if file not in masks]:
        found = f"{count_extensions(files)}, such as {files[0].relative_to(root)}, are of types that are not read"
        detail = f"{found}; if these are the missing files, save them as PNG or TIFF files"
        yield Defect(DefectKind.UNREADABLE_MASK, root, detail)


def _unread_images(parsed: ParsedDataset) -> Iterator[str]:
    """A note for each folder of images that also holds images, rasters or videos of types that are not read."""
    for folder in dict.fromkeys(record.image.parent for some in parsed.splits.values() for record in some):
        files = [file for file in content(folder) if file.name.lower().endswith(UNREAD_EXTENSIONS)]
        if files:
            yield f"{folder}: {count_extensions(files)}, such as {files[0].name}, are of types that are not read"


def _unread_masks(parsed: ParsedDataset) -> Iterator[Defect]:
    """Files of other types in the folders of the masks, if they are named like an image that has no mask."""
    records = [record for some in parsed.splits.values() for record in some if record.mask]
    paired = {record.image for record in records}
    folders = dict.fromkeys(record.mask.parent for record in records if record.mask and is_image_name(record.mask.name))
    images = dict.fromkeys(image.parent for image in paired)
    for folder in folders:
        there = content(folder)
        others = [file for file in there if not (is_image_name(file.name) or file.suffix.lower() in _TEXTS)]
        if not others:
            continue
        files = (file for place in images for file in content(place) if is_image_name(file.name))
        alone = {file.stem.lower() for file in files if file not in paired}
        absent = {record.mask for record in records if record.mask and record.mask.parent == folder}.difference(there)
        alone.update(mask.stem.lower() for mask in absent)
        lost = [file for file in others if file.name.partition(".")[0].lower() in alone and file.is_file()]
        if lost:
            where = " next to image files" if is_array_name(lost[0].name) else ""
            found = (
                f"{len(lost)} masks, such as {lost[0].name}, are of a type that is not read{where} "
                f"({count_extensions(lost)})"
            )
            yield Defect(DefectKind.UNREADABLE_MASK, folder, f"{found}; save them as PNG or TIFF files")


def _by_folder(root: Path) -> str:
    """Files by folder and extension: `JPEGImages: 6 .jpg, SegmentationClass: nothing`."""
    folders = [root, *(inner for folder in subfolders(root) for inner in (folder, *subfolders(folder)))]
    found = [
        f"{folder.relative_to(root).as_posix()}: {count_extensions(files) or 'nothing'}"
        for folder in folders
        if (files := [file for file in content(folder) if file.is_file()]) or not subfolders(folder)
    ]
    return first_few(found, limit=_MAX_FOLDERS)
