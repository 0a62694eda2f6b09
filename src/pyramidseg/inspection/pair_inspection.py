"""What one image and its mask show: every defect that they have by themselves, and what is kept of them.

The image is decoded as it is stored, by the loader that training uses, so that what cannot be trained on is found here.
"""

import filecmp
import zlib
from collections import Counter
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.base.defects import Defect, DefectKind, as_defects
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.channel_statistics import ChannelSums, byte_counts, sums_of
from pyramidseg.data.class_masks import ClassMasks, UnknownValuesError, value_source
from pyramidseg.data.image_mask_checks import (
    ExifStatus,
    Size,
    check_georeference,
    exif_orientation,
    exif_status,
    size_mismatch,
)
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.pairs import check_labels, ignore_nodata, read_labels
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonValues
from pyramidseg.images.decode import read_header, read_image, read_masked_image
from pyramidseg.images.nodata import MaskedImage
from pyramidseg.images.open_image import is_image_name
from pyramidseg.images.palette import read_palette
from pyramidseg.inspection.perceptual_hash import perceptual_hash_of

# Areas that somebody drew elsewhere: a GeoJSON file of one image, none of whose areas meets it.


def areas_elsewhere(records: Collection[Record], masks: MaskSource) -> Iterator[str]:
    """A remark on images that are background because their own file's areas lie elsewhere on the map.

    A file that several images share is expected to miss some of them.
    """
    values = value_source(masks)
    if not isinstance(values, GeoJsonValues):
        return
    shared = Counter(record.mask for record in records)
    missed: list[Path] = []
    for record in records:
        with suppress(DataError):  # told of the record itself
            if shared[record.mask] == 1 and values.misses(record):
                missed.append(record.mask or record.image)
    if missed:
        yield (
            f"the areas of {len(missed)} GeoJSON files lie outside their image, which is background then; look whether "
            f"image and file belong together, and whether data.vector_crs is right: {first_few(missed, limit=NAMED)}"
        )


# Images that EXIF tags turn in a way that sizes do not show: what can be said of their masks.

NAMED = 10
"""So many files are named in a remark."""


class Turns:
    """What is known of the turned pairs of a dataset."""

    def __init__(self) -> None:
        self._shown = self._missing = 0
        self._unseen: list[Record] = []
        self._of_mask: list[Record] = []

    def add(self, record: Record, turn: ExifStatus) -> None:
        """Take in one pair."""
        self._shown += turn is ExifStatus.CONFIRMED
        self._missing += turn is ExifStatus.NOT_APPLIED
        if turn is ExifStatus.UNVERIFIED:
            self._unseen.append(record)
        elif turn is ExifStatus.MASK_ONLY:
            self._of_mask.append(record)

    def defects(self) -> Iterator[Defect]:
        """Masks that were not turned, going by the others of the dataset."""
        for record in self._unseen if self._masks_are_unturned else ():
            detail = (
                f"its image {record.image} is turned by its EXIF tag (orientation {exif_orientation(record.image)}), "
                f"and going by the sizes of {self._missing} others, the masks of this dataset were not; rotate it, "
                "or take the tag away"
            )
            yield Defect(DefectKind.EXIF_TURNED, record.mask or record.image, detail)

    def doubtful(self) -> tuple[Path, ...]:
        """Files whose tag turns them, while nothing shows whether it should: images, and masks with a tag alone."""
        images = () if self._masks_are_unturned else (record.image for record in self._unseen)
        return *images, *(record.mask or record.image for record in self._of_mask)

    def remarks(self) -> Iterator[str]:
        """What somebody has to look at."""
        if self._unseen and not self._masks_are_unturned:
            files = first_few((record.image for record in self._unseen), limit=NAMED)
            yield (
                f"{len(self._unseen)} images are turned by their EXIF tag in a way that sizes do not show; look "
                f"whether their masks were turned too: {files}"
            )
        if self._of_mask:
            masks = [record.mask or record.image for record in self._of_mask]
            yield (
                f"{len(masks)} masks are turned by an EXIF tag that their images do not have, in a way that sizes do "
                f"not show; look whether they fit: {first_few(masks, limit=NAMED)}"
            )

    @property
    def _masks_are_unturned(self) -> bool:
        return self._missing > 0 and self._shown == 0


# Palettes that give one index different colours in different masks: then an index is not one class.


def colors_shown(record: Record, masks: MaskSource, counts: NDArray[np.int64]) -> Mapping[int, Color]:
    """The colours that a mask's palette gives to the values of classes in it, where nobody has said what they mean.

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


class Palettes:
    """The colours of the values of a dataset."""

    def __init__(self) -> None:
        self._first: dict[int, tuple[Color, Path]] = {}
        self._other: dict[int, tuple[Color, Path]] = {}

    def add(self, record: Record, colors: Mapping[int, Color]) -> None:
        """Take in what one mask shows."""
        file = record.mask or record.image
        for value, color in colors.items():
            if self._first.setdefault(value, (color, file))[0] != color:
                self._other.setdefault(value, (color, file))

    def contradiction(self) -> str | None:
        """What is wrong, if anything is."""
        if not self._other:
            return None
        value = min(self._other)
        (color, file), (other_color, other_file) = self._first[value], self._other[value]
        more = f", and {len(self._other) - 1} more indices differ" if len(self._other) > 1 else ""
        return (
            f"palettes contradict each other: index {value} is {list(color)} in {file} and {list(other_color)} in "
            f"{other_file}{more}; where the colours count, name the classes by them in a YAML file (classes: [{{name: "
            f"class {value}, color: {list(color)}}}, ...]), and where the indices do, by these (classes: {{class "
            f"{value}: {value}, ...}})"
        )


MOST_UNKNOWN = 256
"""Of unknown values in one mask as many are kept: a photograph among masks has a hundred thousand."""


class ImageFacts(NamedTuple):
    """What is kept of an image.

    Attributes:
        channels: without alpha.
        look: see `perceptual_hash_of`.
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
    turn: ExifStatus
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
        defects.append(size_mismatch(record, image=size, mask=shape).defect)
    counts = None
    if labels is not None and pixels is not None and shape == size:
        counts = byte_counts(ignore_nodata(labels, pixels)[..., None])[0]
        try:
            check_labels(record, masks, counts, num_classes=num_classes)
            check_georeference(record)
        except DataError as error:
            defects += as_defects(error, file=_mask_file(record), otherwise=DefectKind.UNKNOWN_VALUE)
            counts = None
    if counts is not None and counts[IGNORE] == counts.sum():
        detail = "all pixels are ignored, and none has a class; label it, or take it out"
        defects.append(Defect(DefectKind.ALL_IGNORED, _mask_file(record), detail))
    turn = ExifStatus.CONSISTENT
    if counts is not None and size is not None:
        turn = exif_status(record, size, value_source(masks))
    elif any(defect.kind is DefectKind.EXIF_TURNED for defect in defects) and exif_orientation(record.image) >= 5:
        turn = ExifStatus.NOT_APPLIED
    palette = {} if counts is None else colors_shown(record, masks, counts)
    return Examination(record, image, counts, tuple(dict.fromkeys(defects)), unknown, turn, palette)


def _examine_image(
    path: Path, bands: tuple[int, ...] | None, defects: list[Defect]
) -> tuple[MaskedImage | None, ImageFacts | None]:
    """Its pixels, and what is kept of them."""
    try:
        pixels = read_masked_image(path, channels=bands)
    except DataError as error:
        defects += as_defects(error, file=path, otherwise=DefectKind.UNREADABLE_IMAGE)
        return None, None
    sums = sums_of(pixels.values, pixels.nodata)
    if all(band.low >= band.high for band in sums):
        defects.append(Defect(DefectKind.BLANK_IMAGE, path, f"{_single_color(sums)}; take it out, or replace it"))
    look = perceptual_hash_of(pixels.filled())
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
        defects.append(Defect(DefectKind.MASK_IS_IMAGE, _mask_file(record), detail))
        return None, None, {}
    file = _mask_file(record)
    otherwise = DefectKind.UNREADABLE_MASK if is_image_name(file.name) else DefectKind.BAD_ANNOTATION
    if record.mask is None:
        otherwise = DefectKind.MISSING_MASK
    defects += as_defects(error, file=file, otherwise=otherwise)
    if not isinstance(error, UnknownValuesError):
        return None, None, {}
    frequent = sorted(error.pixels.items(), key=lambda item: -item[1])[:MOST_UNKNOWN]
    unknown = {error.source.describe([value]): pixels for value, pixels in frequent}
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
