"""Roboflow's export of semantic masks: in each split `name.jpg`, `name_mask.png` and `_classes.csv`."""

from collections.abc import Iterator, Mapping
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.records import Record
from pyramidseg.formats.class_lists import ClassList, find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SplitNames,
    already_read,
)
from pyramidseg.formats.folders import pair_one_folder
from pyramidseg.formats.pairing import MatchedFiles, Side, pair
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.images.image_files import list_images

CLASSES, MASK = "_classes.csv", "_mask"


def read_roboflow(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List `{split}/name.jpg {split}/name_mask.png`; also one folder of these without splits.

    Splits that lack a list of classes, or have another one than the first that can be read, are read by that one; that
    is a defect.

    Raises:
        PartialMatch: there are lists of classes and no masks, as in Roboflow's exports for classification.
    """
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    if splits == SPLIT_NAMES and child_file(folder, CLASSES):
        inside = {"train": folder}
    folders = {split: path for split, path in inside.items() if path and list_images(path)}
    listed = [path for path in folders.values() if child_file(path, CLASSES)]
    if not listed:
        return None
    found = {split: pair_one_folder(path) for split, path in folders.items()}
    if not any(found.values()):
        raise PartialMatch(f"{listed[0]} has {CLASSES} but no name_mask.png: export it as Semantic Segmentation Masks")
    lists = {path: find_class_list(path) for path in listed}
    first = next((path for path, classes in lists.items() if classes.labels), listed[0])
    records: dict[str, tuple[Record, ...]] = {}
    defects: list[Defect] = []
    notes: list[str] = []
    for split, path in folders.items():
        pairs = found[split]
        if pairs is None and split == "test":
            notes.append(f"the test split ({path}) has no masks and was left out")
            continue
        if pairs is None:
            pairs = _lone_files(path)
        records[split] = pairs.records
        defects += [*pairs.defects, *_flaws_of_classes(path, first, lists)]
    layout = "Roboflow semantic masks (name.jpg, name_mask.png, _classes.csv)"
    return ParsedDataset(layout, records, lists[first].labels, notes=tuple(notes), defects=tuple(defects))


def _lone_files(folder: Path) -> MatchedFiles:
    """Of a split in which no image meets its mask."""
    files = list_images(folder)
    masks = [file for file in files if file.stem.endswith(MASK)]
    images = Side.of(folder, (file for file in files if file not in masks))
    return pair(images, Side.of(folder, masks).without(MASK))


def _flaws_of_classes(folder: Path, first: Path, lists: Mapping[Path, ClassList]) -> Iterator[Defect]:
    """What is wrong with the list of classes of a split, whose masks are read by the list in another folder."""
    file = folder / CLASSES
    if folder not in lists:
        step = f"copy {first / CLASSES}" if lists[first].labels else "export it anew"
        detail = f"is not there, so what the masks' values mean is not said; {step}"
        yield Defect(DefectKind.ABSENT, file, detail)
    elif lists[folder].defects:
        yield from lists[folder].defects
    elif lists[folder].labels != lists[first].labels:
        detail = f"differs from {first / CLASSES}, so that a value would mean two things; make them equal"
        yield Defect(DefectKind.UNCLEAR_CLASSES, file, detail)


FORMAT = DatasetFormat(
    "roboflow",
    "{split} with name.jpg, name_mask.png and _classes.csv",
    detect=read_roboflow,
    read=already_read,
    covers=("paired",),
)
