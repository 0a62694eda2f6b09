"""Lists of names that divide a folder without splits: `train.txt`, `val.txt`, `test.txt`, as people write them."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from pyramidseg.data.defect_kinds import Defect, Kind
from pyramidseg.data.readers.folders import child_file, child_folder
from pyramidseg.data.readers.image_sets import ImageSet, meant_by, read_lists, without_overlaps
from pyramidseg.data.readers.listing import SELDOM_VAL, UNLABELLED, USUAL_FOLDERS, Listing
from pyramidseg.data.records import Record
from pyramidseg.data.references import short

LIST_FOLDERS = ("splits", "split", "lists", "imagesets")


def divided_by_lists(listing: Listing, folder: Path) -> Listing:
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
    if UNLABELLED in found and UNLABELLED not in read.unknown and not any(found[UNLABELLED].values()):
        notes.append(f"the test split ({files[UNLABELLED]}) has no masks and was left out")
        defects = _without_images_of(found.pop(UNLABELLED), defects)
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
        yield Defect(Kind.ABSENT, file, detail)
        return
    for line, known in lines.items():
        if known is None:
            detail = f"names {short(line)}, which is no image with a mask; take it out of the list"
            yield Defect(Kind.ABSENT, file, detail)


def _without_images_of(lines: Iterable[str], defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """The defects but those of images that a list of unlabelled ones names."""
    lone = {defect.file.stem for defect in defects if defect.kind is Kind.MISSING_MASK}
    meant = {meant_by(line, lone) for line in lines}
    return tuple(defect for defect in defects if defect.kind is not Kind.MISSING_MASK or defect.file.stem not in meant)


def _lists(folder: Path) -> dict[str, Path]:
    """The list of each split; that of val may have a seldom name beside a list of train."""
    inner = child_folder(folder, LIST_FOLDERS)
    places = [folder, inner] if inner else [folder]

    def called(names: Sequence[str]) -> Path | None:
        return next((file for place in places for name in names if (file := child_file(place, f"{name}.txt"))), None)

    found = {split: called(names) for split, names in USUAL_FOLDERS.items()}
    if found["train"] and not found["val"]:
        found["val"] = called(SELDOM_VAL)
    return {split: file for split, file in found.items() if file is not None}


def _by_name(records: Iterable[Record]) -> dict[str, str | None]:
    """Ids by what a list may call an image: its id, or the name of its file; None where several have that name."""
    ids: dict[str, str | None] = {}
    for record in records:
        for name in {PurePosixPath(record.id).name, record.image.stem}:
            ids[name] = None if name in ids else record.id
    return {**ids, **{record.id: record.id for record in records}}
