"""Masks with one colour per pixel: each colour, packed into an integer, is a mask value."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import Color
from pyramidseg.base.config import Transparent
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.data.index_masks import check_lossless, visible_colors, with_hidden
from pyramidseg.data.records import Record
from pyramidseg.images.open_image import open_image

HIDDEN = 1 << 24
"""Value of transparent pixels that are ignored; no colour has it."""


@dataclass(frozen=True)
class ColorValues:
    """Reads RGB masks, and palette masks by their palette's colours.

    Attributes:
        known: the packed colours of classes and ignored values.
        tolerance: a colour is replaced by the nearest known one if no channel differs by more than this. With a
            tolerance, lossy files are allowed too.
        transparent: what transparent pixels are; None refuses them.
    """

    known: tuple[int, ...] = ()
    tolerance: int = 0
    transparent: Transparent | None = None

    @property
    def ignored_values(self) -> tuple[int, ...]:
        return (HIDDEN,) if self.transparent == "ignore" else ()

    def read(self, record: Record) -> NDArray[np.uint32]:
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        values = read_colors(record.mask, lossy=self.tolerance > 0, transparent=self.transparent)
        return self._nearest_known(values) if self.tolerance and self.known else values

    def describe(self, values: Iterable[int]) -> str:
        texts = ["transparent pixels" if value == HIDDEN else f"#{value:06x}" for value in values]
        return ", ".join(texts) or "none"

    def _nearest_known(self, values: NDArray[np.uint32]) -> NDArray[np.uint32]:
        """Replace every colour within the tolerance by the nearest known one, by the largest channel difference."""
        found, places = np.unique(values, return_inverse=True)
        known = np.array(self.known, np.uint32)
        distance = np.abs(unpacked(found)[:, None] - unpacked(known)[None]).max(axis=2)
        nearest = distance.argmin(axis=1)
        within = (distance[np.arange(len(found)), nearest] <= self.tolerance) & (found != HIDDEN)
        replaced: NDArray[np.uint32] = np.where(within, known[nearest], found)[places].reshape(values.shape)
        return replaced


def read_colors(path: Path, *, lossy: bool = False, transparent: Transparent | None = None) -> NDArray[np.uint32]:
    """The packed colours of a mask file, (H, W).

    Args:
        lossy: allow lossy files.
        transparent: what transparent pixels are: black, or ignored (`HIDDEN`).

    Raises:
        DataError: the file is unreadable, transparent, lossy, or not 8-bit RGB, grey or palette.
    """
    with open_image(path) as file:
        if not lossy:
            check_lossless(file)
        mode = file.image.mode
        if mode == "P":
            return packed(file.pixels("RGB").astype(np.uint8, copy=False))
        if mode == "L":
            return packed(np.repeat(file.pixels().astype(np.uint8, copy=False)[..., None], 3, axis=2))
        if mode not in ("LA", "RGB", "RGBA") or file.bits != 8:
            detail = (
                "class colours are read from 8-bit RGB or palette masks, but this file has Pillow mode "
                f"{mode} with {file.bits} bits; save it as 8-bit RGB"
            )
            raise DefectError(DefectKind.UNREADABLE_MASK, path, detail)
        colors, hidden = visible_colors(file, transparent)
        values = packed(np.broadcast_to(colors, (*colors.shape[:2], 3)))
        return with_hidden(values, hidden, transparent, ignored=HIDDEN)


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


def unpacked(values: NDArray[np.uint32]) -> NDArray[np.int32]:
    """(N,) to (N, 3), signed so that differences can be negative."""
    return np.stack([values >> 16, values >> 8 & 255, values & 255], axis=1).astype(np.int32)
