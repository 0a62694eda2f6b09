"""The lists of Pascal VOC's layout: `ImageSets/Segmentation/train.txt` and its like, a name in each line."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pyramidseg.data.defect_kinds import Defect, DefectError, Kind
from pyramidseg.data.flaws import Flaws
from pyramidseg.data.image_files import IMAGE_EXTENSIONS
from pyramidseg.data.readers.folders import child_folder, content
from pyramidseg.data.readers.listing import USUAL_FOLDERS, SplitFolders
from pyramidseg.data.references import short
from pyramidseg.data.text_files import read_text

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


class ImageSets(NamedTuple):
    """The list of each split, and what is wrong with them: one that cannot be read names nothing.

    Attributes:
        unknown: splits whose lists name nothing and should: what no list names may be theirs.
    """

    lists: dict[str, ImageSet]
    defects: tuple[Defect, ...] = ()
    unknown: tuple[str, ...] = ()


def read_image_sets(folder: Path, splits: SplitFolders, known: Collection[str]) -> ImageSets:
    """The list of each split below `ImageSets/Segmentation`, no name in two of them; none where there are no lists.

    Args:
        known: images and masks as names are to mean them (`meant_by`); a name that means none stays as it is written.
    """
    sets = child_folder(folder, ["imagesets"])
    place = sets and child_folder(sets, ["segmentation"])
    if place is None:
        return ImageSets({})
    files = {path.stem.lower(): path for path in content(place) if path.suffix.lower() == ".txt"}
    if splits == USUAL_FOLDERS:
        splits = {**splits, "train": (*splits["train"], *WHOLE)}
    chosen = {split: next((files[name] for name in names if name in files), None) for split, names in splits.items()}
    read = read_lists({split: file for split, file in chosen.items() if file is not None})
    meant = {
        split: ImageSet(file, tuple(dict.fromkeys(meant_by(name, known) or name for name in names)))
        for split, (file, names) in read.lists.items()
    }
    parted = without_overlaps(meant)
    return ImageSets(parted.lists, (*read.defects, *parted.defects), read.unknown)


def read_lists(files: Mapping[str, Path]) -> ImageSets:
    """What each list names, as it stands there; that one of train or val names nothing is a defect too."""
    flaws = Flaws()
    lists: dict[str, ImageSet] = {}
    for split, file in files.items():
        with flaws.caught():
            names = Counter(_names_in(file))
            if not names and split != "test":
                raise DefectError(Kind.EMPTY, file, "names no image; fill it, or delete it")
            lists[split] = ImageSet(file, tuple(names))
            if repeated := [name for name, count in names.items() if count > 1]:
                detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
                flaws.add(Defect(Kind.REPEATED_ID, file, detail))
    known = {split: lists.get(split, ImageSet(file, ())) for split, file in files.items()}
    return ImageSets(known, flaws.defects, tuple(split for split in files if split not in lists))


def _names_in(file: Path) -> list[str]:
    """Each line, or what stands in quotes (CVAT quotes names with spaces)."""
    lines = [line.strip() for line in read_text(file, most=MAX_BYTES).splitlines()]
    written = [line for line in lines if line and not line.startswith("#")]
    return [line.split('"')[1] if line.startswith('"') else line for line in written]


def meant_by(written: str, known: Collection[str]) -> str | None:
    """The one of the known names that a line means: all of it, or its first word; without extension or folders."""
    for text in dict.fromkeys((written, written.split()[0])):
        path = PurePosixPath(text.replace("\\", "/"))
        bare = path.with_suffix("") if path.suffix.lower() in IMAGE_EXTENSIONS else path
        for name in (text, str(bare), bare.name):
            if name in known:
                return name
    return None


def without_overlaps(lists: Mapping[str, ImageSet]) -> ImageSets:
    """Leave a name that is in two lists to the first of them; in the other it is a defect."""
    home: dict[str, Path] = {}
    kept: dict[str, ImageSet] = {}
    defects: list[Defect] = []
    for split, (file, names) in lists.items():
        shared = [name for name in names if name in home]
        defects += (
            Defect(
                Kind.LEAK,
                file,
                f"names {short(name)}, and so does {home[name].name}: an image can be in one split only; take it out "
                "of one list",
            )
            for name in shared
        )
        home |= {name: file for name in names if name not in home}
        kept[split] = ImageSet(file, tuple(name for name in names if home[name] == file))
    return ImageSets(kept, tuple(defects))
