"""Lists of image names that divide a dataset into splits: one name in each line of a text file."""

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
"""CVAT's name for the images of a task without subsets."""

WHOLE = ("trainval", CVAT_SUBSET)
"""Lists that are used for training if there is no list for it; next to such a list they repeat its names."""


MAX_BYTES = 2**26
"""Larger files are refused; a list of a million names is smaller."""


class ImageSet(NamedTuple):
    """A list file and the names in it, without repetitions."""

    file: Path
    names: tuple[str, ...]


class ImageSets(NamedTuple):
    """The list of each split, and defects of the lists; a list that cannot be read has no names.

    Attributes:
        unknown: splits whose lists are empty or unreadable: images in no list may belong to them.
    """

    lists: dict[str, ImageSet]
    defects: tuple[Defect, ...] = ()
    unknown: tuple[str, ...] = ()


def read_image_sets(folder: Path, splits: SplitNames, known: Collection[str]) -> ImageSets:
    """The list of each split in `ImageSets/Segmentation`, without names that are in two of them.

    Args:
        known: keys of images and masks that names may refer to (`resolve_name`); other names are kept as written.
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
        split: ImageSet(file, tuple(dict.fromkeys(resolve_name(name, known) or name for name in names)))
        for split, (file, names) in read.lists.items()
    }
    parted = without_overlaps(meant)
    return ImageSets(parted.lists, (*read.defects, *parted.defects), read.unknown)


def read_lists(files: Mapping[str, Path]) -> ImageSets:
    """The names in each list, as written; an empty list of train or val is a defect."""
    flaws = DefectCollector()
    lists: dict[str, ImageSet] = {}
    for split, file in files.items():
        with flaws.collect():
            names = Counter(_names_in(file))
            if not names and split != "test":
                raise DefectError(DefectKind.EMPTY, file, "contains no names; add names or delete the file")
            lists[split] = ImageSet(file, tuple(names))
            if repeated := [name for name, count in names.items() if count > 1]:
                detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
                flaws.add(Defect(DefectKind.REPEATED_ID, file, detail))
    known = {split: lists.get(split, ImageSet(file, ())) for split, file in files.items()}
    return ImageSets(known, flaws.defects, tuple(split for split in files if split not in lists))


def _names_in(file: Path) -> list[str]:
    """Each line, or the part in quotes (CVAT quotes names with spaces)."""
    lines = [line.strip() for line in read_text(file, most=MAX_BYTES).splitlines()]
    written = [line for line in lines if line and not line.startswith("#")]
    return [line.split('"')[1] if line.startswith('"') else line for line in written]


def resolve_name(written: str, known: Collection[str]) -> str | None:
    """The known name that a line refers to: the line or its first word, with or without extension and folders."""
    for text in dict.fromkeys((written, written.split()[0])):
        path = PurePosixPath(text.replace("\\", "/"))
        bare = path.with_suffix("") if path.suffix.lower() in IMAGE_EXTENSIONS else path
        for name in (text, str(bare), bare.name):
            if name in known:
                return name
    return None


def without_overlaps(lists: Mapping[str, ImageSet]) -> ImageSets:
    """Keep a name that is in two lists in the first of them; in the other it is a defect."""
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


# Lists of names that divide a folder without splits: `train.txt`, `val.txt`, `test.txt`.

LIST_FOLDERS = ("splits", "split", "lists", "imagesets")


def divided_by_lists(listing: ParsedDataset, folder: Path) -> ParsedDataset:
    """Divide records that are all in train by the lists in their folder, if there are any, with a note.

    Images in no list are training images if there is no list of train; otherwise they belong to a list that is empty or
    unreadable, and without such a list they are left out. A test split without masks is left out.
    """
    files = _lists(folder)
    if not files:
        return listing
    by_name = _by_name(listing.splits["train"])
    names = {name for name, id in by_name.items() if id is not None}
    read = read_lists(files)
    found = {
        split: {line: by_name[known] if (known := resolve_name(line, names)) else None for line in listed.names}
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
    """A defect for each name without an image; a single one if no name of a list has an image."""
    if len(lines) > 1 and not any(lines.values()):
        example = short(next(iter(lines)))
        detail = f"none of its {len(lines)} names, such as {example}, is an image with a mask; correct the list"
        yield Defect(DefectKind.ABSENT, file, detail)
        return
    for line, known in lines.items():
        if known is None:
            detail = f"{short(line)} is not the name of an image with a mask; remove it from the list"
            yield Defect(DefectKind.ABSENT, file, detail)


def _without_images_of(lines: Iterable[str], defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """The defects without those of images in a list of unlabelled images."""
    lone = {defect.file.stem for defect in defects if defect.kind is DefectKind.MISSING_MASK}
    meant = {resolve_name(line, lone) for line in lines}
    return tuple(
        defect for defect in defects if defect.kind is not DefectKind.MISSING_MASK or defect.file.stem not in meant
    )


def _lists(folder: Path) -> dict[str, Path]:
    """The list of each split; next to a list of train, the list of val may have a rare name."""
    inner = child_folder(folder, LIST_FOLDERS)
    places = [folder, inner] if inner else [folder]

    def called(names: Sequence[str]) -> Path | None:
        return next((file for place in places for name in names if (file := child_file(place, f"{name}.txt"))), None)

    found = {split: called(names) for split, names in SPLIT_NAMES.items()}
    if found["train"] and not found["val"]:
        found["val"] = called(RARE_VAL_NAMES)
    return {split: file for split, file in found.items() if file is not None}


def _by_name(records: Iterable[Record]) -> dict[str, str | None]:
    """Ids by the names that a list may use for an image (id or file name); None if several images have the name."""
    ids: dict[str, str | None] = {}
    for record in records:
        for name in {PurePosixPath(record.id).name, record.image.stem}:
            ids[name] = None if name in ids else record.id
    return {**ids, **{record.id: record.id for record in records}}
