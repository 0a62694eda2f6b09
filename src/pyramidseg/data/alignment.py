"""Whether an image and its mask lie on each other: what their sizes say, and the EXIF tags that turn them."""

from enum import Enum
from pathlib import Path

from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.image_files import is_image_name, opened
from pyramidseg.data.records import OutlineSource, Record, ValueSource
from pyramidseg.data.tiff import read_tiff_header
from pyramidseg.errors import PyramidSegError

Size = tuple[int, int]
"""Height and width, after turning."""


class Turn(Enum):
    """What is known of a mask whose image an EXIF tag turns."""

    NONE = "image and mask are turned alike, or not at all"
    SHOWN = "their sizes show that the mask fits the turned image"
    MISSING = "their sizes show that the mask was not turned"
    UNSEEN = "the image is turned, and sizes cannot show whether the mask was"
    OF_MASK = "the mask is turned by a tag of its own, unlike its image's, and sizes cannot show whether it should be"


def check_same_size(record: Record, image: tuple[int, ...], labels: tuple[int, ...]) -> None:
    """Refuse a mask whose (height, width) is not the image's.

    Raises:
        DataError: names the mask and both sizes.
    """
    if image != labels:
        raise mismatch(record, image=(image[0], image[1]), mask=(labels[0], labels[1]))


def mismatch(record: Record, *, image: Size, mask: Size) -> DefectError:
    """The error for a mask of another size than its image, with what may have led to it."""
    file = record.mask or record.image
    if not is_image_name(file.name):
        return _contradiction(record, file, image=image, said=mask)
    sizes = (
        f"the mask is {mask[0]} x {mask[1]} pixels (height x width) and its image {record.image} is {image[0]} x "
        f"{image[1]}"
    )
    if resizable(image=image, mask=mask):
        detail = f"{sizes}; make the mask anew at the image's size, or say resize_masks: true"
        return DefectError(Kind.SIZE_DIFFERS, file, detail)
    if not _same_aspect(image, mask[::-1]):
        return DefectError(Kind.SIZE_DIFFERS, file, f"{sizes}; make the mask anew at the image's size")
    tag, own = _tags(record)
    if tag >= 5 > own:
        return DefectError(
            Kind.EXIF_TURNED,
            file,
            f"{sizes} as its EXIF tag (orientation {tag}) turns it, as viewers do; turn the mask too, or take the tag "
            "away",
        )
    if own >= 5 > tag:
        return DefectError(
            Kind.EXIF_TURNED,
            file,
            f"{sizes}, as the mask is turned by an EXIF tag of its own (orientation {own}), which its image lacks; "
            "take the tag off the mask, or turn the image too",
        )
    detail = f"{sizes}, as if one of them had been turned; turn the mask, or make it anew at the image's size"
    return DefectError(Kind.SIZE_DIFFERS, file, detail)


def _contradiction(record: Record, file: Path, *, image: Size, said: Size) -> DefectError:
    """The error for outlines, in whose file a size is written."""
    detail = (
        f"says that {record.id} is {said[0]} x {said[1]} pixels (height x width; imageHeight and imageWidth in "
        f"LabelMe, height and width in COCO), and the image {record.image} is {image[0]} x {image[1]}"
    )
    if resizable(image=image, mask=said):
        return DefectError(Kind.SIZE_DIFFERS, file, f"{detail}; correct what is wrong, or say resize_masks: true")
    if said == image[::-1] and (tag := orientation(record.image)) >= 5:
        turned = f"{detail} as its EXIF tag (orientation {tag}) turns it, as viewers do; turn the outlines too"
        return DefectError(Kind.EXIF_TURNED, file, f"{turned}, or take the tag away")
    return DefectError(Kind.SIZE_DIFFERS, file, f"{detail}; correct the size, or outline the image anew")


def resizable(*, image: Size, mask: Size) -> bool:
    """Whether a mask shows all of its image the same way up: it has the image's aspect ratio, but for rounding."""
    return mask != image[::-1] and _same_aspect(image, mask)


def turn_of(record: Record, size: Size, values: ValueSource | None = None) -> Turn:
    """What is known of an image and a mask that have the same size.

    Args:
        values: what reads the mask. Outlines have no tag to go by, and those whose file says no size fit any turn.
    """
    if record.mask is not None and not is_image_name(record.mask.name):
        if isinstance(values, OutlineSource) and orientation(record.image) != 1 and not values.says_size(record):
            return Turn.UNSEEN
        return Turn.NONE
    tag, own = _tags(record)
    if tag == own:
        return Turn.NONE
    if (tag >= 5) != (own >= 5) and size[0] != size[1]:
        return Turn.SHOWN
    return Turn.UNSEEN if own == 1 else Turn.OF_MASK


def orientation(path: Path) -> int:
    """The EXIF orientation of a file, 1 to 8; 1 where it has none or cannot be opened."""
    try:
        tiff = read_tiff_header(path)
        if tiff is not None:
            return tiff.orientation
        with opened(path) as file:
            return file.orientation
    except PyramidSegError:
        return 1


def _tags(record: Record) -> tuple[int, int]:
    return orientation(record.image), 1 if record.mask is None else orientation(record.mask)


def _same_aspect(one: Size, other: Size) -> bool:
    """Whether either is the other scaled, with its sides rounded to whole pixels."""
    return _is_scaled(one, other) or _is_scaled(other, one)


def _is_scaled(rounded: Size, exact: Size) -> bool:
    """Whether some factor brings both sides of `exact` to less than a pixel from those of `rounded`."""
    (height, width), (tall, wide) = rounded, exact
    return (height - 1) * wide < (width + 1) * tall and (width - 1) * tall < (height + 1) * wide
