"""The lists of Pascal VOC's layout: `ImageSets/Segmentation/train.txt` and its like, a name in each line."""

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.safe_paths import short
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES, UNLABELLED_SPLIT, ParsedDataset, SplitNames
from pyramidseg.formats.paths import child_file, child_folder, content
from pyramidseg.images.image_files import IMAGE_EXTENSIONS

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


def read_image_sets(folder: Path, splits: SplitNames, known: Collection[str]) -> ImageSets:
    """The list of each split below `ImageSets/Segmentation`, no name in two of them; none where there are no lists.

    Args:
        known: images and masks as names are to mean them (`meant_by`); a name that means none stays as it is written.
    """
    sets = child_folder(folder, ["imagesets"])
    place = sets and child_folder(sets, ["segmentation"])
    if place is None:
        return ImageSets({})
    files = {path.stem.lower(): path for path in content(place) if path.suffix.lower() == ".txt"}
    if splits == SPLIT_NAMES:
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
    flaws = DefectCollector()
    lists: dict[str, ImageSet] = {}
    for split, file in files.items():
        with flaws.collect():
            names = Counter(_names_in(file))
            if not names and split != "test":
                raise DefectError(DefectKind.EMPTY, file, "names no image; fill it, or delete it")
            lists[split] = ImageSet(file, tuple(names))
            if repeated := [name for name, count in names.items() if count > 1]:
                detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
                flaws.add(Defect(DefectKind.REPEATED_ID, file, detail))
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
                DefectKind.LEAK,
                file,
                f"names {short(name)}, and so does {home[name].name}: an image can be in one split only; take it out "
                "of one list",
            )
            for name in shared
        )
        home |= {name: file for name in names if name not in home}
        kept[split] = ImageSet(file, tuple(name for name in names if home[name] == file))
    return ImageSets(kept, tuple(defects))


# Lists of names that divide a folder without splits: `train.txt`, `val.txt`, `test.txt`, as people write them.

LIST_FOLDERS = ("splits", "split", "lists", "imagesets")


def divided_by_lists(listing: ParsedDataset, folder: Path) -> ParsedDataset:
    """Divide records that are all in train by the lists in their folder, if there are any; aloud.

    What no list names is for training where there is no list for it, else of a list that should name some and does not;
    where all do, it is left out. A test split of which no image has a mask is left out.
    """
    files = _lists(folder)
    if not files:
        return listing
    by_name = _by_name(listing.splits["train"])
    names = {name for name, id in by_name.items() if id is not None}
    read = read_lists(files)
    found = {
        split: {line: by_name[known] if (known := meant_by(line, names)) else None for line in listed.names}
        for split, listed in read.lists.items()
    }
    notes = [f"divided by {', '.join(file.name for file in files.values())}"]
    defects = listing.defects
    if UNLABELLED_SPLIT in found and UNLABELLED_SPLIT not in read.unknown and not any(found[UNLABELLED_SPLIT].values()):
        notes.append(f"the test split ({files[UNLABELLED_SPLIT]}) has no masks and was left out")
        defects = _without_images_of(found.pop(UNLABELLED_SPLIT), defects)
    ids = {split: tuple(known for known in lines.values() if known) for split, lines in found.items()}
    parted = without_overlaps(
        {split: ImageSet(files[split], tuple(dict.fromkeys(some))) for split, some in ids.items()}
    )
    home = {name: split for split, listed in parted.lists.items() for name in listed.names}
    rest = next(iter(read.unknown), "") if "train" in files else "train"
    splits: dict[str, list[Record]] = {split: [] for split in ("train", *found)}
    for record in listing.splits["train"]:
        splits.setdefault(home.get(record.id, rest), []).append(record)
    if left_out := splits.pop("", []):
        notes.append(f"{len(left_out)} images are in none of these lists and were left out")
    elif rest in read.unknown:
        notes.append(f"{len(splits[rest])} images are in none of these lists and are inspected as {rest}")
    absent = (defect for split, lines in found.items() for defect in _absent(files[split], lines))
    return replace(
        listing,
        splits={split: tuple(records) for split, records in splits.items()},
        notes=(*listing.notes, *notes),
        defects=(*defects, *read.defects, *parted.defects, *absent),
    )


def _absent(file: Path, lines: Mapping[str, str | None]) -> Iterator[Defect]:
    """A defect for each name of no image; one for all of them where a list is of other images altogether."""
    if len(lines) > 1 and not any(lines.values()):
        example = short(next(iter(lines)))
        detail = (
            f"none of its {len(lines)} names, such as {example}, is an image with a mask; correct it, or move it away"
        )
        yield Defect(DefectKind.ABSENT, file, detail)
        return
    for line, known in lines.items():
        if known is None:
            detail = f"names {short(line)}, which is no image with a mask; take it out of the list"
            yield Defect(DefectKind.ABSENT, file, detail)


def _without_images_of(lines: Iterable[str], defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """The defects but those of images that a list of unlabelled ones names."""
    lone = {defect.file.stem for defect in defects if defect.kind is DefectKind.MISSING_MASK}
    meant = {meant_by(line, lone) for line in lines}
    return tuple(
        defect for defect in defects if defect.kind is not DefectKind.MISSING_MASK or defect.file.stem not in meant
    )


def _lists(folder: Path) -> dict[str, Path]:
    """The list of each split; that of val may have a seldom name beside a list of train."""
    inner = child_folder(folder, LIST_FOLDERS)
    places = [folder, inner] if inner else [folder]

    def called(names: Sequence[str]) -> Path | None:
        return next((file for place in places for name in names if (file := child_file(place, f"{name}.txt"))), None)

    found = {split: called(names) for split, names in SPLIT_NAMES.items()}
    if found["train"] and not found["val"]:
        found["val"] = called(RARE_VAL_NAMES)
    return {split: file for split, file in found.items() if file is not None}


def _by_name(records: Iterable[Record]) -> dict[str, str | None]:
    """Ids by what a list may call an image: its id, or the name of its file; None where several have that name."""
    ids: dict[str, str | None] = {}
    for record in records:
        for name in {PurePosixPath(record.id).name, record.image.stem}:
            ids[name] = None if name in ids else record.id
    return {**ids, **{record.id: record.id for record in records}}
