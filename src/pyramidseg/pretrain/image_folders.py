"""Classification datasets with one folder of images per class: `FOLDER/{split}/{class}/...` or `FOLDER/{class}/...`."""

import hashlib
from collections import Counter
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.config import Config
from pyramidseg.base.defects import Defect, DefectKind, as_defects
from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.data.loading import SampleDataset
from pyramidseg.data.records import Record
from pyramidseg.data.transforms import jitter_color, resize
from pyramidseg.formats.dataset_format import RARE_VAL_NAMES, SPLIT_NAMES
from pyramidseg.formats.paired import IMAGE_FOLDERS, MASK_FOLDERS
from pyramidseg.formats.splitting import draw_key
from pyramidseg.images.decode import check_channels, read_header, read_image
from pyramidseg.images.image_files import list_images
from pyramidseg.images.open_image import contiguous
from pyramidseg.inspection.defect_summary import refuse_files

DEFAULT_VAL_SHARE = 0.1

IMAGE_FOLDER_NAMES = {*IMAGE_FOLDERS, "jpegimages", "leftimg8bit"}
MASK_FOLDER_NAMES = {*MASK_FOLDERS, "segmentationclass", "segmentationobject", "gtfine", "gtcoarse"}
"""Folder names of segmentation datasets, in lower case."""

AREA = (0.25, 1.0)
ASPECT = (3 / 4, 4 / 3)
"""Area (relative to the image) and aspect ratio of the random crop, as in Szegedy et al. 2015, arXiv 1409.4842, section
6, but with a larger smallest area, which suits small datasets."""

MARGIN = 8 / 7
"""Shorter side of the resized image, relative to the crop, in validation; as for ImageNet: 256 over 224."""


@dataclass(frozen=True)
class ImageFolders:
    """Images by split, and the class names in alphabetical order.

    Attributes:
        splits: records, whose ids are `CLASS/FILE`, with the subfolders of the class where it has that name twice.
        notes: everything that was inferred.
    """

    source: str
    classes: tuple[str, ...]
    splits: dict[str, tuple[Record, ...]]
    notes: tuple[str, ...] = ()

    def label(self, record: Record) -> int:
        """The index of a record's class."""
        return self.classes.index(record.id.partition("/")[0])

    def fingerprint(self) -> str:
        """SHA-256 (hexadecimal) of names, classes and file sizes."""
        digest = hashlib.sha256()
        for split, records in sorted(self.splits.items()):
            for record in records:
                digest.update(repr((split, record.id, self.label(record), record.image.stat().st_size)).encode())
        return digest.hexdigest()


def open_image_folders(folder: Path, *, val_share: float | None = None) -> ImageFolders:
    """List the images of a folder.

    Without a folder for validation, a share of the images of every class becomes the validation split, chosen by a hash
    of their names.

    Raises:
        DataError: there are fewer than two classes, a class has no images, `val` has a class that `train` does not
            have, or the folders are those of a segmentation dataset.
    """
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder; give a folder that contains one folder of images per class")
    train, val = (_child(folder, SPLIT_NAMES[split]) for split in ("train", "val"))
    val = val or (_child(folder, RARE_VAL_NAMES) if train else None)
    if val is not None and train is None:
        raise DataError(f"{folder}: has {val.name} but no train; put the training images into train/CLASS/")
    by_class = _records_by_class(train or folder)
    classes = tuple(by_class)
    _refuse_masks(train or folder, classes)
    if len(classes) < 2:
        raise DataError(
            f"{train or folder}: a classifier needs at least two classes, each in its own folder of images; found "
            f"{len(classes)} ({', '.join(classes) or 'none'})"
        )
    if val is not None:
        validation = _records_by_class(val)
        unknown = sorted(set(validation) - set(classes))
        if unknown:
            raise DataError(
                f"{val / unknown[0]}: the training split has no class {unknown[0]!r}; add train/{unknown[0]}, or "
                "remove the folder"
            )
        splits = {"train": tuple(chain(*by_class.values())), "val": tuple(chain(*validation.values()))}
        return ImageFolders(str(folder), classes, splits)
    share = val_share or DEFAULT_VAL_SHARE
    kept: dict[str, list[Record]] = {"train": [], "val": []}
    for records in by_class.values():
        records = sorted(records, key=lambda record: draw_key(record.id))
        count = min(max(1, round(share * len(records))), len(records) - 1)
        kept["val"] += records[:count]
        kept["train"] += records[count:]
    note = (
        f"no val folder: {len(kept['val'])} images ({share:.0%} of each class) are used for validation, chosen by a "
        "hash of their names (data.val_share)"
    )
    splits = {split: tuple(sorted(records, key=lambda record: record.id)) for split, records in kept.items()}
    return ImageFolders(str(folder), classes, splits, (note,))


def check_images(data: ImageFolders, *, channels: int) -> str:
    """Read the header of every image; returns their data type, which determines how values are scaled.

    Raises:
        DataError: some images cannot be used (the message names the first few and the total number), or they have
            several types.
    """
    records = [*chain(*data.splits.values())]
    defects: list[Defect] = []
    examples: dict[str, str] = {}

    def check(record: Record) -> str | tuple[Defect, ...]:
        try:
            header = read_header(record.image)
            check_channels(record.image, header, channels)
        except DataError as error:
            return as_defects(error, file=record.image, otherwise=DefectKind.UNREADABLE_IMAGE)
        return header.dtype

    checked = track(map_in_threads(check, records), total=len(records), task="checking images")
    for record, found in zip(records, checked, strict=True):
        if isinstance(found, str):
            examples.setdefault(found, record.id)
        else:
            defects += found
    refuse_files(data.source, defects, total=len(records))
    if len(examples) > 1:
        kinds = " and ".join(f"{dtype} ({example})" for dtype, example in sorted(examples.items()))
        raise DataError(f"{data.source}: {kinds} images cannot be mixed; convert them to one type")
    return next(iter(examples))


def _refuse_masks(folder: Path, classes: tuple[str, ...]) -> None:
    """Refuse the folders of a segmentation dataset."""
    images, masks = (
        [name for name in classes if name.lower() in known] for known in (IMAGE_FOLDER_NAMES, MASK_FOLDER_NAMES)
    )
    if images and masks:
        raise DataError(
            f"{folder}: {images[0]!r} and {masks[0]!r} are images and their masks, not two classes; "
            "`pyramidseg train` learns from them, and `pretrain` takes a folder of images for each class"
        )


def _records_by_class(folder: Path) -> dict[str, list[Record]]:
    """Records by class name, in alphabetical order.

    Raises:
        DataError: a class has no images.
    """
    folders = [path for path in sorted(folder.iterdir()) if path.is_dir() and not path.name.startswith(".")]
    found = {of.name: _records(of) for of in folders}
    if empty := next((name for name, records in found.items() if not records), None):
        raise DataError(f"{folder / empty}: this class has no images; remove the folder, or add images")
    return found


def _records(folder: Path) -> list[Record]:
    images = list_images(folder)
    counts = Counter(image.name for image in images)
    places = (image.name if counts[image.name] == 1 else image.relative_to(folder).as_posix() for image in images)
    return [Record(f"{folder.name}/{place}", image) for place, image in zip(places, images, strict=True)]


def _child(folder: Path, names: tuple[str, ...]) -> Path | None:
    return next((path for path in sorted(folder.iterdir()) if path.is_dir() and path.name.lower() in names), None)


class ClassificationSamples(SampleDataset):
    """Augmented crops of the training images, by sample key."""

    def __init__(self, folders: ImageFolders, config: Config) -> None:
        self.folders, self.config, self.seed = folders, config, config.train.seed

    def augmented(self, index: int, rng: np.random.Generator) -> tuple[Any, Any]:
        """A random crop and its class."""
        record, data = self.folders.splits["train"][index], self.config.data
        image = random_resized_crop(read_image(record.image, channels=self.config.model.in_channels), data.crop, rng)
        if rng.random() < data.flip:
            image = image[:, ::-1]
        if data.color:
            image = jitter_color(image, *rng.uniform(1 - data.color, 1 + data.color, size=3))
        return contiguous(image), np.int64(self.folders.label(record))


def random_resized_crop(image: NDArray[Any], crop: tuple[int, int], rng: np.random.Generator) -> NDArray[Any]:
    """Random crop of (H, W, C) with random area and aspect ratio, resized to the size `crop`."""
    height, width = image.shape[:2]
    area = height * width * rng.uniform(*AREA)
    aspect = float(np.exp(rng.uniform(*np.log(ASPECT))))
    rows = min(height, max(1, round((area / aspect) ** 0.5)))
    columns = min(width, max(1, round((area * aspect) ** 0.5)))
    top, left = int(rng.integers(0, height - rows + 1)), int(rng.integers(0, width - columns + 1))
    return _resized(image[top : top + rows, left : left + columns], crop)


def center_crop(image: NDArray[Any], crop: tuple[int, int]) -> NDArray[Any]:
    """Center crop of (H, W, C), after resizing its shorter side to `MARGIN` times the crop."""
    height, width = image.shape[:2]
    factor = MARGIN * max(crop[0] / height, crop[1] / width)
    size = max(crop[0], round(height * factor)), max(crop[1], round(width * factor))
    image = _resized(image, size)
    top, left = (size[0] - crop[0]) // 2, (size[1] - crop[1]) // 2
    return np.ascontiguousarray(image[top : top + crop[0], left : left + crop[1]])


def _resized(image: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    shrinks = size[0] < image.shape[0] and size[1] < image.shape[1]
    return resize(image, (size[1], size[0]), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
