"""Images and mask files: in two folders, or next to each other in one; with splits above or below, or without.

data/train/images, data/train/masks        data/images/train, data/masks/train        data/images, data/masks
data/train, data/train_masks               data/train with a.jpg and a_mask.png       data with a.jpg and a_mask.png
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from pyramidseg.base.config import ANY_NAME, CLASS, STEM, LabelConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.formats.class_lists import with_class_list, with_default_labels
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, SourceLabel, SplitNames
from pyramidseg.formats.label_studio.label_studio_brushes import refuse_brush_files
from pyramidseg.formats.pairing import MatchedFiles, pair_folders, pair_mixed_folder, without_labels
from pyramidseg.formats.paths import child_folder, content, holds_images, holds_masks, subfolders
from pyramidseg.formats.separate_masks import read_named
from pyramidseg.formats.split_files import divided_by_lists, list_places, listed_pairs
from pyramidseg.formats.yaml_proposal import AmbiguousFoldersError, AmbiguousReadingError
from pyramidseg.images.image_files import list_images

PADDLE = "jpegimages"
"""PaddleX has the images there, and the masks in Annotations."""

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "frames", "photos", "pictures", "rgb", PADDLE)
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "segmentations", "seg"),
    *("gt", "groundtruth", "ground_truth", "manual", "manual1", "manual2", "1st_manual", "2nd_manual"),
)
SEPARATORS = ("_", "-", "")

NAME_SPLITS = "add it, or name the splits that have masks in a YAML file (train: train)"

FolderPair = tuple[Path, Path | None]
"""The folders of images and of masks, which may be the same; None if the masks have none."""


@dataclass(frozen=True)
class PairedFiles:
    """The folders, or the files already paired, that `detect` found.

    Attributes:
        folders: folders of images and masks by split, still to be paired.
        matched: files by split that are paired already, or the reason why a split cannot be.
        is_undivided: whether there are no splits, so that lists of names may divide the images.
        labels: the classes unless a class list names others.
    """

    root: Path
    layout: str
    folders: Mapping[str, FolderPair] = field(default_factory=dict)
    matched: Mapping[str, MatchedFiles] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    is_undivided: bool = False
    labels: tuple[SourceLabel, ...] = ()


def detect(root: Path, splits: SplitNames) -> PairedFiles | None:
    """The first of `LAYOUTS` that the folder has."""
    found = next((found for find in LAYOUTS if (found := find(root, splits)) is not None), None)
    for _, masks in found.folders.values() if found else ():
        refuse_brush_files(masks)
    return found


def checked_mask_name(config: LabelConfig, root: Path, *, has_lists: bool) -> str | None:
    """The setting `mask_name`.

    Args:
        has_lists: whether lists name the mask of each image.

    Raises:
        ConfigError: it is set although there are lists, or does not contain the name of the image.
    """
    if config.mask_name is not None and has_lists:
        raise ConfigError(f"{root}: mask_name={config.mask_name}: lists name the masks here; leave it out")
    if config.mask_name in (CLASS, ANY_NAME):
        raise ConfigError(f"{root}: mask_name={config.mask_name}: has to contain {STEM} in this layout")
    return config.mask_name


def read(found: PairedFiles, config: LabelConfig) -> ParsedDataset:
    """Pair the files of each split; a test split without masks is left out, with a note.

    Raises:
        ConfigError: as `checked_mask_name`.
    """
    mask_name = checked_mask_name(config, found.root, has_lists=not found.folders)
    if mask_name and CLASS in mask_name:
        folders = {split: (images, masks) for split, (images, masks) in found.folders.items() if masks is not None}
        return read_named(found.layout, folders, mask_name)
    matched = dict(found.matched)
    for split, (images, masks) in found.folders.items():
        if masks is None:
            detail = f"there is no folder masks or labels for these images; {NAME_SPLITS}"
            pairs = MatchedFiles.of_none(images, detail)
        else:
            pairs = pair_folders(images, masks, mask_name)
        matched[split] = without_labels(split, pairs, images)
    parsed = paired_dataset(found.layout, matched, notes=found.notes)
    if found.is_undivided:
        parsed = divided_by_lists(parsed, found.root)
    return with_default_labels(with_class_list(parsed, found.root), found.labels)


def paired_dataset(layout: str, pairs: Mapping[str, MatchedFiles], *, notes: Iterable[str] = ()) -> ParsedDataset:
    """The pairs of each split as a dataset of image files, with notes on the whole before those of the splits."""
    all_notes = (*notes, *(note for some in pairs.values() for note in some.notes))
    return ParsedDataset(
        layout,
        {split: some.records for split, some in pairs.items()},
        notes=tuple(dict.fromkeys(all_notes)),
        defects=tuple(defect for some in pairs.values() for defect in some.defects),
    )


def _listed_pairs(root: Path, splits: SplitNames) -> PairedFiles | None:
    """Lists such as `train.txt` that name the image and the mask in each line, wherever both are."""
    matched = listed_pairs(root, list_places(root), splits) if splits == SPLIT_NAMES else {}
    return PairedFiles(root, "lists of images and masks", matched=matched) if matched else None


def _splits_above(root: Path, splits: SplitNames) -> PairedFiles | None:
    """`{split}/images`, `{split}/masks`."""
    folders: dict[str, FolderPair] = {}
    several: list[AmbiguousFoldersError] = []
    for split, folder in _split_folders(root, splits).items():
        try:
            if pair := _images_and_masks(folder):
                folders[split] = pair
        except AmbiguousFoldersError as error:
            several.append(error)
    if several:
        clear = [(images, masks) for images, masks in folders.values() if masks]
        choices = [choice for error in several for choice in error.choices]
        raise AmbiguousFoldersError(root, several[0].detail, [*choices, *clear])
    return _two_folders(root, "paired folders ({split}/images, {split}/masks)", folders)


def _two_sides(root: Path, splits: SplitNames) -> PairedFiles | None:
    """`images/{split}`, `masks/{split}`; or `images`, `masks`."""
    images, masks = _images_and_masks(root) or (None, None)
    if images is None:
        return None
    below = _split_folders(images, splits) if masks else {}
    folders: dict[str, FolderPair] = {
        split: (folder, masks and child_folder(masks, splits[split])) for split, folder in below.items()
    }
    if found := _two_folders(root, "paired folders (images/{split}, masks/{split})", folders):
        return replace(found, notes=_outside_splits(images, below.values()))
    if splits != SPLIT_NAMES:  # the user named the folders of splits
        return None
    found = _two_folders(root, "paired folders (images, masks)", {"train": (images, masks)})
    return found and replace(found, is_undivided=True)


def _splits_in_names(root: Path, splits: SplitNames) -> PairedFiles | None:
    """`{split}`, `{split}_masks`, and other folders with the split in their name (`train_images`, `val-labels`)."""
    folders: dict[str, FolderPair] = {}
    for split, names in splits.items():
        images = child_folder(root, names) or child_folder(root, _combined(names, IMAGE_FOLDERS))
        if images:
            folders[split] = images, child_folder(root, _combined(names, MASK_FOLDERS))
    return _two_folders(root, "paired folders ({split}, {split}_masks)", folders)


def _mixed_folders(root: Path, splits: SplitNames) -> PairedFiles | None:
    """Masks next to images, in `{split}` or in one folder."""
    folders = _split_folders(root, splits)
    mixed: dict[str, FolderPair] = {split: (folder, folder) for split, folder in folders.items() if _is_mixed(folder)}
    if not mixed:
        is_one = splits == SPLIT_NAMES and _is_mixed(root)
        return PairedFiles(root, "masks next to images", {"train": (root, root)}, is_undivided=True) if is_one else None
    matched: dict[str, MatchedFiles] = {}
    for split, folder in folders.items():
        if split not in mixed and holds_images(folder):
            detail = f"no masks next to these images, although other splits have them; {NAME_SPLITS}"
            matched[split] = without_labels(split, MatchedFiles.of_none(folder, detail), folder)
    return PairedFiles(root, "masks next to images, a folder for each split", mixed, matched)


def _is_mixed(folder: Path) -> bool:
    try:
        return pair_mixed_folder(folder) is not None
    except AmbiguousReadingError:
        return True


LAYOUTS = (_listed_pairs, _splits_above, _two_sides, _splits_in_names, _mixed_folders)


def _two_folders(root: Path, layout: str, folders: Mapping[str, FolderPair]) -> PairedFiles | None:
    """The layout, if a folder of masks contains masks or all are empty; labels as text belong to another format."""
    mask_folders = [masks for _, masks in folders.values() if masks]
    if not mask_folders or (not any(map(holds_masks, mask_folders)) and any(map(content, mask_folders))):
        return None
    return PairedFiles(root, layout, folders)


def _split_folders(root: Path, splits: SplitNames) -> dict[str, Path]:
    folders = {split: child_folder(root, names) for split, names in splits.items()}
    return {split: folder for split, folder in folders.items() if folder is not None}


def _images_and_masks(folder: Path) -> FolderPair | None:
    images = child_folder(folder, IMAGE_FOLDERS)
    if images is None:
        return None
    masks = [path for path in subfolders(folder) if path.name.lower() in MASK_FOLDERS]
    filled = [*filter(holds_images, masks)] or [*filter(holds_masks, masks)]
    if len(filled) > 1:
        detail = f"{' and '.join(path.name for path in filled)} hold images, and one of them has the masks"
        raise AmbiguousFoldersError(folder, detail, [(images, masks) for masks in filled])
    if images.name.lower() == PADDLE and not filled:  # Annotations has the boxes of Pascal VOC
        return None
    return images, filled[0] if filled else child_folder(folder, MASK_FOLDERS)


def _combined(splits: tuple[str, ...], words: tuple[str, ...]) -> list[str]:
    return [f"{split}{separator}{word}" for split in splits for separator in SEPARATORS for word in words]


def _outside_splits(images: Path, folders: Iterable[Path]) -> tuple[str, ...]:
    """A note on images next to the folders of the splits."""
    folders = list(folders)
    outside = [file for file in list_images(images) if not any(folder in file.parents for folder in folders)]
    return (f"{len(outside)} images in {images} belong to no split and were left out",) if outside else ()


FORMAT = DatasetFormat(
    "paired",
    "images and masks in two folders or next to each other, with a folder for each split or without splits",
    detect=detect,
    read=read,
    settings=("mask_name",),
)
