"""The layout of SegNet's CamVid: `train` and `trainannot`, `val` and `valannot`, `test` and `testannot`."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from pyramidseg.base.defects import DefectKind
from pyramidseg.formats.class_lists import find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    SourceLabel,
    SplitNames,
    already_read,
)
from pyramidseg.formats.pairing import MatchedFiles, pair_folders, without_labels
from pyramidseg.formats.paths import child_file, child_folder
from pyramidseg.formats.split_files import CVAT_SUBSET

CAMVID = (
    SourceLabel("sky", 0, (128, 128, 128)),
    SourceLabel("building", 1, (128, 0, 0)),
    SourceLabel("pole", 2, (192, 192, 128)),
    SourceLabel("road", 3, (128, 64, 128)),
    SourceLabel("pavement", 4, (60, 40, 222)),
    SourceLabel("tree", 5, (128, 128, 0)),
    SourceLabel("sign", 6, (192, 128, 128)),
    SourceLabel("fence", 7, (64, 64, 128)),
    SourceLabel("car", 8, (64, 0, 128)),
    SourceLabel("pedestrian", 9, (64, 64, 0)),
    SourceLabel("bicyclist", 10, (0, 128, 192)),
    SourceLabel("void", 11, (0, 0, 0), ignored=True),
)
"""The 11 classes of the SegNet split and its void, with SegNet's colours (Badrinarayanan et al., arXiv 1511.00561)."""


def read_segnet(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List `{split} {split}annot`, with the classes of `label_colors.txt` where it lies there (CVAT's CamVid export).

    A test split without masks is left out, and a note says so; so are images without a mask where a list of the split
    (`default.txt`) shows that CVAT exported it.
    """
    if splits == SPLIT_NAMES and child_folder(folder, [f"{CVAT_SUBSET}annot"]):
        splits = {**splits, "train": (*splits["train"], CVAT_SUBSET)}
    images = {split: child_folder(folder, names) for split, names in splits.items()}
    masks = {split: child_folder(folder, [f"{name}annot" for name in names]) for split, names in splits.items()}
    if not any(images[split] and masks[split] for split in splits):
        return None
    pairs, left_out = _paired(images, masks)
    exported = {split for split, path in images.items() if path and child_file(folder, f"{path.name.lower()}.txt")}
    pairs = {split: _labelled(found) if split in exported else found for split, found in pairs.items()}
    listed = find_class_list(folder)
    told = (*(note for found in pairs.values() for note in found.notes), *listed.notes)
    return ParsedDataset(
        "SegNet ({split}, {split}annot)",
        {split: found.records for split, found in pairs.items()},
        listed.labels or (() if listed.defects else CAMVID),
        notes=tuple(dict.fromkeys((*left_out, *told))),
        defects=(*(defect for found in pairs.values() for defect in found.defects), *listed.defects),
    )


def _labelled(pairs: MatchedFiles) -> MatchedFiles:
    """Those that CVAT wrote a mask for, which it does where something is labelled."""
    bare = [defect for defect in pairs.defects if defect.kind is DefectKind.MISSING_MASK]
    if not bare or not pairs.records:
        return pairs
    note = f"{len(bare)} images, such as {bare[0].file}, have no mask, as CVAT writes none where nothing is labelled"
    others = tuple(defect for defect in pairs.defects if defect.kind is not DefectKind.MISSING_MASK)
    return replace(pairs, defects=others, notes=(*pairs.notes, f"{note}, and were left out"))


def _paired(
    images: Mapping[str, Path | None], masks: Mapping[str, Path | None]
) -> tuple[dict[str, MatchedFiles], tuple[str, ...]]:
    pairs: dict[str, MatchedFiles] = {}
    left_out: tuple[str, ...] = ()
    for split, image_folder in images.items():
        mask_folder = masks[split]
        if image_folder and mask_folder:
            pairs[split] = without_labels(split, pair_folders(image_folder, mask_folder), image_folder)
        elif image_folder and split == "test":
            left_out = (f"the test split ({image_folder}) has no masks and was left out",)
        elif image_folder or mask_folder:
            have, lack = (image_folder, "annot") if image_folder else (mask_folder, " without annot")
            assert have is not None
            detail = f"its partner is missing, the folder of the same name{lack} at the end"
            pairs[split] = MatchedFiles.of_none(have, detail)
    return pairs, left_out


FORMAT = DatasetFormat(
    "segnet",
    "{split} and {split}annot",
    detect=read_segnet,
    read=already_read,
)
