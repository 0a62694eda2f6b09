"""The lists of Pascal VOC's layout: `ImageSets/Segmentation/train.txt` and its like, a name in each line."""

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from pyramidseg.data.readers.folders import child_folder, content
from pyramidseg.data.readers.listing import USUAL_FOLDERS, SplitFolders
from pyramidseg.data.text_files import read_text
from pyramidseg.errors import DataError

CVAT_SUBSET = "default"
"""What CVAT calls the images of a task that is divided into nothing."""

WHOLE = ("trainval", CVAT_SUBSET)
"""Lists that serve for training where there is none for it; beside it they repeat what it names."""


MAX_BYTES = 2**26
"""Larger files are no lists of names: a million names fit."""


class ImageSet(NamedTuple):
    """A list, and the names in it, each once."""

    file: Path
    names: tuple[str, ...]


def read_image_sets(folder: Path, splits: SplitFolders) -> dict[str, ImageSet]:
    """The list of each split below `ImageSets/Segmentation`; none where there are no lists.

    Raises:
        DataError: a list cannot be read or names nothing, or two lists share names.
    """
    sets = child_folder(folder, ["imagesets"])
    place = sets and child_folder(sets, ["segmentation"])
    if place is None:
        return {}
    files = {path.stem.lower(): path for path in content(place) if path.suffix.lower() == ".txt"}
    if splits == USUAL_FOLDERS:
        splits = {**splits, "train": (*splits["train"], *WHOLE)}
    chosen = {split: next((files[name] for name in names if name in files), None) for split, names in splits.items()}
    lists = {split: ImageSet(file, names_in(file)) for split, file in chosen.items() if file is not None}
    refuse_overlaps(lists)
    return lists


def names_in(file: Path) -> tuple[str, ...]:
    """The first word of each line, or what stands in quotes (CVAT quotes names with spaces); each once.

    Raises:
        DataError: the list cannot be read, or names nothing.
    """
    lines = [line.strip() for line in read_text(file, most=MAX_BYTES).splitlines()]
    written = [line for line in lines if line and not line.startswith("#")]
    names = dict.fromkeys(line.split('"')[1] if line.startswith('"') else line.split()[0] for line in written)
    if not names:
        raise DataError(f"{file}: names no image; fill it, or delete it")
    return tuple(names)


def refuse_overlaps(lists: Mapping[str, ImageSet]) -> None:
    """Refuse a name that is in two lists.

    Raises:
        DataError: names both lists, and a name.
    """
    home: dict[str, ImageSet] = {}
    for listed in lists.values():
        shared = [name for name in listed.names if home.setdefault(name, listed) is not listed]
        if shared:
            raise DataError(
                f"{listed.file} and {home[shared[0]].file.name} share {len(shared)} names, such as {shared[0]}: an "
                "image can be in one split only; take them out of one list"
            )
