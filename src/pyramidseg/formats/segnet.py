"""The layout of SegNet's CamVid: `train` and `trainannot`, `val` and `valannot`, `test` and `testannot`."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from pyramidseg.base.defects import DefectKind
from pyramidseg.formats.class_lists import find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    UNLABELLED_SPLIT,
    DatasetFormat,
    ParsedDataset,
    SourceLabel,
    SplitNames,
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


@dataclass(frozen=True)
class SegnetFolders:
    """Folders of images and of masks by split; None for a folder that is missing."""

    root: Path
    images: Mapping[str, Path | None]
    masks: Mapping[str, Path | None]


def detect(root: Path, splits: SplitNames) -> SegnetFolders | None:
    """Find `{split}` and `{split}annot`."""
    if splits == SPLIT_NAMES and child_folder(root, [f"{CVAT_SUBSET}annot"]):
        splits = {**splits, "train": (*splits["train"], CVAT_SUBSET)}
    images = {split: child_folder(root, names) for split, names in splits.items()}
    masks = {split: child_folder(root, [f"{name}annot" for name in names]) for split, names in splits.items()}
    return SegnetFolders(root, images, masks) if any(images[split] and masks[split] for split in splits) else None


def read(found: SegnetFolders) -> ParsedDataset:
    """Pair the files, with the classes of `label_colors.txt` if it is there (CVAT's CamVid export).

    A test split without masks is left out, with a note; so are images without a mask if a list of the split
    (`default.txt`) shows that CVAT exported it.
    """
    matched: dict[str, MatchedFiles] = {}
    notes: list[str] = []
    for split, images in found.images.items():
        masks = found.masks[split]
        if images and masks:
            pairs = without_labels(split, pair_folders(images, masks), images)
            is_exported = child_file(found.root, f"{images.name.lower()}.txt") is not None
            matched[split] = _without_unlabelled(pairs) if is_exported else pairs
        elif images and split == UNLABELLED_SPLIT:
            notes.append(f"the test split ({images}) has no masks and was left out")
        elif images:
            matched[split] = MatchedFiles.of_none(images, f"the folder of its masks is missing: {images.name}annot")
        elif masks:
            name = masks.name[: -len("annot")]
            matched[split] = MatchedFiles.of_none(masks, f"the folder of its images is missing: {name}")
    listed = find_class_list(found.root)
    notes += [*(note for pairs in matched.values() for note in pairs.notes), *listed.notes]
    return ParsedDataset(
        "SegNet ({split}, {split}annot)",
        {split: pairs.records for split, pairs in matched.items()},
        listed.labels or (() if listed.defects else CAMVID),
        notes=tuple(dict.fromkeys(notes)),
        defects=(*(defect for pairs in matched.values() for defect in pairs.defects), *listed.defects),
    )


def _without_unlabelled(pairs: MatchedFiles) -> MatchedFiles:
    """Leave out images without a mask: CVAT writes masks only for images with labels."""
    missing = [defect for defect in pairs.defects if defect.kind is DefectKind.MISSING_MASK]
    if not missing or not pairs.records:
        return pairs
    note = (
        f"{len(missing)} images, such as {missing[0].file}, have no mask, as CVAT writes none without labels, "
        "and were left out"
    )
    others = tuple(defect for defect in pairs.defects if defect.kind is not DefectKind.MISSING_MASK)
    return replace(pairs, defects=others, notes=(*pairs.notes, note))


FORMAT = DatasetFormat("segnet", "{split} and {split}annot", detect=detect, read=read)
