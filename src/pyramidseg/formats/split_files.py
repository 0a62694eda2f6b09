"""Lists of image names that divide a dataset into splits: one name in each line of a text file."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from types import MappingProxyType
from typing import NamedTuple

from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.safe_paths import short
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, UNLABELLED_SPLIT, ParsedDataset, SplitNames
from pyramidseg.formats.list_files import column, find_lists, has_image_name, listed_file, read_rows, without_header
from pyramidseg.formats.pairing import MatchedFiles, key_of
from pyramidseg.formats.paths import child_folder, last_parts
from pyramidseg.images.image_files import IMAGE_EXTENSIONS, list_images

CVAT_SUBSET = "default"
"""CVAT's name for the images of a task without subsets."""

WHOLE = ("trainval", CVAT_SUBSET)
"""Lists that are used for training if there is no list for it; next to such a list they repeat its names."""


class ImageSet(NamedTuple):
    """A list file and the images in it, without repetitions: the ids of known ones, the names of others as written.

    Attributes:
        masks: the mask that the list names next to an image, as written, by the image.
    """

    file: Path
    names: tuple[str, ...] = ()
    masks: Mapping[str, str] = MappingProxyType({})


class ImageSets(NamedTuple):
    """The list of each split, and defects of the lists; a list that cannot be read has no names.

    Attributes:
        unknown: splits whose lists are empty or unreadable: images in no list may belong to them.
        notes: lists that are not read, because there is another one of their split.
    """

    lists: dict[str, ImageSet]
    defects: tuple[Defect, ...] = ()
    unknown: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()


def read_lists(places: Sequence[Path], splits: SplitNames, id_of: Callable[[str], str | None]) -> ImageSets:
    """The list of each split in some folders. An image in two lists is kept in the first of them.

    An empty list of train or val, and an image that is listed twice, are defects.

    Args:
        id_of: the image that a text of a line refers to; None if there is none, or several.
    """
    files, found, notes = find_lists(places, splits, lambda name: id_of(name) is not None)
    flaws = DefectCollector()
    flaws.add(*found)
    lists = {split: ImageSet(file) for split, (file, _) in files.items()}
    home: dict[str, str] = {}
    unknown = [*files]
    for split, (file, listed) in files.items():
        if listed == ():  # its defect is known
            continue
        with flaws.collect():
            rows = _rows(read_rows(file) if listed is None else listed, id_of)
            if not rows and split != UNLABELLED_SPLIT:
                raise DefectError(DefectKind.EMPTY, file, "contains no names; add names or delete the file")
            unknown.remove(split)
            counts = Counter(name for name, _ in rows)
            if repeated := [name for name, count in counts.items() if count > 1]:
                detail = f"names {len(repeated)} images more than once, such as {short(repeated[0])}; name each once"
                flaws.add(Defect(DefectKind.REPEATED_ID, file, detail))
            for name in counts:
                if (other := home.setdefault(name, split)) != split:
                    detail = f"names {short(name)}, and so does {lists[other].file.name}; take it out of one list"
                    flaws.add(Defect(DefectKind.LEAK, file, detail))
            names = tuple(name for name in counts if home[name] == split)
            lists[split] = ImageSet(file, names, {name: mask for name, mask in rows if mask})
    return ImageSets(lists, flaws.defects, tuple(unknown), notes)


def _rows(rows: Sequence[tuple[str, ...]], id_of: Callable[[str], str | None]) -> list[tuple[str, str]]:
    """The id or name of the image in each line, and the name of its mask or ''."""

    def fits(cell: str) -> bool:
        return id_of(cell) is not None

    rows = without_header(rows, fits)
    at = column(rows, fits) or 0
    return [
        (id_of(row[at]) or row[at], next(filter(has_image_name, row[at + 1 :]), ""))
        for row in rows
        if at < len(row) and row[at]
    ]


def resolve_name(written: str, known: Collection[str]) -> str | None:
    """The known name that a line refers to: the line or its first word, or the end of a URL, without its extension."""
    for text in dict.fromkeys((written, *written.split()[:1], *last_parts(written))):
        path = PurePosixPath(text.replace("\\", "/"))
        bare = path.with_suffix("") if path.suffix.lower() in IMAGE_EXTENSIONS else path
        for name in (text, str(bare), bare.name):
            if name in known:
                return name
    return None


# Lists of names that divide a folder without splits: `train.txt`, `val.txt`, `test.txt`.

LIST_FOLDERS = ("splits", "split", "lists", "imagesets")


def divided_by_lists(listing: ParsedDataset, folder: Path) -> ParsedDataset:
    """Divide records that are all in train by the lists in their folder, if there are any, with a note.

    Images in no list are training images if there is no list of train; otherwise they belong to a list that is empty or
    unreadable, and without such a list they are left out. A test split without masks is left out.
    """
    known = {record.id for record in listing.splits["train"]}
    ids = _by_name(listing.splits["train"])
    lists, flaws, unknown, unread = read_lists(
        list_places(folder), SPLIT_NAMES, lambda text: ids.get(resolve_name(text, ids) or "")
    )
    defects = (*listing.defects, *flaws)
    if not lists:
        return replace(listing, defects=defects)
    notes = [f"divided by {', '.join(dict.fromkeys(listed.file.name for listed in lists.values()))}", *unread]
    test = lists.get(UNLABELLED_SPLIT)
    if test and UNLABELLED_SPLIT not in unknown and known.isdisjoint(test.names):
        notes.append(f"the test split ({test.file}) has no masks and was left out")
        defects = _without_images_of(test.names, defects)
        del lists[UNLABELLED_SPLIT]
    home = {name: split for split, listed in lists.items() for name in listed.names}
    rest = next(iter(unknown), "") if "train" in lists else "train"
    splits: dict[str, list[Record]] = {split: [] for split in ("train", *lists)}
    lost: list[Defect] = []
    for record in listing.splits["train"]:
        split = home.get(record.id, rest)
        record = _with_named_mask(record, lists[split], folder, lost) if split in lists else record
        splits.setdefault(split, []).append(record)
    if left_out := splits.pop("", []):
        notes.append(f"{len(left_out)} images are in none of these lists and were left out")
    elif rest in unknown:
        notes.append(f"{len(splits[rest])} images are in none of these lists and are inspected as {rest}")
    absent = (defect for listed in lists.values() for defect in _absent(listed, known))
    return replace(
        listing,
        splits={split: tuple(records) for split, records in splits.items()},
        notes=(*listing.notes, *notes),
        defects=(*defects, *lost, *absent),
    )


def _absent(listed: ImageSet, known: Collection[str]) -> Iterator[Defect]:
    """A defect for each name without an image; a single one if no name of a list has an image."""
    absent = [name for name in listed.names if name not in known]
    if 1 < len(absent) == len(listed.names):
        detail = (
            f"none of its {len(absent)} names, such as {short(absent[0])}, is an image with a mask; correct the list"
        )
        yield Defect(DefectKind.ABSENT, listed.file, detail)
        return
    for name in absent:
        detail = f"{short(name)} is not the name of an image with a mask; remove it from the list"
        yield Defect(DefectKind.ABSENT, listed.file, detail)


def _without_images_of(lines: Iterable[str], defects: tuple[Defect, ...]) -> tuple[Defect, ...]:
    """The defects without those of images in a list of unlabelled images."""
    lone = {defect.file.stem for defect in defects if defect.kind is DefectKind.MISSING_MASK}
    meant = {resolve_name(line, lone) for line in lines}
    return tuple(
        defect for defect in defects if defect.kind is not DefectKind.MISSING_MASK or defect.file.stem not in meant
    )


def _with_named_mask(record: Record, listed: ImageSet, root: Path, lost: list[Defect]) -> Record:
    """The record with the mask that its list names, if it does; a mask that does not exist is added to `lost`."""
    name = listed.masks.get(record.id)
    if name is None:
        return record
    mask = listed_file(name, file=listed.file, root=root)
    named, own = PurePosixPath(name.replace("\\", "/")), record.mask
    # As for images, the name suffices, but not one in a folder that the mask of this name is not in.
    if mask is None and not (own and named.name == own.name and named.parent.name in ("", *own.parts)):
        lost.append(no_such_file(listed.file, name))
    return replace(record, mask=mask or record.mask)


def no_such_file(file: Path, name: str) -> Defect:
    """The defect of a list that names a file which does not exist in the dataset."""
    detail = f"names {short(name)}, and no path inside the dataset leads to it; correct the list or add the file"
    return Defect(DefectKind.ABSENT, file, detail)


def list_places(folder: Path) -> list[Path]:
    """The folders in which lists are looked for."""
    inner = child_folder(folder, LIST_FOLDERS)
    return [folder, inner] if inner else [folder]


def listed_pairs(root: Path, places: Sequence[Path], splits: SplitNames) -> dict[str, MatchedFiles]:
    """The pairs that the lists of a dataset name, whatever the folders and names of the files are.

    Empty if there is no list of train whose lines name an image and a mask that exist. A line of which only one exists
    is a defect; so is an image that is listed twice.
    """
    found: dict[str, Path] = {}

    def id_of(name: str) -> str | None:
        if name not in found:
            paths = (listed_file(name, file=place / "list", root=root) for place in places)
            if path := next(filter(None, paths), None):
                found[name] = found[path.as_posix()] = path
        return found[name].as_posix() if name in found else None

    lists, flaws, unknown, unread = read_lists(places, splits, id_of)
    train = lists.get("train", ImageSet(root))
    if unknown or not any(name in found and id_of(mask) for name, mask in train.masks.items()):
        return {}
    listed_images = [found[name] for listed in lists.values() for name in listed.names if name in found]
    folder = Path(os.path.commonpath([path.parent for path in listed_images]))
    pairs: dict[str, MatchedFiles] = {}
    for split, (file, names, masks) in lists.items():
        if split == UNLABELLED_SPLIT and names and not masks:
            pairs[split] = MatchedFiles((), notes=(f"the test split ({file}) has no masks and was left out",))
            continue
        records: list[Record] = []
        defects = [*flaws] if not pairs else []
        for name in names:
            if name not in found or (name in masks and not id_of(masks[name])):
                defects.append(no_such_file(file, masks[name] if name in found else name))
            elif name not in masks:
                detail = f"names no mask for {short(name)}, as its other lines do; add it"
                defects.append(Defect(DefectKind.MISSING_MASK, file, detail))
            else:
                records.append(Record(key_of(found[name], folder), found[name], found[masks[name]]))
        notes = (f"{file.name} names the mask of each image", *unread)
        pairs[split] = MatchedFiles(tuple(records), tuple(defects), notes)
    places_of_images = {image.parent for image in listed_images}
    left_out = set(list_images(folder)).difference(listed_images) if folder != root else set()
    if count := sum(path.parent in places_of_images for path in left_out):
        note = f"{count} images in {folder} are in none of the lists and were left out"
        pairs["train"] = replace(pairs["train"], notes=(*pairs["train"].notes, note))
    return pairs


def _by_name(records: Iterable[Record]) -> dict[str, str | None]:
    """Ids by the names that a list may use for an image (id or file name); None if several images have the name."""
    ids: dict[str, str | None] = {}
    for record in records:
        for name in {PurePosixPath(record.id).name, record.image.stem}:
            ids[name] = None if name in ids else record.id
    return {**ids, **{record.id: record.id for record in records}}
