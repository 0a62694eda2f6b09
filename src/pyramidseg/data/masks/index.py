"""Masks that hold one integer a pixel."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import IGNORE, Color
from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.image_files import OpenImage, opened, pixels, turn
from pyramidseg.data.masks.palettes import in_order, palette_of
from pyramidseg.data.records import Record
from pyramidseg.data.tiff import TiffHeader, decode_tiff, read_tiff_header
from pyramidseg.errors import DataError

MAX_INDEX = 65535

_INTEGER_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
_COLOR_MODES = ("LA", "RGB", "RGBA")


@dataclass(frozen=True)
class IndexValues:
    """Grey levels, palette indices or bits of a file; see `read_mask_values`.

    Attributes:
        colors: values of the class list with their colours: a palette that holds these in another order counts by them.
        stated: whether somebody has said which value is which class, whatever colours palettes give to them.
    """

    colors: tuple[tuple[int, Color], ...] = ()
    stated: bool = field(default=False, compare=False)
    void: ClassVar[tuple[int, ...]] = (IGNORE,)

    def read(self, record: Record) -> NDArray[np.uint8] | NDArray[np.uint16]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        return read_mask_values(record.mask, colors=dict(self.colors))

    def in_words(self, values: Iterable[int]) -> str:
        """See `ValueSource.in_words`."""
        return in_ranges(values)


def read_mask_values(
    path: Path, *, colors: Mapping[int, Color] = MappingProxyType({})
) -> NDArray[np.uint8] | NDArray[np.uint16]:
    """The integers that a mask file holds: grey levels, palette indices, or bits; grey saved as RGB counts as grey.

    Whole numbers of a floating-point TIFF count too, which GIS software makes of polygons unless told otherwise.

    A mask is turned by its own EXIF tag, as images are, so that what a viewer shows side by side belongs together.

    Args:
        colors: by value; see `IndexValues`.

    Returns:
        (H, W) uint8 or uint16.

    Raises:
        DataError: unreadable, lossy (which changes labels), transparent, or anything but one integer a pixel.
    """
    tiff = read_tiff_header(path)
    if tiff is not None and not tiff.plain:
        return _of_bands(path, tiff)
    with opened(path) as file:
        refuse_lossy(path, file)
        if file.image.mode == "F":
            return _whole(path, turn(pixels(file.image), file.orientation))
        if file.image.mode in _COLOR_MODES and file.bits == 8:
            colored = opaque(path, file)
            if not grey(colored):
                raise DefectError(
                    Kind.UNEXPECTED_COLORS,
                    path,
                    "holds colours, and which class each of them is has not been said; give every class its color in a "
                    "YAML file (classes: [{name: road, color: [128, 64, 128]}, ...])",
                )
            return np.ascontiguousarray(colored[..., 0])
        if file.image.mode not in _INTEGER_MODES:
            raise DefectError(
                Kind.UNREADABLE_MASK,
                path,
                "a mask needs one integer a pixel (grey, palette or 1-bit PNG or TIFF) or 8-bit RGB colours, and this "
                f"file holds {file.image.mode} pixels of {file.bits} bits; save the class index of each pixel instead",
            )
        values = _as_stored(path, turn(pixels(file.image), file.orientation), file)
        if colors and file.image.mode == "P":
            return in_order(values.astype(np.uint8, copy=False), palette_of(file.image), colors)
        return values


def refuse_lossy(path: Path, file: OpenImage) -> None:
    """Refuse a mask whose labels have been through the losses of JPEG or WebP.

    Raises:
        DataError: it is one, whatever its name says.
    """
    if file.lossy:
        raise DefectError(
            Kind.LOSSY_MASK,
            path,
            f"a {file.lossy} file cannot be an exact mask, as its compression changes labels; save it as PNG, or say "
            "how far values may be off (data.threshold=128 for binary masks, data.tolerance=20 for colours)",
        )


def opaque(path: Path, file: OpenImage) -> NDArray[np.uint8]:
    """The colours of an RGB, RGBA or LA mask, turned: (H, W, 3), or (H, W, 1) of LA.

    Raises:
        DataError: some pixels are transparent, which is no label.
    """
    refuse_transparent(path, file)
    values = turn(pixels(file.image), file.orientation).astype(np.uint8, copy=False)
    return values[..., :1] if file.image.mode == "LA" else values[..., :3]


def refuse_transparent(path: Path, file: OpenImage) -> None:
    """Refuse a mask whose alpha channel hides pixels; what lies below is often anything.

    Palettes and key colours that are shown as transparent hide nothing: each pixel keeps its value.

    Raises:
        DataError: it is one.
    """
    if "A" in file.image.getbands() and file.image.getchannel("A").getextrema() != (255, 255):
        raise DefectError(
            Kind.TRANSPARENT_MASK,
            path,
            "a mask with transparent pixels, which stand for no class; save it without alpha",
        )


def grey(colors: NDArray[np.uint8]) -> bool:
    """Whether (H, W, 3) holds no colour but grey, as (H, W, 1) never does."""
    return bool((colors[..., :-1] == colors[..., 1:]).all())


def in_ranges(values: Iterable[int]) -> str:
    """Integers in words: `0-18, 255`, or `none`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs) or "none"


def _as_stored(path: Path, values: NDArray[Any], file: OpenImage) -> NDArray[np.uint8] | NDArray[np.uint16]:
    if file.image.mode == "L" and file.bits in (2, 4):
        return values // np.uint8(255 // (2**file.bits - 1))  # Pillow spreads small grey levels over 0-255
    if file.image.mode in ("1", "L", "P"):
        return values.astype(np.uint8, copy=False)
    return _whole(path, values)


def _of_bands(path: Path, tiff: TiffHeader) -> NDArray[np.uint16]:
    """A TIFF that Pillow does not hold."""
    if tiff.bands != 1:
        raise DefectError(
            Kind.UNREADABLE_MASK,
            path,
            f"a mask needs one integer a pixel, and this file holds {tiff.bands} bands of {tiff.dtype}; save the class "
            "index of each pixel instead",
        )
    return _whole(path, turn(decode_tiff(path, tiff)[..., 0], tiff.orientation))


def _whole(path: Path, values: NDArray[Any]) -> NDArray[np.uint16]:
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():  # which NaN is not either
        value = values[values != np.rint(values)][0]
        detail = f"mask value {value:g} is no whole number, so it is no class; save class indices"
        raise DefectError(Kind.UNREADABLE_MASK, path, detail)
    low, high = float(values.min()), float(values.max())
    if low < 0 or high > MAX_INDEX:
        raise DefectError(
            Kind.UNREADABLE_MASK,
            path,
            f"mask values from {low:.15g} to {high:.15g}: values from 0 to {MAX_INDEX} are possible; save the class "
            "index of each pixel instead",
        )
    return values.astype(np.uint16)
