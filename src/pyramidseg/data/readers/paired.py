"""Images and masks as files that lie side by side: in two folders, or in one; the splits above or below them."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pyramidseg.data.image_files import list_images
from pyramidseg.data.readers.class_lists import find_class_list
from pyramidseg.data.readers.folders import child_folder, content, holds_images
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing, NearMiss, SplitFolders
from pyramidseg.data.readers.pairing import Pairs, pair_folders, without_labels
from pyramidseg.data.readers.side_by_side import pair_one_folder
from pyramidseg.data.readers.split_lists import divided_by_lists
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img", "frames", "photos", "pictures", "rgb")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "segmentations", "seg"),
    *("gt", "groundtruth", "ground_truth"),
)
SEPARATORS = ("_", "-", "")

ONLY_SOME = "add it, or name the splits that have masks in a YAML file (train: train)"

ImagesAndMasks = tuple[Path, Path | None]


def read_paired(folder: Path, splits: SplitFolders) -> Listing | None:
    """List the first that is there of `LAYOUTS`. A test split without masks is left out, and a note says so."""
    for find in LAYOUTS:
        listing = find(folder, splits)
        if listing is not None:
            listed = find_class_list(folder)
            return replace(
                listing,
                labels=listed.labels,
                notes=(*listing.notes, *listed.notes),
                defects=(*listing.defects, *listed.defects),
            )
    return None


def _splits_above(folder: Path, splits: SplitFolders) -> Listing | None:
    """`{split}/images`, `{split}/masks`."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    pairs: dict[str, ImagesAndMasks] = {}
    unclear: dict[str, Pairs] = {}
    for split, path in inside.items():
        try:
            if path and (pair := _images_and_masks(path)):
                pairs[split] = pair
        except DataError as error:  # two folders that could be one side
            assert path is not None
            unclear[split] = Pairs.of_error(path, error)
    return _list("paired folders ({split}/images, {split}/masks)", pairs, unclear)


def _splits_below(folder: Path, splits: SplitFolders) -> Listing | None:
    """`images/{split}`, `masks/{split}`."""
    whole = _images_and_masks(folder)
    if whole is None or whole[1] is None:
        return None
    images, masks = whole[0], whole[1]
    below = {split: child_folder(images, names) for split, names in splits.items()}
    pairs = {split: (path, child_folder(masks, splits[split])) for split, path in below.items() if path}
    listing = _list("paired folders (images/{split}, masks/{split})", pairs)
    return listing and replace(listing, notes=(*listing.notes, *_strays(images, below)))


def _no_splits(folder: Path, splits: SplitFolders) -> Listing | None:
    """`images`, `masks`."""
    whole = _images_and_masks(folder)
    if whole is None or splits != USUAL_FOLDERS:  # folders of these very names were asked for
        return None
    listing = _list("paired folders (images, masks)", {"train": whole})
    return listing and divided_by_lists(listing, folder)


def _splits_in_names(folder: Path, splits: SplitFolders) -> Listing | None:
    """`{split}`, `{split}_masks`, and what else has the split in its name, such as `train_images` or `val-labels`."""
    pairs: dict[str, ImagesAndMasks] = {}
    for split, names in splits.items():
        images = child_folder(folder, names) or child_folder(folder, _joined(names, IMAGE_FOLDERS))
        if images:
            pairs[split] = images, child_folder(folder, _joined(names, MASK_FOLDERS))
    return _list("paired folders ({split}, {split}_masks)", pairs)


def _one_folder_a_split(folder: Path, splits: SplitFolders) -> Listing | None:
    """`{split}`, each with masks beside its images."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    pairs: dict[str, Pairs] = {}
    unclear: list[NearMiss] = []
    for split, path in inside.items():
        if path is None:
            continue
        try:
            found = pair_one_folder(path)
        except NearMiss as miss:
            unclear.append(miss)
            found = Pairs.of_error(path, miss)
        if found is not None:
            pairs[split] = found
    if all(not some.records for some in pairs.values()) and unclear:
        raise unclear[0]
    if not pairs:
        return None
    for split, path in inside.items():
        if path and split not in pairs and holds_images(path):
            detail = f"no masks beside these images, though other splits have them; {ONLY_SOME}"
            note = f"the test split ({path}) has no masks and was left out"
            pairs[split] = Pairs((), notes=(note,)) if split == "test" else Pairs.of_none(path, detail)
    return _joined_listing("masks beside images, a folder for each split", pairs)


def _one_folder(folder: Path, splits: SplitFolders) -> Listing | None:
    """Masks beside images, in one folder."""
    if splits != USUAL_FOLDERS:
        return None
    found = pair_one_folder(folder)
    return divided_by_lists(_joined_listing("masks beside images", {"train": found}), folder) if found else None


LAYOUTS: tuple[Callable[[Path, SplitFolders], Listing | None], ...] = (
    _splits_above,
    _splits_below,
    _no_splits,
    _splits_in_names,
    _one_folder_a_split,
    _one_folder,
)


def _images_and_masks(folder: Path) -> ImagesAndMasks | None:
    images = child_folder(folder, IMAGE_FOLDERS)
    return (images, child_folder(folder, MASK_FOLDERS)) if images else None


def _joined(splits: tuple[str, ...], words: tuple[str, ...]) -> list[str]:
    return [f"{split}{separator}{word}" for split in splits for separator in SEPARATORS for word in words]


def _list(
    layout: str, pairs: dict[str, ImagesAndMasks], unclear: Mapping[str, Pairs] = MappingProxyType({})
) -> Listing | None:
    """The listing of folders of images and masks, if any of the latter holds masks.

    Args:
        unclear: splits of which the folders cannot be told.
    """
    folders = [masks for _, masks in pairs.values() if masks]
    if not folders or not (any(map(holds_images, folders)) or not any(map(content, folders))):
        return None  # labels as text are another format's
    found: dict[str, Pairs] = {**unclear}
    left_out: tuple[str, ...] = ()
    for split, (images, masks) in pairs.items():
        if masks is not None:
            found[split] = without_labels(split, pair_folders(images, masks), images)
        elif split == "test":
            left_out = (f"the test split ({images}) has no masks and was left out",)
        else:
            detail = f"no folder of masks belongs to these images, called masks or labels; {ONLY_SOME}"
            found[split] = Pairs.of_none(images, detail)
    listing = _joined_listing(layout, found)
    return replace(listing, notes=(*left_out, *listing.notes))


def _joined_listing(layout: str, pairs: dict[str, Pairs]) -> Listing:
    records: dict[str, tuple[Record, ...]] = {split: found.records for split, found in pairs.items()}
    notes = dict.fromkeys(note for found in pairs.values() for note in found.notes)
    defects = tuple(defect for found in pairs.values() for defect in found.defects)
    return Listing(layout, records, notes=tuple(notes), defects=defects)


def _strays(images: Path, splits: dict[str, Path | None]) -> tuple[str, ...]:
    """A note on images that lie beside the folders of the splits."""
    folders = [path for path in splits.values() if path]
    strays = [file for file in list_images(images) if not any(path in file.parents for path in folders)]
    return (f"{len(strays)} images in {images} belong to no split and were left out",) if strays else ()
