"""Masks that hold a colour a pixel: each colour, packed into one integer, is a source value."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import opaque, refuse_lossy
from pyramidseg.data.records import Record
from pyramidseg.images.open_image import apply_orientation, open_image, pixels


@dataclass(frozen=True)
class ColorValues:
    """RGB masks, and palette masks by the colours of their palette.

    Attributes:
        known: the colours that mean something, packed.
        tolerance: the largest difference in any channel at which a colour still counts as the nearest known one. With
            a tolerance JPEG files are taken too.
    """

    known: tuple[int, ...] = ()
    tolerance: int = 0
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint32]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        values = packed(read_colors(record.mask, lossy=self.tolerance > 0))
        return self._snapped(values) if self.tolerance and self.known else values

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return ", ".join(f"#{value:06x}" for value in values) or "none"

    def _snapped(self, values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Every colour within the tolerance replaced by the nearest known one (by its largest channel difference)."""
        found, places = np.unique(values, return_inverse=True)
        known = np.array(self.known, np.uint32)
        distance = np.abs(_unpacked(found)[:, None] - _unpacked(known)[None]).max(axis=2)
        nearest = distance.argmin(axis=1)
        within = distance[np.arange(len(found)), nearest] <= self.tolerance
        snapped: NDArray[np.uint32] = np.where(within, known[nearest], found)[places].reshape(values.shape)
        return snapped


def read_colors(path: Path, *, lossy: bool = False) -> NDArray[np.uint8]:
    """The colours of a mask file, (H, W, 3).

    Raises:
        DataError: unreadable, transparent, without colours, or JPEG or lossy WebP unless `lossy`.
    """
    with open_image(path) as file:
        if not lossy:
            refuse_lossy(path, file)
        if file.image.mode == "P":
            return apply_orientation(pixels(file.image.convert("RGB")), file.orientation).astype(np.uint8, copy=False)
        if file.image.mode == "L":
            values = apply_orientation(pixels(file.image), file.orientation).astype(np.uint8, copy=False)
            return np.repeat(values[..., None], 3, axis=2)
        if file.image.mode not in ("LA", "RGB", "RGBA") or file.bits != 8:
            raise DefectError(
                DefectKind.UNREADABLE_MASK,
                path,
                f"colours of classes are read from 8-bit RGB or palette masks, and this file holds {file.image.mode} "
                f"pixels of {file.bits} bits; save it as 8-bit RGB",
            )
        colors = opaque(path, file)
        return np.broadcast_to(colors, (*colors.shape[:2], 3))


def pack(color: Color) -> int:
    """A colour as one integer, red in the highest byte: what `#rrggbb` means."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack(value: int) -> Color:
    """The inverse of `pack`."""
    return value >> 16, value >> 8 & 255, value & 255


def packed(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(H, W, 3) uint8 to (H, W) uint32."""
    red, green, blue = np.moveaxis(colors.astype(np.uint32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue, np.uint32)


def _unpacked(values: NDArray[np.uint32]) -> NDArray[np.int32]:
    """(N,) to (N, 3), signed, for differences."""
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.int32)
