"""Images and masks in two folders side by side, the splits above or below them."""

from pathlib import Path

from pyramidseg.data.image_files import list_images
from pyramidseg.data.readers.listing import USUAL_FOLDERS, Listing, SplitFolders
from pyramidseg.data.readers.pairing import child_folder, pair_folders
from pyramidseg.data.records import Record
from pyramidseg.errors import DataError

IMAGE_FOLDERS = ("images", "image", "imgs", "img")
MASK_FOLDERS = ("masks", "mask", "labels", "label", "annotations", "annotation")


def read_paired(folder: Path, splits: SplitFolders) -> Listing | None:
    """List `{split}/images {split}/masks`, `images/{split} masks/{split}`, or `images masks`.

    A test split without masks is left out, and a note says so.

    Raises:
        DataError: a training or validation split without a folder of masks, or as `pair_folders`.
    """
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    pairs = {split: _images_and_masks(path) for split, path in inside.items() if path}
    if any(pair and pair[1] for pair in pairs.values()):
        return _list("paired folders ({split}/images, {split}/masks)", pairs)
    whole = _images_and_masks(folder)
    if whole is None or whole[1] is None:
        return None
    images, masks = whole[0], whole[1]
    below = {split: child_folder(images, names) for split, names in splits.items()}
    pairs = {split: (path, child_folder(masks, splits[split])) for split, path in below.items() if path}
    if any(pair and pair[1] for pair in pairs.values()):
        return _list("paired folders (images/{split}, masks/{split})", pairs, notes=_strays(images, below))
    if splits != USUAL_FOLDERS:  # folders of these very names were asked for
        return None
    return _list("paired folders (images, masks)", {"train": whole})


def _images_and_masks(folder: Path) -> tuple[Path, Path | None] | None:
    images = child_folder(folder, IMAGE_FOLDERS)
    return (images, child_folder(folder, MASK_FOLDERS)) if images else None


def _list(layout: str, pairs: dict[str, tuple[Path, Path | None] | None], *, notes: tuple[str, ...] = ()) -> Listing:
    splits: dict[str, tuple[Record, ...]] = {}
    for split, pair in pairs.items():
        if pair is None:
            continue
        images, masks = pair
        if masks is not None:
            splits[split], further = pair_folders(images, masks)
            notes += further
        elif split == "test":
            notes += (f"the test split ({images}) has no masks and was left out",)
        else:
            raise DataError(f"{images}: no folder of masks belongs to these images; it is called masks or labels")
    return Listing(layout, splits, notes=tuple(dict.fromkeys(notes)))


def _strays(images: Path, splits: dict[str, Path | None]) -> tuple[str, ...]:
    """A note on images that lie beside the folders of the splits."""
    folders = [path for path in splits.values() if path]
    strays = [file for file in list_images(images) if not any(path in file.parents for path in folders)]
    return (f"{len(strays)} images in {images} belong to no split and were left out",) if strays else ()
