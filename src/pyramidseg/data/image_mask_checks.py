"""Whether an image and its mask lie on each other: what their sizes say, and the EXIF tags that turn them."""

from enum import Enum
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError, MissingExtra, PyramidSegError
from pyramidseg.data.records import OutlineSource, Record, ValueSource
from pyramidseg.images.georeference import Georeference, read_georeference, reproject
from pyramidseg.images.open_image import is_image_name, open_image
from pyramidseg.images.tiff import read_tiff_header

Size = tuple[int, int]
"""Height and width, after turning."""


class ExifStatus(Enum):
    """What is known of a mask whose image an EXIF tag turns."""

    CONSISTENT = "image and mask are turned alike, or not at all"
    CONFIRMED = "their sizes show that the mask fits the turned image"
    NOT_APPLIED = "their sizes show that the mask was not turned"
    UNVERIFIED = "the image is turned, and sizes cannot show whether the mask was"
    MASK_ONLY = "the mask is turned by a tag of its own, unlike its image's, and sizes cannot show whether it should be"


def check_same_size(record: Record, image: tuple[int, ...], labels: tuple[int, ...]) -> None:
    """Refuse a mask whose (height, width) is not the image's.

    Raises:
        DataError: names the mask and both sizes.
    """
    if image != labels:
        raise size_mismatch(record, image=(image[0], image[1]), mask=(labels[0], labels[1]))


def size_mismatch(record: Record, *, image: Size, mask: Size) -> DefectError:
    """The error for a mask of another size than its image, with what may have led to it."""
    file = record.mask or record.image
    if not is_image_name(file.name):
        return _contradiction(record, file, image=image, said=mask)
    sizes = (
        f"the mask is {mask[0]} x {mask[1]} pixels (height x width) and its image {record.image} is {image[0]} x "
        f"{image[1]}"
    )
    if is_resizable(image=image, mask=mask):
        detail = f"{sizes}; make the mask anew at the image's size, or say resize_masks: true"
        return DefectError(DefectKind.SIZE_DIFFERS, file, detail)
    if not _same_aspect(image, mask[::-1]):
        return DefectError(DefectKind.SIZE_DIFFERS, file, f"{sizes}; make the mask anew at the image's size")
    tag, own = _tags(record)
    if tag >= 5 > own:
        return DefectError(
            DefectKind.EXIF_TURNED,
            file,
            f"{sizes} as its EXIF tag (orientation {tag}) turns it, as viewers do; turn the mask too, or take the tag "
            "away",
        )
    if own >= 5 > tag:
        return DefectError(
            DefectKind.EXIF_TURNED,
            file,
            f"{sizes}, as the mask is turned by an EXIF tag of its own (orientation {own}), which its image lacks; "
            "take the tag off the mask, or turn the image too",
        )
    detail = f"{sizes}, as if one of them had been turned; turn the mask, or make it anew at the image's size"
    return DefectError(DefectKind.SIZE_DIFFERS, file, detail)


def _contradiction(record: Record, file: Path, *, image: Size, said: Size) -> DefectError:
    """The error for outlines, in whose file a size is written."""
    detail = (
        f"says that {record.id} is {said[0]} x {said[1]} pixels (height x width; imageHeight and imageWidth in "
        f"LabelMe, height and width in COCO), and the image {record.image} is {image[0]} x {image[1]}"
    )
    if is_resizable(image=image, mask=said):
        return DefectError(DefectKind.SIZE_DIFFERS, file, f"{detail}; correct what is wrong, or say resize_masks: true")
    if said == image[::-1] and (tag := exif_orientation(record.image)) >= 5:
        turned = f"{detail} as its EXIF tag (orientation {tag}) turns it, as viewers do; turn the outlines too"
        return DefectError(DefectKind.EXIF_TURNED, file, f"{turned}, or take the tag away")
    return DefectError(DefectKind.SIZE_DIFFERS, file, f"{detail}; correct the size, or outline the image anew")


def is_resizable(*, image: Size, mask: Size) -> bool:
    """Whether a mask shows all of its image the same way up: it has the image's aspect ratio, but for rounding."""
    return mask != image[::-1] and _same_aspect(image, mask)


def exif_status(record: Record, size: Size, values: ValueSource | None = None) -> ExifStatus:
    """What is known of an image and a mask that have the same size.

    Args:
        values: what reads the mask. Outlines have no tag to go by, and those whose file says no size fit any turn.
    """
    if record.mask is not None and not is_image_name(record.mask.name):
        if (
            isinstance(values, OutlineSource)
            and exif_orientation(record.image) != 1
            and not values.has_own_size(record)
        ):
            return ExifStatus.UNVERIFIED
        return ExifStatus.CONSISTENT
    tag, own = _tags(record)
    if tag == own:
        return ExifStatus.CONSISTENT
    if (tag >= 5) != (own >= 5) and size[0] != size[1]:
        return ExifStatus.CONFIRMED
    return ExifStatus.UNVERIFIED if own == 1 else ExifStatus.MASK_ONLY


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 where it has none or cannot be opened."""
    try:
        tiff = read_tiff_header(path)
        if tiff is not None:
            return tiff.orientation
        with open_image(path) as file:
            return file.orientation
    except PyramidSegError:
        return 1


def _tags(record: Record) -> tuple[int, int]:
    return exif_orientation(record.image), 1 if record.mask is None else exif_orientation(record.mask)


def _same_aspect(one: Size, other: Size) -> bool:
    """Whether either is the other scaled, with its sides rounded to whole pixels."""
    return _is_scaled(one, other) or _is_scaled(other, one)


def _is_scaled(rounded: Size, exact: Size) -> bool:
    """Whether some factor brings both sides of `exact` to less than a pixel from those of `rounded`."""
    (height, width), (tall, wide) = rounded, exact
    return (height - 1) * wide < (width + 1) * tall and (width - 1) * tall < (height + 1) * wide


# Whether a mask that says where it lies on a map lies on its image there.

TOLERANCE = 0.5
"""Pixels of the image that a mask may be off: conventions on what a pixel's place is differ by as much."""


def check_georeference(record: Record) -> None:
    """Refuse a mask whose georeference is not that of its image. Files that say none, or the same, cost no more.

    Raises:
        DataError: names both places.
    """
    if record.mask is None or not is_image_name(record.mask.name):
        return
    mask = read_tiff_header(record.mask)
    if mask is None or not mask.georeferenced:
        return
    image = read_tiff_header(record.image)
    if image is None or not image.georeferenced or max(image.orientation, mask.orientation) > 1:
        return
    sizes = (image.height, image.width), (mask.height, mask.width)
    if image.place == mask.place and sizes[0] == sizes[1]:
        return
    try:
        places = read_georeference(record.image), read_georeference(record.mask)
    except MissingExtra:  # whatever else needs to know where an image lies says so
        return
    if places[0] is None or places[1] is None or not places[0].crs or not places[1].crs:
        return
    off_px = _off_px(places[0], places[1], image=sizes[0], mask=sizes[1])
    if off_px is not None and off_px > TOLERANCE:
        raise DefectError(
            DefectKind.OFF_GRID,
            record.mask,
            f"lies elsewhere on the map than its image {record.image}, by {off_px:.1f} of its pixels: the mask is at "
            f"{_in_words(places[1])} and the image at {_in_words(places[0])}; make the mask anew on the image's grid, "
            "or, where its georeference is wrong, take that out (save it as PNG)",
        )


def _off_px(image_place: Georeference, mask_place: Georeference, *, image: Size, mask: Size) -> float | None:
    """How far a corner of the mask is from the image's, in pixels of the image; None where no way leads there."""
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64)
    on_map = mask_place.to_map(corners * mask[::-1])
    try:
        on_map = reproject(on_map, source=mask_place.crs, target=image_place.crs)
    except DataError:
        return None
    return float(np.abs(image_place.to_pixels(on_map) - corners * image[::-1]).max())


def _in_words(place: Georeference) -> str:
    x, y = place.to_map(np.zeros((1, 2)))[0].tolist()
    name = place.crs.partition('"')[2].partition('"')[0]
    return f"({x:.10g}, {y:.10g}) in {name}"
