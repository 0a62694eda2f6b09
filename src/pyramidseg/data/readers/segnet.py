"""The layout of SegNet's CamVid: `train` and `trainannot`, `val` and `valannot`, `test` and `testannot`."""

from pathlib import Path

from pyramidseg.data.readers.listing import Listing, SourceLabel, SplitFolders
from pyramidseg.data.readers.pairing import child_folder, pair_folders
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

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


def read_segnet(folder: Path, splits: SplitFolders) -> Listing | None:
    """List `{split} {split}annot`, with the CamVid classes for those who name none.

    A test split without masks is left out, and a note says so.

    Raises:
        DataError: a training or validation split without masks, or as `pair_folders`.
    """
    images = {split: child_folder(folder, names) for split, names in splits.items()}
    masks = {split: child_folder(folder, [f"{name}annot" for name in names]) for split, names in splits.items()}
    if not any(images[split] and masks[split] for split in splits):
        return None
    found: dict[str, tuple[Record, ...]] = {}
    notes: tuple[str, ...] = ()
    for split in splits:
        image_folder, mask_folder = images[split], masks[split]
        if image_folder and mask_folder:
            found[split], further = pair_folders(image_folder, mask_folder)
            notes += further
        elif image_folder and split == "test":
            notes += (f"the test split ({image_folder}) has no masks and was left out",)
        elif image_folder or mask_folder:
            have, lack = (image_folder, "annot") if image_folder else (mask_folder, " without annot")
            raise DataError(f"{have}: its partner is missing, the folder of the same name{lack} at the end")
    return Listing("SegNet ({split}, {split}annot)", found, CAMVID, notes=tuple(dict.fromkeys(notes)))
