"""Masks with one colour per pixel: each colour, packed into an integer, is a mask value."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Color
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import check_lossless, opaque_colors
from pyramidseg.data.records import Record
from pyramidseg.images.open_image import open_image


@dataclass(frozen=True)
class ColorValues:
    """Reads RGB masks, and palette masks by their palette's colours.

    Attributes:
        known: the packed colours of classes and ignored values.
        tolerance: a colour is replaced by the nearest known one if no channel differs by more than this. With a
            tolerance, lossy files are allowed too.
    """

    known: tuple[int, ...] = ()
    tolerance: int = 0
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint32]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        values = packed(read_colors(record.mask, lossy=self.tolerance > 0))
        return self._nearest_known(values) if self.tolerance and self.known else values

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return ", ".join(f"#{value:06x}" for value in values) or "none"

    def _nearest_known(self, values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Replace every colour within the tolerance by the nearest known one, by the largest channel difference."""
        found, places = np.unique(values, return_inverse=True)
        known = np.array(self.known, np.uint32)
        distance = np.abs(_unpacked(found)[:, None] - _unpacked(known)[None]).max(axis=2)
        nearest = distance.argmin(axis=1)
        within = distance[np.arange(len(found)), nearest] <= self.tolerance
        replaced: NDArray[np.uint32] = np.where(within, known[nearest], found)[places].reshape(values.shape)
        return replaced


def read_colors(path: Path, *, lossy: bool = False) -> NDArray[np.uint8]:
    """The colours of a mask file, (H, W, 3).

    Args:
        lossy: allow JPEG and lossy WebP.

    Raises:
        DataError: the file is unreadable, transparent, lossy, or not 8-bit RGB, grey or palette.
    """
    with open_image(path) as file:
        if not lossy:
            check_lossless(file)
        mode = file.image.mode
        if mode == "P":
            return file.pixels("RGB").astype(np.uint8, copy=False)
        if mode == "L":
            return np.repeat(file.pixels().astype(np.uint8, copy=False)[..., None], 3, axis=2)
        if mode not in ("LA", "RGB", "RGBA") or file.bits != 8:
            raise DefectError(
                DefectKind.UNREADABLE_MASK,
                path,
                "class colours are read from 8-bit RGB or palette masks, but this file has Pillow mode "
                f"{mode} with {file.bits} bits; save it as 8-bit RGB",
            )
        colors = opaque_colors(file)
        return np.broadcast_to(colors, (*colors.shape[:2], 3))


def pack(color: Color) -> int:
    """A colour as one integer, 0xRRGGBB."""
    red, green, blue = color
    return red << 16 | green << 8 | blue


def unpack(value: int) -> Color:
    """The inverse of `pack`."""
    return value >> 16, value >> 8 & 255, value & 255


def packed(colors: NDArray[np.uint8]) -> NDArray[np.uint32]:
    """(H, W, 3) uint8 to (H, W) uint32; see `pack`."""
    red, green, blue = np.moveaxis(colors.astype(np.uint32), -1, 0)
    return np.asarray(red << 16 | green << 8 | blue, np.uint32)


def _unpacked(values: NDArray[np.uint32]) -> NDArray[np.int32]:
    """(N,) to (N, 3), signed so that differences can be negative."""
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.int32)
