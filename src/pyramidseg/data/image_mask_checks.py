"""Checks that an image and its mask match: their sizes, their EXIF orientations, and their georeferences."""

from enum import Enum
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError, MissingExtra, PyramidSegError
from pyramidseg.data.records import OutlineSource, Record, ValueSource
from pyramidseg.images.georeference import Georeference, read_georeference, reproject
from pyramidseg.images.image_files import is_array_name, is_image_name
from pyramidseg.images.open_image import open_image
from pyramidseg.images.tiff import TiffHeader

Size = tuple[int, int]
"""Height and width, in the orientation that EXIF prescribes."""


# Sizes.


def size_mismatch(record: Record, *, image: Size, mask: Size) -> DefectError:
    """The error for a mask, or an annotation, whose size differs from that of its image, with the likely reason."""
    file = record.mask or record.image
    kind, sizes, step = DefectKind.SIZE_DIFFERS, "the mask is", "export the mask at the image's size"
    if not (is_image_name(file.name) or is_array_name(file.name)):
        sizes, step = f"gives {record.id} a size of", "correct the size, or annotate the image again"
    sizes += f" {mask[0]} x {mask[1]} pixels (height x width), but its image {record.image} is {image[0]} x {image[1]}"
    image_tag, mask_tag = exif_orientation(record.image), exif_orientation(record.mask) if record.mask else 1
    if is_resizable(image=image, mask=mask):
        step += ", or set resize_masks: true"
    elif _same_aspect_ratio(image, mask[::-1]) and (image_tag >= 5) != (mask_tag >= 5):
        turned, other, tag = ("image", "mask", image_tag) if image_tag >= 5 else ("mask", "image", mask_tag)
        kind = DefectKind.EXIF_TURNED
        step = (
            f"the {turned} is turned by its EXIF orientation {tag}, as in viewers, and the {other} is not: turn the "
            f"{other} too, or remove the tag from the {turned}"
        )
    elif _same_aspect_ratio(image, mask[::-1]):
        step = f"one of them seems to be turned: turn it, or {step}"
    return DefectError(kind, file, f"{sizes}; {step}")


def is_resizable(*, image: Size, mask: Size) -> bool:
    """Whether a mask can be resized to its image: both have the same aspect ratio, up to rounding to whole pixels."""
    return mask != image[::-1] and _same_aspect_ratio(image, mask)


def _same_aspect_ratio(one: Size, other: Size) -> bool:
    """Whether one of the sizes is the other one scaled, with its sides rounded to whole pixels."""
    for (height, width), (exact_height, exact_width) in ((one, other), (other, one)):
        too_high = (height - 1) * exact_width >= (width + 1) * exact_height
        too_wide = (width - 1) * exact_height >= (height + 1) * exact_width
        if not too_high and not too_wide:
            return True
    return False


# EXIF orientations.


class ExifStatus(Enum):
    """Whether a mask has the same orientation as its image, as far as EXIF tags and sizes show."""

    CONSISTENT = "image and mask have the same EXIF orientation, or none"
    CONFIRMED = "only one has an EXIF orientation, and the sizes confirm that the pair matches"
    NOT_APPLIED = "the sizes show that the image's EXIF orientation was not applied to the mask"
    UNVERIFIED = "the image has an EXIF orientation, and the sizes cannot show whether it was applied to the mask"
    MASK_ONLY = "the mask has another EXIF orientation than its image, and the sizes cannot show whether it is right"


def exif_status(
    record: Record, size: Size, image_tag: int, mask_tag: int, values: ValueSource | None = None
) -> ExifStatus:
    """The status of an image and a mask that have the same size.

    Args:
        image_tag, mask_tag: as `ImageHeader.orientation`; 1 for outlines, which have none.
        values: the reader of the mask. Outlines without a size of their own fit any orientation.
    """
    if record.mask is not None and not is_image_name(record.mask.name):
        fits_any = isinstance(values, OutlineSource) and not values.has_own_size(record)
        return ExifStatus.UNVERIFIED if fits_any and image_tag != 1 else ExifStatus.CONSISTENT
    if image_tag == mask_tag:
        return ExifStatus.CONSISTENT
    if (image_tag >= 5) != (mask_tag >= 5) and size[0] != size[1]:
        return ExifStatus.CONFIRMED
    return ExifStatus.UNVERIFIED if mask_tag == 1 else ExifStatus.MASK_ONLY


def exif_orientation(path: Path) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 if it has none or is unreadable."""
    try:
        with open_image(path, header_only=True) as file:
            return file.orientation
    except PyramidSegError:
        return 1


# Georeferences.

TOLERANCE_PX = 0.5
"""Allowed offset of a mask, in pixels of its image: conventions on a pixel's reference point differ by as much."""


def check_georeference(record: Record, image: TiffHeader | None, mask: TiffHeader | None) -> None:
    """Reject a georeferenced mask that covers another area than its image. Nothing is computed for other files.

    Raises:
        DataError: names both positions.
    """
    if record.mask is None or image is None or mask is None:
        return
    if not (image.georeferenced and mask.georeferenced) or max(image.orientation, mask.orientation) > 1:
        return
    sizes = (image.height, image.width), (mask.height, mask.width)
    if image.geo_tags == mask.geo_tags and sizes[0] == sizes[1]:
        return
    try:
        places = read_georeference(record.image), read_georeference(record.mask)
    except MissingExtra:  # reported where the georeference is needed
        return
    if places[0] is None or places[1] is None or not places[0].crs or not places[1].crs:
        return
    offset_px = _offset_px(places[0], places[1], image=sizes[0], mask=sizes[1])
    if offset_px is not None and offset_px > TOLERANCE_PX:
        detail = (
            f"is {offset_px:.1f} pixels away from its image {record.image} on the map: the mask is at "
            f"{_describe(places[1])} and the image at {_describe(places[0])}; export the mask on the image's grid, or, "
            "if its georeference is wrong, remove it (save the mask as PNG)"
        )
        raise DefectError(DefectKind.OFF_GRID, record.mask, detail)


def _offset_px(image_place: Georeference, mask_place: Georeference, *, image: Size, mask: Size) -> float | None:
    """Largest distance of a corner of the mask from the image's, in pixels of the image; None if not comparable."""
    corners = np.array([(0, 0), (1, 0), (0, 1), (1, 1)], np.float64)
    on_map = mask_place.to_map(corners * mask[::-1])
    try:
        on_map = reproject(on_map, source=mask_place.crs, target=image_place.crs)
    except DataError:
        return None
    return float(np.abs(image_place.to_pixels(on_map) - corners * image[::-1]).max())


def _describe(place: Georeference) -> str:
    x, y = place.to_map(np.zeros((1, 2)))[0].tolist()
    name = place.crs.partition('"')[2].partition('"')[0]
    return f"({x:.10g}, {y:.10g}) in {name}"
