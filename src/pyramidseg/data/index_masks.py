"""Masks with one integer per pixel: class indices, and grey levels with a threshold."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.base.config import Transparent
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Record
from pyramidseg.images.array_files import read_array_mask
from pyramidseg.images.image_files import is_array_name
from pyramidseg.images.open_image import OpenImage, open_image
from pyramidseg.images.palette import palette_colors, reorder_by_color

MAX_INDEX = 65535

NODATA_VALUE = MAX_INDEX + 1
"""Value of pixels without a class index, which are ignored: see `IndexValues`."""

OPAQUE_FROM = 128
"""Alpha from here on is opaque."""

NODATA_KEYWORD = "nodata"
"""An entry of `ignore`: NaN, and the file's own nodata value, if these cannot be class indices."""

MIN_IGNORED = -(2**31)
"""The lowest number that can be ignored."""

_SHOWN = 3

_INTEGER_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
_COLOR_MODES = ("LA", "RGB", "RGBA")


@dataclass(frozen=True)
class IndexValues:
    """Reads grey levels, palette indices or bits of a file, and whole numbers of a floating-point TIFF.

    GIS software writes floating-point masks by default, and fills pixels without a class with numbers that are not
    indices.

    Attributes:
        colors: values of the class list with their colours; the indices of a palette that has these colours in another
            order are reordered.
        negative: negative numbers to ignore.
        nodata: whether to ignore what `NODATA_KEYWORD` stands for.
        transparent: what transparent pixels are; None refuses them.
        explicit: whether the user has stated the class of every value, so that palette colours do not matter.
        binary: whether the values are background and foreground.
    """

    colors: tuple[tuple[int, Color], ...] = ()
    negative: tuple[int, ...] = ()
    nodata: bool = False
    transparent: Transparent | None = None
    explicit: bool = field(default=False, compare=False)
    binary: bool = field(default=False, compare=False)

    @property
    def ignored_values(self) -> tuple[int, ...]:
        has_ignored = self.negative or self.nodata or self.transparent == "ignore"
        return (IGNORE, NODATA_VALUE) if has_ignored else (IGNORE,)

    def ignored_numbers(self, own: float | None = None) -> tuple[float, ...]:
        """The numbers of a file with this nodata value to ignore although they are not indices."""
        return (*self.negative, *((np.nan, np.nan if own is None else own) if self.nodata else ()))

    def read(self, record: Record) -> NDArray[np.unsignedinteger[Any]]:
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        return read_mask_values(record.mask, self)

    def describe(self, values: Iterable[int]) -> str:
        values = set(values)
        indices, parts = values - {NODATA_VALUE}, []
        if NODATA_VALUE in values:
            parts = [*map(str, self.negative), *([NODATA_KEYWORD] if self.nodata else [])]
            parts += ["transparent pixels"] if self.transparent == "ignore" else []
        return ", ".join([describe_ranges(indices), *parts] if indices or not parts else parts)


PLAIN_INDICES = IndexValues()
"""Indices without class colours and without ignored numbers."""


def read_mask_values(path: Path, how: IndexValues = PLAIN_INDICES) -> NDArray[np.unsignedinteger[Any]]:
    """The integers of a mask file: grey levels, palette indices, or bits. Grey saved as RGB is read as grey.

    The mask's own EXIF orientation is applied, as for images. -1 in an array becomes `IGNORE`.

    Returns:
        (H, W) uint8 or uint16; uint32 if it contains `NODATA_VALUE`.

    Raises:
        DataError: the file is unreadable, lossy (which changes labels), transparent, or not one integer per pixel.
    """
    if is_array_name(path.name):
        values = read_array_mask(path)
        if values.dtype.kind == "i" and values.size and values.min() == -1 and values.max() < IGNORE:
            values = np.where(values == -1, np.uint8(IGNORE), values.astype(np.uint8))  # as labelme2voc does for PNG
        return values if values.dtype == np.uint8 else _to_indices(path, values, how.ignored_numbers())
    with open_image(path) as file:
        ignored = how.ignored_numbers(file.tiff.nodata_value if file.tiff is not None else None)
        if file.is_raster:
            return _raster_values(file, ignored)
        check_lossless(file)
        mode = file.image.mode
        if mode == "F":
            return _to_indices(path, file.pixels(), ignored)
        if mode in _COLOR_MODES and file.bits == 8:
            colors, hidden = visible_colors(file, how.transparent)
            if not is_grey(colors):
                detail = (
                    "contains colours, but the class of each colour is unknown; give every class its color in a YAML "
                    "file (classes: [{name: road, color: [128, 64, 128]}, ...])"
                )
                raise DefectError(DefectKind.UNEXPECTED_COLORS, path, detail)
            return with_hidden(np.ascontiguousarray(colors[..., 0]), hidden, how.transparent, ignored=NODATA_VALUE)
        if mode not in _INTEGER_MODES:
            detail = (
                "a mask needs one integer per pixel (grey, palette or 1-bit PNG or TIFF) or 8-bit RGB colours, but "
                f"this file has Pillow mode {mode} with {file.bits} bits; save the class index of each pixel instead"
            )
            raise DefectError(DefectKind.UNREADABLE_MASK, path, detail)
        values = file.pixels()
        if mode == "P" and how.colors:
            return reorder_by_color(values.astype(np.uint8, copy=False), palette_colors(file.image), dict(how.colors))
        if mode == "L" and file.bits in (2, 4):
            return values // np.uint8(255 // (2**file.bits - 1))  # Pillow scales small grey levels to 0-255
        return values.astype(np.uint8, copy=False) if mode in ("1", "L", "P") else _to_indices(path, values, ignored)


def check_lossless(file: OpenImage) -> None:
    """Reject a mask in a lossy JPEG or WebP compression.

    Raises:
        DataError: it is lossy, whatever its extension.
    """
    if file.lossy_compression:
        detail = (
            f"a {file.lossy_compression} file cannot be an exact mask because its compression changes labels; save it "
            "as PNG, or allow deviations (data.threshold=128 for binary masks, data.tolerance=20 for colours)"
        )
        raise DefectError(DefectKind.LOSSY_MASK, file.path, detail)


def visible_colors(
    file: OpenImage, transparent: Transparent | None
) -> tuple[NDArray[np.uint8], NDArray[np.bool_] | None]:
    """The colours of an RGB, RGBA or LA mask, (H, W, 3), or (H, W, 1) of LA; and where it is transparent, or None.

    Transparent pixels are black: the values below transparency are often arbitrary.

    Raises:
        DataError: some pixels are transparent, and `transparent` does not state what they are.
    """
    hidden = hidden_pixels(file, transparent)
    values: NDArray[np.uint8] = file.pixels().astype(np.uint8, copy=False)
    colors = values[..., :1] if file.image.mode == "LA" else values[..., :3]
    return colors if hidden is None else np.where(hidden[..., None], np.uint8(0), colors), hidden


def hidden_pixels(file: OpenImage, transparent: Transparent | None) -> NDArray[np.bool_] | None:
    """(H, W) bool, True where the alpha channel of a mask hides pixels; None if it hides none.

    Transparent palette entries and key colours are not looked at, because each pixel keeps its value.

    Raises:
        DataError: as `visible_colors`.
    """
    if "A" not in file.image.getbands() or file.image.getchannel("A").getextrema() == (255, 255):
        return None
    if transparent is None:
        detail = (
            "has transparent pixels; if they are background, set data.transparent=background (0, or black), if they "
            "have no class, data.transparent=ignore, and if their colours are labels, save it without alpha"
        )
        raise DefectError(DefectKind.TRANSPARENT_MASK, file.path, detail)
    return np.asarray(file.pixels()[..., -1] < OPAQUE_FROM)


def with_hidden(
    values: NDArray[Any], hidden: NDArray[np.bool_] | None, transparent: Transparent | None, *, ignored: int
) -> NDArray[Any]:
    """Mask values (H, W) whose hidden pixels, if they are ignored, have a value of their own."""
    if hidden is None or transparent != "ignore":
        return values
    return np.where(hidden, np.uint32(ignored), values.astype(np.uint32))


def is_grey(colors: NDArray[np.uint8]) -> bool:
    """Whether all pixels of (H, W, 3) are grey; always true of (H, W, 1)."""
    return bool((colors[..., :-1] == colors[..., 1:]).all())


def describe_ranges(values: Iterable[int]) -> str:
    """Integers as text: `0-18, 255`; `none` if there are none."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs) or "none"


class NamedValues:
    """Base of a `ValueSource` whose values have names.

    Attributes:
        names: of the classes, by value.
    """

    names: tuple[str, ...]

    def describe(self, values: Iterable[int]) -> str:
        """Values by their names: `background, car`; `none` if there are none."""
        names = self.names
        return ", ".join(names[value] if value < len(names) else str(value) for value in values) or "none"


def _raster_values(file: OpenImage, ignored: Collection[float]) -> NDArray[np.unsignedinteger[Any]]:
    assert file.tiff is not None
    if file.tiff.bands != 1:
        detail = (
            f"a mask needs one integer per pixel, but this file has {file.tiff.bands} bands of {file.tiff.dtype}; "
            "save the class index of each pixel instead"
        )
        raise DefectError(DefectKind.UNREADABLE_MASK, file.path, detail)
    return _to_indices(file.path, file.pixels()[..., 0], ignored)


def _to_indices(path: Path, values: NDArray[Any], ignored: Collection[float]) -> NDArray[np.unsignedinteger[Any]]:
    """The values as indices, and `NODATA_VALUE` for ignored numbers that cannot be indices."""
    out_of_range = ~((values >= 0) & (values <= MAX_INDEX))  # NaN too
    if out_of_range.any():
        _check_all_ignored(path, values[out_of_range & ~_is_any_of(values, ignored)])
        values = np.where(out_of_range, 0, values)
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        value = values[values != np.rint(values)][0]
        detail = f"mask value {value:g} is not a whole number; save class indices"
        raise DefectError(DefectKind.UNREADABLE_MASK, path, detail)
    if out_of_range.any():
        return np.where(out_of_range, np.uint32(NODATA_VALUE), values.astype(np.uint32))
    return values.astype(np.uint16)


def _is_any_of(values: NDArray[Any], numbers: Collection[float]) -> NDArray[np.bool_]:
    if values.dtype.kind != "f":
        return np.isin(values, [int(number) for number in numbers if float(number).is_integer()])
    with np.errstate(over="ignore"):  # beyond float32 it becomes infinite, as the values did
        found = np.isin(values, np.array([*numbers], np.float32))
    return found | np.isnan(values) if any(map(np.isnan, numbers)) else found


def _check_all_ignored(path: Path, values: NDArray[Any]) -> None:
    """Reject numbers that are neither indices nor ignored.

    Raises:
        DataError: lists them, and the setting that ignores them.
    """
    numbers = np.unique(values).tolist()
    if not numbers:
        return
    found = first_few([f"{number:.15g}" for number in numbers[:_SHOWN]], limit=_SHOWN, total=len(numbers))
    listable = len(numbers) <= _SHOWN and all(MIN_IGNORED <= number < 0 and number == int(number) for number in numbers)
    setting = f"[{', '.join(str(int(number)) for number in numbers)}]" if listable else NODATA_KEYWORD
    detail = (
        f"mask values {found} are not between 0 and {MAX_INDEX}; save class indices, or, if these pixels should be "
        f"ignored{'' if listable else ' and are NaN or the nodata value of the file'}, list them under ignore "
        f"(data.ignore={setting})"
    )
    raise DefectError(DefectKind.UNREADABLE_MASK, path, detail)


# Binary masks blurred by anti-aliasing or JPEG: a threshold separates the two classes.

BACKGROUND, FOREGROUND = 0, 255


@dataclass(frozen=True)
class ThresholdValues:
    """Reads whole numbers as 0 below the threshold and 255 from it on. Lossy files are allowed; colours become luma.

    Attributes:
        threshold: 1 to 65535.
        transparent: as in `IndexValues`.
    """

    threshold: int
    transparent: Transparent | None = None
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.unsignedinteger[Any]]:
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        if is_array_name(record.mask.name):
            levels, hidden = read_array_mask(record.mask), None
        else:
            with open_image(record.mask) as file:
                levels, hidden = self._levels(file)
        is_foreground = levels >= self.threshold if hidden is None else (levels >= self.threshold) & ~hidden
        values = np.where(is_foreground, FOREGROUND, BACKGROUND).astype(np.uint8)
        return with_hidden(values, hidden, self.transparent, ignored=NODATA_VALUE)

    def _levels(self, file: OpenImage) -> tuple[NDArray[np.integer[Any]], NDArray[np.bool_] | None]:
        """(H, W) whole numbers of any type, or 8-bit luma; and the hidden pixels."""
        is_raster = file.is_raster
        mode = "" if is_raster else file.image.mode
        if not is_raster and file.bits <= 8 and mode in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
            return file.pixels("L").astype(np.uint8, copy=False), hidden_pixels(file, self.transparent)
        levels = file.pixels()
        levels = levels[..., 0] if is_raster and levels.shape[-1] == 1 else levels
        if levels.ndim == 2 and (levels.dtype.kind in "iu" or np.array_equal(levels, np.floor(np.abs(levels)))):
            return levels, None
        kind = f"{file.tiff.bands} bands of {file.tiff.dtype}" if is_raster and file.tiff else f"Pillow mode {mode}"
        detail = (
            f"data.threshold needs one integer per pixel or 8-bit colours, but this file has {kind}; save it as a grey "
            "PNG, or do not set data.threshold"
        )
        raise DefectError(DefectKind.UNREADABLE_MASK, file.path, detail)

    def describe(self, values: Iterable[int]) -> str:
        return describe_ranges(values)
