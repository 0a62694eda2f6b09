"""CamVid as its authors publish it: masks of 32 colours, without splits.

    701_StillsRaw_full/0001TP_006690.png    LabeledApproved_full/0001TP_006690_L.png    label_colors.txt (optional)

Source: G. J. Brostow, J. Fauqueur, R. Cipolla: Semantic object classes in video, Pattern Recognition Letters 30(2),
2009.
"""

from dataclasses import replace
from pathlib import Path

from pyramidseg.formats import paired
from pyramidseg.formats.dataset_format import SPLIT_NAMES, SplitNames, color_labels
from pyramidseg.formats.paired import PairedFiles
from pyramidseg.formats.paths import child_folder

_TABLE = """
    Animal #408040; Archway #c00080; Bicyclist #0080c0; Bridge #008040; Building #800000; Car #400080;
    CartLuggagePram #4000c0; Child #c08040; Column_Pole #c0c080; Fence #404080; LaneMkgsDriv #8000c0;
    LaneMkgsNonDriv #c00040; Misc_Text #808040; MotorcycleScooter #c000c0; OtherMoving #804040;
    ParkingBlock #40c080; Pedestrian #404000; Road #804080; RoadShoulder #8080c0; Sidewalk #0000c0;
    SignSymbol #c08080; Sky #808080; SUVPickupTruck #4080c0; TrafficCone #000040; TrafficLight #004040;
    Train #c04080; Tree #808000; Truck_Bus #c080c0; Tunnel #400040; VegetationMisc #c0c000; Void #000000;
    Wall #40c000
"""

CAMVID_32 = color_labels(_TABLE, ignored=("Void",))
"""The 31 classes and Void, in the order and the colours of the authors' label_colors.txt."""


def detect(folder: Path, splits: SplitNames) -> PairedFiles | None:
    """Find the authors' two folders, which have no splits."""
    images, masks = child_folder(folder, ["701_stillsraw_full"]), child_folder(folder, ["labeledapproved_full"])
    if images is None or masks is None or splits != SPLIT_NAMES:
        return None
    hint = "frames belong to video sequences: data.group='^[^_]+' keeps each sequence in one split"
    layout = "CamVid (701_StillsRaw_full, LabeledApproved_full)"
    return PairedFiles(folder, layout, {"train": (images, masks)}, notes=(hint,), labels=CAMVID_32)


FORMAT = replace(paired.FORMAT, name="camvid", layout="701_StillsRaw_full and LabeledApproved_full", detect=detect)
