"""Folders that are called like a split and were not listed as one: never left out, or trained on, in silence.

A reader lists what fits; a split of which one side is missing, whose annotation file is gone, or which is empty fits
nothing, and one that lies deeper than the layout has it counts with the rest. Without this, the validation split would
be cut out of the training images although there is one, or the test split would be among them.
"""

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES, UNLABELLED_SPLIT, ParsedDataset
from pyramidseg.formats.paths import content, holds_images, subfolders

_SIDES = "images?|imgs?|pictures|frames|masks?|labels?|annotations?|annot|segmentations?|gt"


def _called(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile(rf"(?:{'|'.join(names)})\d*(?:[_-]?(?:{_SIDES}))?", re.IGNORECASE)


_NAMES = {
    split: _called(names)
    for split, names in {
        **SPLIT_NAMES,
        "train": (*SPLIT_NAMES["train"], "train_?val"),
        "val": (*SPLIT_NAMES["val"], *RARE_VAL_NAMES),
    }.items()
}
_SELDOM = _called(RARE_VAL_NAMES)
_SELDOM_WORD = re.compile(rf"(?<![a-z])(?:{'|'.join(RARE_VAL_NAMES)})(?![a-z])", re.IGNORECASE)
_SIDE = re.compile(rf"{_SIDES}|leftimg8bit|gtfine|gtcoarse", re.IGNORECASE)
_FOLDERS_TRIED = 200


def may_have_rare_val_name(root: Path) -> bool:
    """Whether one of the seldom names of val is in the dataset's folder, or in a folder in it."""
    places = [root, *subfolders(root)[:_FOLDERS_TRIED]]
    return any(_SELDOM_WORD.search(path.name) for place in places for path in content(place))


def with_unread_splits(root: Path, listing: ParsedDataset, can_be_read: Callable[[Path], bool]) -> ParsedDataset:
    """The same with a defect, or a note, for each folder of a split that the listing does not have.

    Looked at are the folders in the dataset's folder, in those of images, masks or labels, and in those of records. A
    note tells of folders beside those of splits that `can_be_read` by themselves, and are no split.
    """
    homes = {split: _folders(record.image for record in records) for split, records in listing.splits.items()}
    masks = _folders(record.mask for records in listing.splits.values() for record in records if record.mask)
    read = masks.union(*homes.values())
    found = list(_called_like_splits(root, listing, read))
    mixed = {folder: split for split, folder in found if any(folder in home for home in homes.values())}
    named = {folder for _, folder in found}
    defects: list[Defect] = []
    notes: list[str] = []
    told = any(f"{UNLABELLED_SPLIT} split" in note for note in listing.notes)
    for split, folder in found:
        expected = split != UNLABELLED_SPLIT and not _SELDOM.fullmatch(folder.name)
        if folder in mixed:
            listed = [home for home, folders in homes.items() if folder in folders]
            undivided = [*listing.splits] == ["train"] and _lies_beside_another(folder, split, read)
            if expected or undivided:
                defects.append(_mixed(split, folder, listed, listing, masks_below=folder in masks))
            elif "train" in listed:
                notes.append(f"the images in {folder} are listed as train, though it is called like split {split!r}")
        elif folder in read and (not expected or split in mixed.values()):
            continue  # the masks of these images
        elif expected:
            defects.append(_unread(split, folder, listing))
        elif holds_images(folder) if split != UNLABELLED_SPLIT else not told:
            notes.append(f"{folder} holds nothing that this layout lists, and was left out")
    notes += (
        f"{folder} belongs to no split and was left out, though it can be read by itself"
        for folder in _beside_splits(root, read)
        if folder not in named and can_be_read(folder)
    )
    return replace(listing, defects=(*listing.defects, *defects), notes=(*listing.notes, *notes))


def _called_like_splits(root: Path, listing: ParsedDataset, read: set[Path]) -> Iterator[tuple[str, Path]]:
    """The folders that are called like a split that the listing does not have, and whose defects are not known."""
    absent = {split: name for split, name in _NAMES.items() if split not in listing.splits}
    if not absent:
        return
    faulty = {folder for defect in listing.defects for folder in (defect.file, *defect.file.parents)}
    told: set[Path] = set()
    for folder in _near(root, read):
        split = next((split for split, name in absent.items() if name.fullmatch(folder.name)), None)
        if split is None or folder in faulty or not told.isdisjoint(folder.parents):
            continue
        told.add(folder)
        yield split, folder


def _near(root: Path, read: set[Path]) -> Iterator[Path]:
    """Folders in the dataset's folder, and in those below it that hold one side of a dataset or records."""
    places = [root]
    for place in places:
        for folder in subfolders(place)[:_FOLDERS_TRIED]:
            yield folder
            if _SIDE.fullmatch(folder.name) or folder in read:
                places.append(folder)


def _beside_splits(root: Path, read: set[Path]) -> list[Path]:
    """The folders beside those of splits that nothing was read from."""
    folders = subfolders(root)[:_FOLDERS_TRIED]
    splits = {path for path in folders if any(name.fullmatch(path.name) for name in _NAMES.values())}
    if splits.isdisjoint(read):
        return []
    usual = {path for path in splits if not _SELDOM.fullmatch(path.name)}
    return [path for path in folders if path not in read | usual and not _SIDE.fullmatch(path.name)]


def _folders(files: Iterable[Path]) -> set[Path]:
    """The folders that files lie in, and all above them."""
    return {folder for place in {file.parent for file in files} for folder in (place, *place.parents)}


def _lies_beside_another(folder: Path, split: str, read: set[Path]) -> bool:
    """Whether the folder of another split, which was read too, lies beside one."""
    others = [name for other, name in _NAMES.items() if other != split]
    return any(path in read and any(name.fullmatch(path.name) for name in others) for path in subfolders(folder.parent))


def _unread(split: str, folder: Path, listing: ParsedDataset) -> Defect:
    what = "holds nothing that this layout lists for it" if any(folder.iterdir()) else "is empty"
    detail = (
        f"is called like split {split!r} and {what} ({listing.layout}); complete it, call it otherwise, or move it away"
    )
    return Defect(DefectKind.ABSENT, folder, detail)


def _mixed(split: str, folder: Path, listed: list[str], listing: ParsedDataset, *, masks_below: bool) -> Defect:
    """A split that lies deeper than the layout has it, so that its images count as another."""
    if masks_below:
        way = f"name {folder.parent} as the dataset"
    elif isinstance(listing.values, IndexValues):
        way = f"name the folders of each split in a YAML file ({split}: {{images: ..., masks: ...}})"
    else:
        way = "list each split by itself, as docs/datasets.md shows"
    detail = (
        f"is called like split {split!r}, and its images are listed as {' and '.join(listed)} ({listing.layout}); "
        f"{way}, or call it otherwise"
    )
    return Defect(DefectKind.ABSENT, folder, detail)
