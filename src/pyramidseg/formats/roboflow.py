"""Roboflow's export of semantic masks: in each split `name.jpg`, `name_mask.png` and `_classes.csv`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.data.records import Record
from pyramidseg.formats.class_lists import ClassList, find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    UNLABELLED_SPLIT,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SplitNames,
)
from pyramidseg.formats.mixed_folder import pair_mixed_folder
from pyramidseg.formats.pairing import MatchedFiles
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.images.image_files import list_images

CLASSES, MASK = "_classes.csv", "_mask"


@dataclass(frozen=True)
class RoboflowFolders:
    """Folders with images by split, the pairs in them (None without a mask), and those that have a class list."""

    folders: Mapping[str, Path]
    pairs: Mapping[str, MatchedFiles | None]
    listed: tuple[Path, ...]


def detect(root: Path, splits: SplitNames) -> RoboflowFolders | None:
    """Find `{split}/name.jpg {split}/name_mask.png` with class lists; also one folder of these without splits.

    Raises:
        PartialMatch: there are class lists and no masks, as in Roboflow's exports for classification.
    """
    inside = {split: child_folder(root, names) for split, names in splits.items()}
    if splits == SPLIT_NAMES and child_file(root, CLASSES):
        inside = {"train": root}
    folders = {split: path for split, path in inside.items() if path and list_images(path)}
    listed = tuple(path for path in folders.values() if child_file(path, CLASSES))
    if not listed:
        return None
    pairs = {split: pair_mixed_folder(path) for split, path in folders.items()}
    if not any(pairs.values()):
        raise PartialMatch(f"{listed[0]} has {CLASSES} but no name_mask.png: export it as Semantic Segmentation Masks")
    return RoboflowFolders(folders, pairs, listed)


def read(found: RoboflowFolders) -> ParsedDataset:
    """List the pairs, with the classes of the first list that can be read.

    A split whose list is missing or differs is read by the first list; that is a defect.
    """
    lists = {path: find_class_list(path) for path in found.listed}
    first = next((path for path, classes in lists.items() if classes.labels), found.listed[0])
    records: dict[str, tuple[Record, ...]] = {}
    defects: list[Defect] = []
    notes: list[str] = []
    for split, path in found.folders.items():
        pairs = found.pairs[split]
        if pairs is None and split == UNLABELLED_SPLIT:
            notes.append(f"the test split ({path}) has no masks and was left out")
            continue
        pairs = pairs or MatchedFiles.of_none(path, f"no *{MASK}.png next to these images; export them again")
        records[split] = pairs.records
        defects += [*pairs.defects, *_class_list_defects(path, first, lists)]
    layout = "Roboflow semantic masks (name.jpg, name_mask.png, _classes.csv)"
    return ParsedDataset(layout, records, lists[first].labels, notes=tuple(notes), defects=tuple(defects))


def _class_list_defects(folder: Path, first: Path, lists: Mapping[Path, ClassList]) -> Iterator[Defect]:
    """Defects of the class list of a split, whose masks are read by the list in another folder."""
    file = folder / CLASSES
    if folder not in lists:
        step = f"copy {first / CLASSES}" if lists[first].labels else "export it again"
        detail = f"does not exist, so the classes of the mask values are unknown; {step}"
        yield Defect(DefectKind.ABSENT, file, detail)
    elif lists[folder].defects:
        yield from lists[folder].defects
    elif lists[folder].labels != lists[first].labels:
        detail = f"differs from {first / CLASSES}, so that a value would have two meanings; make them equal"
        yield Defect(DefectKind.UNCLEAR_CLASSES, file, detail)


FORMAT = DatasetFormat(
    "roboflow",
    "{split} with name.jpg, name_mask.png and _classes.csv",
    detect=detect,
    read=read,
    covers=("paired",),
)
