"""Roboflow's export of semantic masks: in each split `name.jpg`, `name_mask.png` and `_classes.csv`."""

from pathlib import Path

from pyramidseg.data.defect_kinds import Defect
from pyramidseg.data.readers.class_lists import find_class_list
from pyramidseg.data.readers.folders import child_file, child_folder
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing, NearMiss, SourceLabel, SplitFolders
from pyramidseg.data.readers.side_by_side import pair_one_folder
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

CLASSES = "_classes.csv"


def read_roboflow(folder: Path, splits: SplitFolders) -> Listing | None:
    """List `{split}/name.jpg {split}/name_mask.png`; also one folder of these without splits.

    Raises:
        NearMiss: there are lists of classes and no masks, as in Roboflow's exports for classification.
        DataError: splits whose lists of classes differ.
    """
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    if splits == USUAL_FOLDERS and child_file(folder, CLASSES):
        inside = {"train": folder}
    exported = {split: path for split, path in inside.items() if path and child_file(path, CLASSES)}
    if not exported:
        return None
    records: dict[str, tuple[Record, ...]] = {}
    defects: tuple[Defect, ...] = ()
    for split, path in exported.items():
        pairs = pair_one_folder(path)
        if pairs is None:
            raise NearMiss(f"{path} has {CLASSES} but no name_mask.png: export it as Semantic Segmentation Masks")
        records[split] = pairs.records
        defects += pairs.defects
    layout = "Roboflow semantic masks (name.jpg, name_mask.png, _classes.csv)"
    return Listing(layout, records, _same_classes(list(exported.values())), defects=defects)


def _same_classes(folders: list[Path]) -> tuple[SourceLabel, ...]:
    labels = find_class_list(folders[0]).labels
    for other in folders[1:]:
        if find_class_list(other).labels != labels:
            raise DataError(
                f"{other / CLASSES}: differs from {folders[0] / CLASSES}, so that a value would mean two things; make "
                "them equal"
            )
    return labels
