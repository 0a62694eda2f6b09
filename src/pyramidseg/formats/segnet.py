"""The layout of SegNet's CamVid: `train` and `trainannot`, `val` and `valannot`, `test` and `testannot`."""

from dataclasses import replace
from pathlib import Path

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import DefectKind
from pyramidseg.formats import paired
from pyramidseg.formats.dataset_format import SPLIT_NAMES, UNLABELLED_SPLIT, ParsedDataset, SplitNames, color_labels
from pyramidseg.formats.paired import FolderPair, PairedFiles
from pyramidseg.formats.pairing import MatchedFiles
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.formats.split_files import CVAT_SUBSET

_TABLE = """
    sky #808080; building #800000; pole #c0c080; road #804080; pavement #3c28de; tree #808000; sign #c08080;
    fence #404080; car #400080; pedestrian #404000; bicyclist #0080c0; void #000000
"""

CAMVID = color_labels(_TABLE, ignored=("void",))
"""The 11 classes of the SegNet split and its void, with SegNet's colours (Badrinarayanan et al., arXiv 1511.00561)."""


def detect(root: Path, splits: SplitNames) -> PairedFiles | None:
    """Find `{split}` and `{split}annot`."""
    if splits == SPLIT_NAMES and child_folder(root, [f"{CVAT_SUBSET}annot"]):
        splits = {**splits, "train": (*splits["train"], CVAT_SUBSET)}
    folders: dict[str, FolderPair] = {}
    lone: dict[str, MatchedFiles] = {}
    for split, names in splits.items():
        images, masks = child_folder(root, names), child_folder(root, [f"{name}annot" for name in names])
        if images and (masks or split == UNLABELLED_SPLIT):
            folders[split] = images, masks
        elif images:
            lone[split] = MatchedFiles.of_none(images, f"the folder of its masks is missing: {images.name}annot")
        elif masks:
            name = masks.name.removesuffix("annot")
            lone[split] = MatchedFiles.of_none(masks, f"the folder of its images is missing: {name}")
    if not any(masks for _, masks in folders.values()):
        return None
    return PairedFiles(root, "SegNet ({split}, {split}annot)", folders, lone, labels=CAMVID)


def read(found: PairedFiles, config: LabelConfig) -> ParsedDataset:
    """Pair the files, with the classes of `label_colors.txt` if it is there (CVAT's CamVid export).

    Images without a mask are left out, with a note, if a list of the split (`default.txt`) shows that CVAT exported it.
    """
    parsed = paired.read(found, config)
    for split, (images, _) in found.folders.items():
        if not (parsed.splits.get(split) and child_file(found.root, f"{images.name.lower()}.txt")):
            continue
        missing = [it for it in parsed.defects if it.kind is DefectKind.MISSING_MASK and images in it.file.parents]
        if missing:
            what = f"{len(missing)} images, such as {missing[0].file}, have no mask"
            note = f"{what}, as CVAT writes none without labels, and were left out"
            others = tuple(defect for defect in parsed.defects if defect not in missing)
            parsed = replace(parsed, defects=others, notes=(*parsed.notes, note))
    return parsed


FORMAT = replace(paired.FORMAT, name="segnet", layout="{split} and {split}annot", detect=detect, read=read)
