"""Folders that are called like a split while nothing in them was listed: never left out in silence.

A reader lists what fits; a split of which one side is missing, whose annotation file is gone, or which is empty fits
nothing. Without this, the validation split would be cut out of the training images although there is one.
"""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.readers.folders import subfolders
from pyramidseg.data.readers.listing import UNLABELLED, USUAL_FOLDERS, Listing

_SIDES = "images?|imgs?|pictures|frames|masks?|labels?|annotations?|annot|segmentations?|gt"
_NAMES = {
    split: re.compile(rf"(?:{'|'.join(names)})\d*(?:[_-]?(?:{_SIDES}))?", re.IGNORECASE)
    for split, names in {**USUAL_FOLDERS, "train": (*USUAL_FOLDERS["train"], "train_?val")}.items()
}
_SIDE = re.compile(rf"{_SIDES}|leftimg8bit|gtfine|gtcoarse", re.IGNORECASE)
_FOLDERS_TRIED = 200


def with_unread_splits(root: Path, listing: Listing) -> Listing:
    """The same with a defect, or for test a note, for each folder of a split that the listing does not have.

    Looked at are the folders in the dataset's folder, in those of images, masks or labels, and in those of records.
    """
    unread = list(_unread(root, listing))
    tests = [folder for split, folder in unread if split == UNLABELLED]
    told = any(f"{UNLABELLED} split" in note for note in listing.notes)
    return replace(
        listing,
        defects=(
            *listing.defects,
            *(_defect(split, folder, listing) for split, folder in unread if split != UNLABELLED),
        ),
        notes=(
            *listing.notes,
            *(f"{folder} holds nothing that this layout lists, and was left out" for folder in tests if not told),
        ),
    )


def _unread(root: Path, listing: Listing) -> Iterator[tuple[str, Path]]:
    absent = {split: name for split, name in _NAMES.items() if split not in listing.splits}
    if not absent:
        return
    files = (file for some in listing.splits.values() for record in some for file in (record.image, record.mask))
    read = {folder for file in {file.parent for file in files if file is not None} for folder in (file, *file.parents)}
    faulty = {folder for defect in listing.defects for folder in (defect.file, *defect.file.parents)}
    told: set[Path] = set()
    for folder in _near(root, read):
        split = next((split for split, name in absent.items() if name.fullmatch(folder.name)), None)
        if split is None or folder in faulty or not told.isdisjoint(folder.parents):
            continue
        if split == UNLABELLED and folder in read:
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


def _defect(split: str, folder: Path, listing: Listing) -> Defect:
    what = "holds nothing that this layout lists for it" if any(folder.iterdir()) else "is empty"
    detail = (
        f"is called like split {split!r} and {what} ({listing.layout}); complete it, call it otherwise, or move it away"
    )
    return Defect(Kind.ABSENT, folder, detail)
