"""What one image and its mask show: every defect that they have by themselves, and what is kept of them.

The image is decoded as it is stored, by the loader that training uses, so that what cannot be trained on is found here.
"""

import filecmp
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import IGNORE, Color
from pyramidseg.data.alignment import Size, Turn, mismatch, orientation, turn_of
from pyramidseg.data.defect_kinds import Defect, Kind, as_defects
from pyramidseg.data.grids import check_same_grid
from pyramidseg.data.holes import Pixels
from pyramidseg.data.image_files import is_image_name
from pyramidseg.data.images import read_header, read_image, read_pixels
from pyramidseg.data.inspection.channel_statistics import ChannelSums, byte_counts, sums_of
from pyramidseg.data.inspection.lookalikes import look_hash
from pyramidseg.data.inspection.palettes import colors_shown
from pyramidseg.data.masks.class_masks import ClassMasks, UnknownValues, values_of
from pyramidseg.data.pairs import check_labels, labels_beside_holes, read_labels
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.errors import DataError

MOST_UNKNOWN = 256
"""Of unknown values in one mask as many are kept: a photograph among masks has a hundred thousand."""


class ImageFacts(NamedTuple):
    """What is kept of an image.

    Attributes:
        channels: without alpha.
        look: see `look_hash`.
        content: CRC-32 of the decoded pixels.
    """

    height: int
    width: int
    channels: int
    dtype: str
    look: int | None
    content: int
    sums: list[ChannelSums]


class Examination(NamedTuple):
    """What one record shows.

    Attributes:
        image: None where it could not be decoded.
        counts: (256,) int64, pixels by label; None where the mask could not be used.
        unknown: pixels by source value that is no class, in words; the most frequent ones.
        turn: what is known of the mask where a tag turns the image.
        palette: see `colors_shown`.
    """

    record: Record
    image: ImageFacts | None
    counts: NDArray[np.int64] | None
    defects: tuple[Defect, ...]
    unknown: Mapping[str, int]
    turn: Turn
    palette: Mapping[int, Color]


def examine(
    record: Record, masks: MaskSource, *, num_classes: int, bands: tuple[int, ...] | None = None
) -> Examination:
    """Decode an image and its mask and find all that is wrong with either, and between them.

    Args:
        bands: those of the image that count; all of them unless given.
    """
    defects: list[Defect] = []
    pixels, image = _examine_image(record.image, bands, defects)
    labels, shape, unknown = _examine_mask(record, masks, defects)
    size = None if image is None else (image.height, image.width)
    if size is not None and shape is not None and shape != size:
        defects.append(mismatch(record, image=size, mask=shape).defect)
    counts = None
    if labels is not None and pixels is not None and shape == size:
        counts = byte_counts(labels_beside_holes(labels, pixels)[..., None])[0]
        try:
            check_labels(record, masks, counts, num_classes=num_classes)
            check_same_grid(record)
        except DataError as error:
            defects += as_defects(error, file=_mask_file(record), otherwise=Kind.UNKNOWN_VALUE)
            counts = None
    if counts is not None and counts[IGNORE] == counts.sum():
        detail = "all pixels are ignored, and none has a class; label it, or take it out"
        defects.append(Defect(Kind.ALL_IGNORED, _mask_file(record), detail))
    turn = Turn.NONE
    if counts is not None and size is not None:
        turn = turn_of(record, size, values_of(masks))
    elif any(defect.kind is Kind.EXIF_TURNED for defect in defects) and orientation(record.image) >= 5:
        turn = Turn.MISSING
    palette = {} if counts is None else colors_shown(record, masks, counts)
    return Examination(record, image, counts, tuple(dict.fromkeys(defects)), unknown, turn, palette)


def _examine_image(
    path: Path, bands: tuple[int, ...] | None, defects: list[Defect]
) -> tuple[Pixels | None, ImageFacts | None]:
    """Its pixels, and what is kept of them."""
    try:
        pixels = read_pixels(path, channels=bands)
    except DataError as error:
        defects += as_defects(error, file=path, otherwise=Kind.UNREADABLE_IMAGE)
        return None, None
    sums = sums_of(pixels.values, pixels.absent)
    if all(band.low >= band.high for band in sums):
        defects.append(Defect(Kind.BLANK_IMAGE, path, f"{_single_color(sums)}; take it out, or replace it"))
    look = look_hash(pixels.filled())
    content = zlib.crc32(np.ascontiguousarray(pixels.values).data)
    height, width, channels = pixels.values.shape
    return pixels, ImageFacts(height, width, channels, str(pixels.values.dtype), look, content, sums)


def _examine_mask(
    record: Record, masks: MaskSource, defects: list[Defect]
) -> tuple[NDArray[np.uint8] | None, Size | None, Mapping[str, int]]:
    """Its labels; and its size and unknown values where it holds some."""
    try:
        labels = read_labels(record, masks)
        if not _same_bytes(record):
            return labels, (labels.shape[0], labels.shape[1]), {}
        error: DataError | None = None
    except DataError as raised:
        error = raised
    if error is None or _is_copy(record):
        detail = f"is a copy of its image {record.image.name}, not a mask; put the mask in its place"
        defects.append(Defect(Kind.MASK_IS_IMAGE, _mask_file(record), detail))
        return None, None, {}
    file = _mask_file(record)
    otherwise = Kind.UNREADABLE_MASK if is_image_name(file.name) else Kind.BAD_ANNOTATION
    if record.mask is None:
        otherwise = Kind.MISSING_MASK
    defects += as_defects(error, file=file, otherwise=otherwise)
    if not isinstance(error, UnknownValues):
        return None, None, {}
    frequent = sorted(error.pixels.items(), key=lambda item: -item[1])[:MOST_UNKNOWN]
    unknown = {error.source.in_words([value]): pixels for value, pixels in frequent}
    if isinstance(masks, ClassMasks) and not masks.resize:
        height, width = masks.values.read(record).shape
        return None, (height, width), unknown
    return None, None, unknown


def _mask_file(record: Record) -> Path:
    return record.mask or record.image


def _same_bytes(record: Record) -> bool:
    """Whether image and mask are two files of the same content; where sizes differ, it takes no reading."""
    if record.mask is None or record.mask == record.image:
        return False
    try:
        return filecmp.cmp(record.image, record.mask, shallow=False)
    except OSError:  # one of them is absent, which has been found already
        return False


def _is_copy(record: Record) -> bool:
    """Whether a mask that could not be used shows the image: the same pixels, or their grey."""
    if record.mask is None or not is_image_name(record.mask.name):
        return False
    try:
        if _same_bytes(record):
            return True
        if read_header(record.mask)[:2] != read_header(record.image)[:2]:
            return False
        return any(
            np.array_equal(read_image(record.image, channels=channels), read_image(record.mask, channels=channels))
            for channels in (3, 1)
        )
    except DataError:
        return False


def _single_color(sums: list[ChannelSums]) -> str:
    if not any(band.count for band in sums):
        return "no pixel holds a value"
    values = ", ".join(f"{band.low:g}" for band in sums)
    return f"every pixel is {values}"
