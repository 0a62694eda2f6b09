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
from pyramidseg.base.errors import DataError, PyramidSegError
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.channel_statistics import ChannelSums, byte_counts, channel_sums
from pyramidseg.data.class_masks import ClassMasks, UnknownValuesError, value_source
from pyramidseg.data.image_mask_checks import ExifStatus, check_georeference, exif_status, size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.pairs import JoinedMasks, check_labels, ignore_nodata, read_labels
from pyramidseg.data.records import DrawnSource, MaskSource, Record, ValueSource
from pyramidseg.images.decode import (
    ImageHeader,
    check_channels,
    header_of,
    masked_pixels,
    read_image,
    read_masked_image,
)
from pyramidseg.images.image_files import is_image_name
from pyramidseg.images.nodata import MaskedImage
from pyramidseg.images.open_image import open_image
from pyramidseg.images.palette import palette_of
from pyramidseg.images.scene_windows import window_at
from pyramidseg.images.tiff import TiffHeader
from pyramidseg.inspection.perceptual_hash import perceptual_hash

MIN_GREY_LEVELS = 8
"""A mask is compared with its image only if it has at least as many grey levels: with fewer it is not a photograph."""


class ImageFacts(NamedTuple):
    """What is known of an image; the fields with a default only if its pixels were decoded.

    Attributes:
        channels: without alpha.
        hash: see `perceptual_hash`.
        checksum: CRC-32 of the pixels as stored.
        sums: of each channel.
    """

    height: int
    width: int
    channels: int
    dtype: str
    hash: int | None = None
    checksum: int = 0
    sums: tuple[ChannelSums, ...] = ()


class PairInspection(NamedTuple):
    """Result of `inspect_pair`.

    Attributes:
        image: None if the image cannot be read.
        label_counts: (256,) int64, pixels by label; None if the mask cannot be used.
        unknown_values: the mask's values that are not classes.
        exif: whether EXIF orientations of image and mask agree.
        palette: colour of each class value in an index mask whose values were not assigned to classes by the user.
        contested: pixels that regions with several labels cover; 0 if images are not decoded.
    """

    record: Record
    defects: tuple[Defect, ...] = ()
    image: ImageFacts | None = None
    label_counts: NDArray[np.int64] | None = None
    unknown_values: UnknownValuesError | None = None
    exif: ExifStatus = ExifStatus.CONSISTENT
    palette: Mapping[int, Color] = {}
    contested: int = 0


class _Image(NamedTuple):
    """An image file that can be used; `pixels` only if they are needed, `tiff` only of a TIFF file."""

    header: ImageHeader
    tiff: TiffHeader | None
    pixels: MaskedImage | None
    facts: ImageFacts


def inspect_pair(
    record: Record, masks: MaskSource, *, num_classes: int, channels: Channels | None = None, decode_image: bool = True
) -> PairInspection:
    """Find every defect of one image-mask pair. The image is opened once, the file of a mask twice.

    Args:
        channels: channels of the image that the model gets; None for all of them.
        decode_image: whether to decode the pixels of the image, which finds damaged and blank images and computes
            their statistics. Otherwise only its header is read, unless nodata or alpha exclude pixels from the labels.
    """
    defects: list[Defect] = []
    image = _read_image(record.image, channels, defects, decode=decode_image)
    labels, unknown = _read_mask(record, masks, defects)
    found = PairInspection(record, image=image and image.facts, unknown_values=unknown)
    size = unknown.size if unknown else None if labels is None else (labels.shape[0], labels.shape[1])
    if image is not None:
        if size is not None and size != image.header[:2]:
            defects.append(size_mismatch(record, image=image.header[:2], mask=size).defect)
        elif labels is not None:
            found = _compare(found, image, masks, labels, defects, num_classes=num_classes, decoded=decode_image)
        turned = any(defect.kind is DefectKind.EXIF_TURNED for defect in defects)
        if turned and found.label_counts is None and image.header.orientation >= 5:
            found = found._replace(exif=ExifStatus.NOT_APPLIED)
    return found._replace(defects=tuple(dict.fromkeys(defects)))


def _read_image(path: Path, channels: Channels | None, defects: list[Defect], *, decode: bool) -> _Image | None:
    """An image, with its pixels if they are needed; None if it cannot be used."""
    pixels: MaskedImage | None = None
    try:
        with open_image(path, header_only=not decode) as file:
            header, tiff = header_of(file), file.tiff
            if channels is not None:
                check_channels(path, header, channels)
            if decode or header.may_have_nodata:
                again = not decode and window_at(path) is not None  # it was opened without its pixels
                pixels = read_masked_image(path, channels=channels) if again else masked_pixels(file, header, channels)
    except DataError as error:
        defects += as_defects(error, file=path, otherwise=DefectKind.UNREADABLE_IMAGE)
        return None
    facts = ImageFacts(header.height, header.width, header.channels - header.alpha, header.dtype)
    if decode and pixels is not None:
        facts = _with_pixels(facts, path, pixels, defects)
    return _Image(header, tiff, pixels, facts)


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


def _read_mask(
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


def _compare(
    found: PairInspection,
    image: _Image,
    masks: MaskSource,
    labels: NDArray[np.uint8],
    defects: list[Defect],
    *,
    num_classes: int,
    decoded: bool,
) -> PairInspection:
    """With what an image and labels of its size show together; without counts if the labels cannot be used."""
    record = own = found.record
    file, source, header = record.mask or record.image, masks, image.header
    labels = labels if image.pixels is None else ignore_nodata(labels, image.pixels)
    counts: NDArray[np.int64] = byte_counts(labels[..., None])[0]
    own_counts = counts
    if isinstance(masks, JoinedMasks):
        of_set, own = masks.of(record)
        source, own_counts = of_set.masks, counts[np.frombuffer(of_set.table, np.uint8)]
    values = value_source(source)
    orientation, palette, tiff = _read_tags(own, values)
    try:
        check_labels(record, masks, counts, num_classes=num_classes)
        check_georeference(record, image.tiff, tiff)
    except DataError as error:
        defects += as_defects(error, file=file, otherwise=DefectKind.UNKNOWN_VALUE)
        return found
    if counts[IGNORE] == counts.sum():
        detail = "all pixels are ignored, none has a class; label it, or remove it"
        defects.append(Defect(DefectKind.ALL_IGNORED, record.image if window_at(record.image) else file, detail))
    ids = source.ids if isinstance(source, ClassMasks) else ()
    return found._replace(
        label_counts=counts,
        exif=exif_status(own, header[:2], header.orientation, orientation, values),
        palette={value: palette[value] for value, label in ids if own_counts[label] and value < len(palette)},
        contested=values.count_contested(own) if decoded and isinstance(values, DrawnSource) else 0,
    )


def _read_tags(record: Record, values: ValueSource | None) -> tuple[int, tuple[Color, ...], TiffHeader | None]:
    """EXIF orientation of a mask file, its palette if colours can contradict each other, and its TIFF tags."""
    if record.mask is None or not is_image_name(record.mask.name):
        return 1, (), None
    try:
        with open_image(record.mask, header_only=True) as file:
            has_colors = type(values) is IndexValues and not values.explicit and not values.colors
            return file.orientation, palette_of(file) if has_colors else (), file.tiff
    except PyramidSegError:  # a user's own mask source may read other files
        return 1, (), None


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
        mask = read_image(record.mask, channels=1)
        is_photograph = len(np.unique(mask)) >= MIN_GREY_LEVELS
        return is_photograph and np.array_equal(read_image(record.image, channels=1), mask)
    except DataError:
        return False
