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
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing

UNLABELLED = "test"
"""The split that usually has no labels; readers say so in a note where they leave it out."""

_WORDS = "images?|imgs?|pictures|frames|masks?|labels?|annotations?|annot|segmentations?|gt"
_NAMES = {
    split: re.compile(rf"(?:{'|'.join(names)})\d*(?:[_-]?(?:{_WORDS}))?", re.IGNORECASE)
    for split, names in USUAL_FOLDERS.items()
}
_FOLDERS_TRIED = 200


def with_unread_splits(root: Path, listing: Listing) -> Listing:
    """The same with a defect, or for test a note, for each folder of a split that nothing was listed from.

    Looked at are the folders in the dataset's folder, and those in them.
    """
    unread = list(_unread(root, listing))
    tests = [folder for split, folder in unread if split == UNLABELLED]
    untold = [folder for folder in tests if not any(str(folder) in note for note in listing.notes)]
    return replace(
        listing,
        defects=(
            *listing.defects,
            *(_defect(split, folder, listing) for split, folder in unread if split != UNLABELLED),
        ),
        notes=(
            *listing.notes,
            *(f"nothing in {folder} is labelled as this layout has it, and it was left out" for folder in untold),
        ),
    )


def _unread(root: Path, listing: Listing) -> Iterator[tuple[str, Path]]:
    candidates = [(split, folder) for folder in _near(root) for split in _NAMES if _NAMES[split].fullmatch(folder.name)]
    unread = [(split, folder) for split, folder in candidates if split not in listing.splits]
    if not unread:
        return
    files = (file for some in listing.splits.values() for record in some for file in (record.image, record.mask))
    known = {folder for file in files if file is not None for folder in (file, *file.parents)}
    known |= {folder for defect in listing.defects for folder in (defect.file, *defect.file.parents)}
    told: set[Path] = set()
    for split, folder in unread:
        if folder in known or not told.isdisjoint(folder.parents):
            continue
        told.add(folder)
        yield split, folder


def _defect(split: str, folder: Path, listing: Listing) -> Defect:
    what = "holds nothing that this layout lists" if any(folder.iterdir()) else "is empty"
    detail = (
        f"is called like split {split!r} and {what} ({listing.layout}); complete it, call it otherwise, or name "
        "the splits that count in a YAML file (train: train)"
    )
    return Defect(Kind.ABSENT, folder, detail)


def _near(root: Path) -> Iterator[Path]:
    first = subfolders(root)[:_FOLDERS_TRIED]
    yield from first
    for folder in first:
        yield from subfolders(folder)[:_FOLDERS_TRIED]
