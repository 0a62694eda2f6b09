"""Roboflow's export of semantic masks: in each split `name.jpg`, `name_mask.png` and `_classes.csv`."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.formats import paired
from pyramidseg.formats.class_lists import ClassList, find_class_list
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, PartialMatch, SplitNames
from pyramidseg.formats.paired import PairedFiles
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.images.image_files import pack_images

CLASSES = "_classes.csv"


@dataclass(frozen=True)
class RoboflowFiles:
    """The pairs, and the folders with images by split."""

    pairs: PairedFiles
    folders: Mapping[str, Path]


def detect(root: Path, splits: SplitNames) -> RoboflowFiles | None:
    """Find `{split}/name.jpg {split}/name_mask.png` with class lists; also one folder of these without splits.

    Raises:
        PartialMatch: there are class lists and no masks, as in Roboflow's exports for classification.
    """
    inside = {split: child_folder(root, names) for split, names in splits.items()}
    if splits == SPLIT_NAMES and child_file(root, CLASSES):
        inside = {"train": root}
    listed = [path for path in inside.values() if path and child_file(path, CLASSES) and pack_images(path)]
    if not listed:
        return None
    folders = {split: path for split, path in inside.items() if path and pack_images(path)}
    pairs = paired.detect(root, splits)
    if pairs is None:
        raise PartialMatch(f"{listed[0]} has {CLASSES} but no name_mask.png: export it as Semantic Segmentation Masks")
    return RoboflowFiles(pairs, folders)


def read(found: RoboflowFiles, config: LabelConfig) -> ParsedDataset:
    """List the pairs, with the classes of the first list that can be read.

    A split whose list is missing or differs is read by the first list; that is a defect.
    """
    parsed = paired.read(found.pairs, config)
    folders = [folder for split, folder in found.folders.items() if split in parsed.splits]
    lists = {folder: find_class_list(folder) for folder in folders if child_file(folder, CLASSES)}
    first = next((folder for folder, classes in lists.items() if classes.labels), next(iter(lists)))
    flaws = (defect for folder in folders for defect in _class_list_defects(folder, first, lists))
    return replace(
        parsed,
        layout="Roboflow semantic masks (name.jpg, name_mask.png, _classes.csv)",
        labels=lists[first].labels,
        defects=tuple(dict.fromkeys((*parsed.defects, *flaws))),
    )


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
    settings=paired.FORMAT.settings,
    covers=("paired",),
)
