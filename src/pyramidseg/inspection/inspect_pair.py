"""Inspect one image-mask pair: the check before training and `pyramidseg inspect` both call `inspect_pair`."""

import filecmp
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.base.defects import Defect, DefectKind, as_defects
from pyramidseg.base.errors import DataError
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.channel_statistics import byte_counts, channel_sums
from pyramidseg.data.class_masks import ClassMasks, UnknownValuesError, value_source
from pyramidseg.data.image_mask_checks import ExifStatus, check_georeference, exif_status, size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.pairs import JoinedMasks, check_labels, ignore_nodata, read_labels
from pyramidseg.data.records import DrawnSource, MaskSource, Record
from pyramidseg.images.decode import ImageHeader, check_channels, read_header, read_image, read_masked_image
from pyramidseg.images.image_files import is_image_name
from pyramidseg.images.nodata import MaskedImage
from pyramidseg.images.palette import read_palette
from pyramidseg.images.scene_windows import window_at
from pyramidseg.inspection.image_table import ImageFacts
from pyramidseg.inspection.perceptual_hash import perceptual_hash

MIN_GREY_LEVELS = 8
"""A mask is compared with its image only if it has at least as many grey levels: with fewer it is not a photograph."""


class PairInspection(NamedTuple):
    """Result of `inspect_pair`.

    Attributes:
        image: None if the image cannot be read.
        label_counts: (256,) int64, pixels by label; None if the mask cannot be used.
        unknown_values: the mask's values that are not classes.
        exif: whether EXIF orientations of image and mask agree.
        palette: see `palette_colors`.
        contested: pixels that regions with several labels cover; 0 if images are not decoded.
    """

    record: Record
    defects: tuple[Defect, ...]
    image: ImageFacts | None
    label_counts: NDArray[np.int64] | None
    unknown_values: UnknownValuesError | None
    exif: ExifStatus
    palette: Mapping[int, Color]
    contested: int = 0


def inspect_pair(
    record: Record, masks: MaskSource, *, num_classes: int, channels: Channels | None = None, decode_image: bool = True
) -> PairInspection:
    """Find every defect of one image-mask pair.

    Args:
        channels: channels of the image that the model gets; None for all of them.
        decode_image: whether to decode the pixels of the image, which finds damaged and blank images and computes
            their statistics. Otherwise only its header is read, unless nodata or alpha exclude pixels from the labels.
    """
    defects: list[Defect] = []
    header, pixels = _read_image(record.image, channels, defects, decode=decode_image)
    image = None
    if header is not None:
        image = ImageFacts(header.height, header.width, header.channels - header.alpha, header.dtype)
        if decode_image and pixels is not None:
            image = _with_pixels(image, record.image, pixels, defects)
    labels, unknown = _inspect_mask(record, masks, defects)
    counts, exif, palette, contested = None, ExifStatus.CONSISTENT, dict[int, Color](), 0
    size = unknown.size if unknown else None if labels is None else (labels.shape[0], labels.shape[1])
    if header is not None and size is not None and size != header[:2]:
        defects.append(size_mismatch(record, image=header[:2], mask=size).defect)
    elif header is not None and labels is not None:
        labels = labels if pixels is None else ignore_nodata(labels, pixels)
        counts = _count_labels(record, masks, labels, defects, num_classes=num_classes, on_map=header.georeferenced)
    if header is not None and counts is not None:
        own, own_counts = record, counts
        if isinstance(masks, JoinedMasks):
            of_set, own = masks.of(record)
            masks, own_counts = of_set.masks, counts[np.frombuffer(of_set.table, np.uint8)]
        values = value_source(masks)
        exif = exif_status(own, header[:2], header.orientation, values)
        if decode_image and isinstance(values, DrawnSource):
            contested = values.count_contested(own)
        palette = palette_colors(own, masks, own_counts)
    elif header is not None and header.orientation >= 5 and DefectKind.EXIF_TURNED in {one.kind for one in defects}:
        exif = ExifStatus.NOT_APPLIED
    return PairInspection(record, tuple(dict.fromkeys(defects)), image, counts, unknown, exif, palette, contested)


def palette_colors(record: Record, masks: MaskSource, counts: NDArray[np.int64]) -> dict[int, Color]:
    """Palette colour of each class value in an index mask whose values were not assigned to classes by the user.

    Args:
        counts: (256,) pixels by label.

    Raises:
        DataError: the mask is unreadable.
    """
    if not isinstance(masks, ClassMasks) or type(masks.values) is not IndexValues or record.mask is None:
        return {}
    if masks.values.explicit or masks.values.colors:
        return {}
    palette = read_palette(record.mask)
    return {value: palette[value] for value, label in masks.ids if counts[label] and value < len(palette)}


def _read_image(
    path: Path, channels: Channels | None, defects: list[Defect], *, decode: bool
) -> tuple[ImageHeader | None, MaskedImage | None]:
    """The header of an image, and its pixels if they are needed; None for both if it cannot be used."""
    try:
        header = read_header(path)
        if channels is not None:
            check_channels(path, header, channels)
        needs_pixels = decode or header.may_have_nodata
        return header, read_masked_image(path, channels=channels) if needs_pixels else None
    except DataError as error:
        defects += as_defects(error, file=path, otherwise=DefectKind.UNREADABLE_IMAGE)
        return None, None


def _with_pixels(facts: ImageFacts, path: Path, pixels: MaskedImage, defects: list[Defect]) -> ImageFacts:
    sums = channel_sums(pixels.values, pixels.nodata)
    if all(band.low >= band.high for band in sums) and window_at(path) is None:  # scenes have such borders
        content = f"every pixel is {', '.join(f'{band.low:g}' for band in sums)}"
        if not any(band.count for band in sums):
            content = "all pixels are nodata or transparent"
        defects.append(Defect(DefectKind.BLANK_IMAGE, path, f"{content}; remove it, or replace it"))
    checksum = zlib.crc32(np.ascontiguousarray(pixels.values).data)
    return facts._replace(
        channels=pixels.values.shape[2], hash=perceptual_hash(pixels.filled()), checksum=checksum, sums=tuple(sums)
    )


def _inspect_mask(
    record: Record, masks: MaskSource, defects: list[Defect]
) -> tuple[NDArray[np.uint8] | None, UnknownValuesError | None]:
    """Labels of a mask, or its unknown values; neither if it cannot be read."""
    error: DataError | None = None
    try:
        labels = read_labels(record, masks)
        if not _same_bytes(record):
            return labels, None
    except DataError as raised:
        error = raised
    file = record.mask or record.image
    if error is None or _is_copy_of_image(record):
        detail = f"is a copy of its image {record.image.name}, not a mask; replace it by the mask"
        defects.append(Defect(DefectKind.MASK_IS_IMAGE, file, detail))
        return None, None
    if record.mask is None:
        otherwise = DefectKind.MISSING_MASK
    else:
        otherwise = DefectKind.UNREADABLE_MASK if is_image_name(file.name) else DefectKind.BAD_ANNOTATION
    defects += as_defects(error, file=file, otherwise=otherwise)
    return None, error if isinstance(error, UnknownValuesError) else None


def _count_labels(
    record: Record,
    masks: MaskSource,
    labels: NDArray[np.uint8],
    defects: list[Defect],
    *,
    num_classes: int,
    on_map: bool,
) -> NDArray[np.int64] | None:
    """Pixels by label, (256,); None if the labels cannot be used."""
    counts: NDArray[np.int64] = byte_counts(labels[..., None])[0]
    file = record.mask or record.image
    try:
        check_labels(record, masks, counts, num_classes=num_classes)
        if on_map:
            check_georeference(record)
    except DataError as error:
        defects += as_defects(error, file=file, otherwise=DefectKind.UNKNOWN_VALUE)
        return None
    if counts[IGNORE] == counts.sum():
        detail = "all pixels are ignored, none has a class; label it, or remove it"
        defects.append(Defect(DefectKind.ALL_IGNORED, record.image if window_at(record.image) else file, detail))
    return counts


def _same_bytes(record: Record) -> bool:
    """Whether image and mask are two files with the same content; files of different sizes are not read."""
    if record.mask is None or record.mask == record.image:
        return False
    try:
        return filecmp.cmp(record.image, record.mask, shallow=False)
    except OSError:  # a missing file, which is reported elsewhere
        return False


def _is_copy_of_image(record: Record) -> bool:
    """Whether a mask that cannot be used shows the image, in colour or in grey."""
    if record.mask is None or not is_image_name(record.mask.name):
        return False
    if _same_bytes(record):
        return True
    try:
        if read_header(record.mask)[:2] != read_header(record.image)[:2]:
            return False
        mask = read_image(record.mask, channels=1)
        if len(np.unique(mask)) < MIN_GREY_LEVELS:
            return False
        return np.array_equal(read_image(record.image, channels=1), mask)
    except DataError:
        return False
