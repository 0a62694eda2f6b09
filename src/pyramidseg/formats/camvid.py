"""CamVid as its authors publish it: masks of 32 colours, without splits.

    701_StillsRaw_full/0001TP_006690.png    LabeledApproved_full/0001TP_006690_L.png    label_colors.txt (optional)

Source: G. J. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video, Pattern Recognition Letters 30(2),
2009.
"""

from dataclasses import replace
from pathlib import Path

from pyramidseg.base.classes import Color
from pyramidseg.base.errors import DataError
from pyramidseg.formats.class_lists import PARSERS, find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    SourceLabel,
    SplitNames,
    already_read,
)
from pyramidseg.formats.paired import read_paired
from pyramidseg.formats.pairing import pair_folders
from pyramidseg.formats.paths import child_folder

_COLORS: dict[str, Color] = {
    "Animal": (64, 128, 64),
    "Archway": (192, 0, 128),
    "Bicyclist": (0, 128, 192),
    "Bridge": (0, 128, 64),
    "Building": (128, 0, 0),
    "Car": (64, 0, 128),
    "CartLuggagePram": (64, 0, 192),
    "Child": (192, 128, 64),
    "Column_Pole": (192, 192, 128),
    "Fence": (64, 64, 128),
    "LaneMkgsDriv": (128, 0, 192),
    "LaneMkgsNonDriv": (192, 0, 64),
    "Misc_Text": (128, 128, 64),
    "MotorcycleScooter": (192, 0, 192),
    "OtherMoving": (128, 64, 64),
    "ParkingBlock": (64, 192, 128),
    "Pedestrian": (64, 64, 0),
    "Road": (128, 64, 128),
    "RoadShoulder": (128, 128, 192),
    "Sidewalk": (0, 0, 192),
    "SignSymbol": (192, 128, 128),
    "Sky": (128, 128, 128),
    "SUVPickupTruck": (64, 128, 192),
    "TrafficCone": (0, 0, 64),
    "TrafficLight": (0, 64, 64),
    "Train": (192, 64, 128),
    "Tree": (128, 128, 0),
    "Truck_Bus": (192, 128, 192),
    "Tunnel": (64, 0, 64),
    "VegetationMisc": (192, 192, 0),
    "Void": (0, 0, 0),
    "Wall": (64, 192, 0),
}

CAMVID_32 = tuple(
    SourceLabel(name, position, color, ignored=name == "Void") for position, (name, color) in enumerate(_COLORS.items())
)
"""The 31 classes and Void, in the order and the colours of the authors' label_colors.txt."""

MERGED: dict[str, tuple[str, ...]] = {
    "sky": ("Sky",),
    "building": ("Building", "Archway", "Bridge", "Tunnel", "Wall"),
    "pole": ("Column_Pole", "TrafficCone"),
    "road": ("Road", "LaneMkgsDriv", "LaneMkgsNonDriv"),
    "pavement": ("Sidewalk", "ParkingBlock", "RoadShoulder"),
    "tree": ("Tree", "VegetationMisc"),
    "sign": ("SignSymbol", "Misc_Text", "TrafficLight"),
    "fence": ("Fence",),
    "car": ("Car", "OtherMoving", "SUVPickupTruck", "Train", "Truck_Bus"),
    "pedestrian": ("Pedestrian", "Animal", "CartLuggagePram", "Child"),
    "bicyclist": ("Bicyclist", "MotorcycleScooter"),
    "void": ("Void",),
}
"""The 32 labels of each of the usual 11 classes (since Sturgess et al., BMVC 2009), in SegNet's order."""


def detect(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """Find the authors' two folders and pair them. There are no splits."""
    images, masks = child_folder(folder, ["701_stillsraw_full"]), child_folder(folder, ["labeledapproved_full"])
    if images is None or masks is None or splits != SPLIT_NAMES:
        return None
    pairs = pair_folders(images, masks)
    listed = find_class_list(folder)
    hint = "frames belong to video sequences: data.group='^[^_]+' keeps each sequence in one split"
    return ParsedDataset(
        "CamVid (701_StillsRaw_full, LabeledApproved_full)",
        {"train": pairs.records},
        listed.labels or (() if listed.defects else CAMVID_32),
        notes=(*pairs.notes, *listed.notes, hint),
        defects=(*pairs.defects, *listed.defects),
    )


def detect_11(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """Find CamVid with 32 labels, as the authors or Kaggle publish it, and merge them into the usual 11 classes.

    Raises:
        DataError: the labels are not CamVid's.
    """
    parsed = detect(folder, splits) or read_paired(folder, splits)
    if parsed is None:
        return None
    if any(defect.file.name.lower() in PARSERS for defect in parsed.defects):  # the class list cannot be read
        return parsed
    class_of = {part.lower(): whole for whole, parts in MERGED.items() for part in parts}
    foreign = [label.name for label in parsed.labels if label.name.lower() not in class_of]
    if foreign or not parsed.labels:
        raise DataError(
            f"{folder}: {f'{foreign[0]!r} is not one of' if foreign else 'no class list names'} CamVid's 32 labels; "
            "add label_colors.txt or class_dict.csv with them"
        )
    # In the order of the table: the first value of a class gives its colour.
    ordered = sorted(parsed.labels, key=lambda label: list(class_of).index(label.name.lower()))
    labels = tuple(replace(label, name=class_of[label.name.lower()]) for label in ordered)
    return replace(parsed, layout=f"{parsed.layout}, merged to 11 classes", labels=labels)


FORMAT = DatasetFormat(
    "camvid",
    "701_StillsRaw_full and LabeledApproved_full",
    detect=detect,
    read=already_read,
)


FORMAT11 = DatasetFormat(
    "camvid11",
    "CamVid's 32 labels, merged into 11 classes",
    detect=detect_11,
    read=already_read,
    explicit_only=True,
)
