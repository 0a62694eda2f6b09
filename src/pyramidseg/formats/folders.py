"""Images and masks as files that lie side by side: in two folders, or in one; the splits above or below them."""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType

from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Record
from pyramidseg.formats.class_lists import find_class_list
from pyramidseg.formats.dataset_format import (
    SPLIT_NAMES,
    DatasetFormat,
    ParsedDataset,
    PartialMatch,
    SplitNames,
    already_read,
)
from pyramidseg.formats.pairing import (
    IMAGE_SUFFIXES,
    MASK_SUFFIXES,
    MatchedFiles,
    Side,
    key_of,
    pair,
    pair_by_suffix,
    pair_folders,
    without_labels,
)
from pyramidseg.formats.paths import child_folder, content, holds_images
from pyramidseg.formats.split_files import divided_by_lists
from pyramidseg.images.image_files import list_images

# Masks beside their images in one folder: told apart by a suffix, or by the extension.

LOSSY = (".jpg", ".jpeg")
"""Extensions, in lower case, that images have and exact masks cannot."""


def pair_one_folder(folder: Path) -> MatchedFiles | None:
    """Pair the images in and below a folder with the masks beside them, if that is what they are.

    Raises:
        PartialMatch: files go in pairs, and which of two is the mask cannot be told.
    """
    files = list_images(folder)
    return _by_suffix(folder, files) or _by_extension(folder, files)


def _by_suffix(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a_mask.png`: most files that end in the suffix have an image."""
    fitting: dict[str, tuple[Side, Side]] = {}
    for suffix in MASK_SUFFIXES:
        marked = {file for file in files if file.stem.lower().endswith(suffix.lower())}
        if not marked:
            continue
        images = Side.of(folder, (file for file in files if file not in marked))
        masks = Side.of(folder, (file for file in files if file in marked))
        met = _plain(images.keys) & set(masks.without(suffix).keys)
        if 2 * len(met) >= len(marked):
            fitting[suffix] = images, masks
    if len(fitting) > 1:
        raise PartialMatch(f"{folder}: masks could be the files ending in {' or '.join(fitting)}; take the others out")
    return next((pair_by_suffix(images, masks) for images, masks in fitting.values()), None)


def _plain(keys: tuple[str, ...]) -> set[str]:
    """Keys of images as they are and without the suffixes that images may have."""
    return {*keys, *(key.removesuffix(suffix) for key in keys for suffix in IMAGE_SUFFIXES)}


def _by_extension(folder: Path, files: list[Path]) -> MatchedFiles | None:
    """`a.jpg` and `a.png`: the JPEG is the image, as it cannot be an exact mask."""
    counts = Counter(key_of(file, folder) for file in files)
    doubled = [file for file in files if counts[key_of(file, folder)] == 2]
    if not files or 2 * len(doubled) < len(files):
        return None
    images = Side.of(folder, (file for file in files if file.suffix.lower() in LOSSY))
    masks = Side.of(folder, (file for file in files if file.suffix.lower() not in LOSSY))
    if len(set(images.keys) & set(masks.keys)) < len(doubled) // 2:
        kinds = " and ".join(sorted({file.suffix.lower() for file in doubled}))
        raise PartialMatch(
            f"{folder}: files go in pairs of {kinds}, and which of two is the mask cannot be told; put the masks into "
            "a folder masks beside a folder images"
        )
    return pair(images, masks)


IMAGE_FOLDERS = ("images", "image", "imgs", "img", "frames", "photos", "pictures", "rgb")
MASK_FOLDERS = (
    *("masks", "mask", "labels", "label", "annotations", "annotation", "segmentation", "segmentations", "seg"),
    *("gt", "groundtruth", "ground_truth"),
)
SEPARATORS = ("_", "-", "")

ONLY_SOME = "add it, or name the splits that have masks in a YAML file (train: train)"

ImagesAndMasks = tuple[Path, Path | None]


def read_paired(folder: Path, splits: SplitNames) -> ParsedDataset | None:
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


def _splits_above(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """`{split}/images`, `{split}/masks`."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    pairs: dict[str, ImagesAndMasks] = {}
    unclear: dict[str, MatchedFiles] = {}
    for split, path in inside.items():
        try:
            if path and (pair := _images_and_masks(path)):
                pairs[split] = pair
        except DataError as error:  # two folders that could be one side
            assert path is not None
            unclear[split] = MatchedFiles.of_error(path, error)
    return _list("paired folders ({split}/images, {split}/masks)", pairs, unclear)


def _splits_below(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """`images/{split}`, `masks/{split}`."""
    whole = _images_and_masks(folder)
    if whole is None or whole[1] is None:
        return None
    images, masks = whole[0], whole[1]
    below = {split: child_folder(images, names) for split, names in splits.items()}
    pairs = {split: (path, child_folder(masks, splits[split])) for split, path in below.items() if path}
    listing = _list("paired folders (images/{split}, masks/{split})", pairs)
    return listing and replace(listing, notes=(*listing.notes, *_strays(images, below)))


def _no_splits(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """`images`, `masks`."""
    whole = _images_and_masks(folder)
    if whole is None or splits != SPLIT_NAMES:  # folders of these very names were asked for
        return None
    listing = _list("paired folders (images, masks)", {"train": whole})
    return listing and divided_by_lists(listing, folder)


def _splits_in_names(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """`{split}`, `{split}_masks`, and what else has the split in its name, such as `train_images` or `val-labels`."""
    pairs: dict[str, ImagesAndMasks] = {}
    for split, names in splits.items():
        images = child_folder(folder, names) or child_folder(folder, _joined(names, IMAGE_FOLDERS))
        if images:
            pairs[split] = images, child_folder(folder, _joined(names, MASK_FOLDERS))
    return _list("paired folders ({split}, {split}_masks)", pairs)


def _one_folder_a_split(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """`{split}`, each with masks beside its images."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    pairs: dict[str, MatchedFiles] = {}
    unclear: list[PartialMatch] = []
    for split, path in inside.items():
        if path is None:
            continue
        try:
            found = pair_one_folder(path)
        except PartialMatch as miss:
            unclear.append(miss)
            found = MatchedFiles.of_error(path, miss)
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
            pairs[split] = MatchedFiles((), notes=(note,)) if split == "test" else MatchedFiles.of_none(path, detail)
    return _joined_listing("masks beside images, a folder for each split", pairs)


def _one_folder(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """Masks beside images, in one folder."""
    if splits != SPLIT_NAMES:
        return None
    found = pair_one_folder(folder)
    return divided_by_lists(_joined_listing("masks beside images", {"train": found}), folder) if found else None


LAYOUTS: tuple[Callable[[Path, SplitNames], ParsedDataset | None], ...] = (
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
    layout: str, pairs: dict[str, ImagesAndMasks], unclear: Mapping[str, MatchedFiles] = MappingProxyType({})
) -> ParsedDataset | None:
    """The listing of folders of images and masks, if any of the latter holds masks.

    Args:
        unclear: splits of which the folders cannot be told.
    """
    folders = [masks for _, masks in pairs.values() if masks]
    if not folders or not (any(map(holds_images, folders)) or not any(map(content, folders))):
        return None  # labels as text are another format's
    found: dict[str, MatchedFiles] = {**unclear}
    left_out: tuple[str, ...] = ()
    for split, (images, masks) in pairs.items():
        if masks is not None:
            found[split] = without_labels(split, pair_folders(images, masks), images)
        elif split == "test":
            left_out = (f"the test split ({images}) has no masks and was left out",)
        else:
            detail = f"no folder of masks belongs to these images, called masks or labels; {ONLY_SOME}"
            found[split] = MatchedFiles.of_none(images, detail)
    listing = _joined_listing(layout, found)
    return replace(listing, notes=(*left_out, *listing.notes))


def _joined_listing(layout: str, pairs: dict[str, MatchedFiles]) -> ParsedDataset:
    records: dict[str, tuple[Record, ...]] = {split: found.records for split, found in pairs.items()}
    notes = dict.fromkeys(note for found in pairs.values() for note in found.notes)
    defects = tuple(defect for found in pairs.values() for defect in found.defects)
    return ParsedDataset(layout, records, notes=tuple(notes), defects=defects)


def _strays(images: Path, splits: dict[str, Path | None]) -> tuple[str, ...]:
    """A note on images that lie beside the folders of the splits."""
    folders = [path for path in splits.values() if path]
    strays = [file for file in list_images(images) if not any(path in file.parents for path in folders)]
    return (f"{len(strays)} images in {images} belong to no split and were left out",) if strays else ()


FORMAT = DatasetFormat(
    "paired",
    "images and masks in two folders or next to each other, with a folder for each split or without splits",
    detect=read_paired,
    read=already_read,
)
