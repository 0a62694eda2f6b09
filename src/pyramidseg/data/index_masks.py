"""Masks that hold one integer a pixel."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.classes import IGNORE, Color
from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.text import first_few
from pyramidseg.data.records import Record
from pyramidseg.images.open_image import OpenImage, apply_orientation, open_image, pixels
from pyramidseg.images.palette import in_order, palette_colors
from pyramidseg.images.tiff import TiffHeader, decode_tiff, read_tiff_header

# Values in words, where a format gives them names.


def describe_names(values: Iterable[int], names: Sequence[str]) -> str:
    """Values by their names: `background, car`; `none` where there are none."""
    return ", ".join(names[value] if value < len(names) else str(value) for value in values) or "none"


MAX_INDEX = 65535

NODATA_VALUE = MAX_INDEX + 1
"""Stands for what a file holds in place of an index, and what counts nowhere: see `IndexValues`."""

NODATA_KEYWORD = "nodata"
"""In `ignore`: NaN, and what a file's own nodata tag names, as far as these can be no index."""

MIN_IGNORED = -(2**31)
"""The least number that can be ignored."""

_SHOWN = 3

_INTEGER_MODES = ("1", "L", "P", "I;16", "I;16B", "I;16L", "I;16N", "I")
_COLOR_MODES = ("LA", "RGB", "RGBA")


@dataclass(frozen=True)
class IndexValues:
    """Grey levels, palette indices or bits of a file; whole numbers of a floating-point TIFF count too.

    GIS software makes the latter of polygons unless told otherwise, and fills up with numbers that are no index.

    Attributes:
        colors: values of the class list with their colours: a palette that holds these in another order counts by them.
        negative: negative numbers that count nowhere.
        nodata: whether `NODATA_KEYWORD` counts nowhere.
        explicit: whether somebody has said which value is which class, whatever colours palettes give to them.
    """

    colors: tuple[tuple[int, Color], ...] = ()
    negative: tuple[int, ...] = ()
    nodata: bool = False
    explicit: bool = field(default=False, compare=False)

    @property
    def ignored_values(self) -> tuple[int, ...]:
        """See `ValueSource.void`."""
        return (IGNORE, NODATA_VALUE) if self.negative or self.nodata else (IGNORE,)

    def read(self, record: Record) -> NDArray[np.unsignedinteger[Any]]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        return read_mask_values(record.mask, self)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        values = set(values)
        nothing = (
            [*map(str, self.negative), *([NODATA_KEYWORD] if self.nodata else [])] if NODATA_VALUE in values else []
        )
        indices = values - {NODATA_VALUE}
        return ", ".join([describe_ranges(indices), *nothing] if indices or not nothing else nothing)


PLAIN_INDICES = IndexValues()
"""Indices and no more."""


def read_mask_values(path: Path, how: IndexValues = PLAIN_INDICES) -> NDArray[np.unsignedinteger[Any]]:
    """The integers that a mask file holds: grey levels, palette indices, or bits; grey saved as RGB counts as grey.

    A mask is turned by its own EXIF tag, as images are, so that what a viewer shows side by side belongs together.

    Returns:
        (H, W) uint8 or uint16; uint32 where there is `NODATA_VALUE`.

    Raises:
        DataError: unreadable, lossy (which changes labels), transparent, or anything but one integer a pixel.
    """
    tiff = read_tiff_header(path)
    nothing = _nothing(tiff, how)
    if tiff is not None and not tiff.plain:
        return _of_bands(path, tiff, nothing)
    with open_image(path) as file:
        refuse_lossy(path, file)
        if file.image.mode == "F":
            return _whole(path, apply_orientation(pixels(file.image), file.orientation), nothing)
        if file.image.mode in _COLOR_MODES and file.bits == 8:
            colored = opaque(path, file)
            if not grey(colored):
                raise DefectError(
                    DefectKind.UNEXPECTED_COLORS,
                    path,
                    "holds colours, and which class each of them is has not been said; give every class its color in a "
                    "YAML file (classes: [{name: road, color: [128, 64, 128]}, ...])",
                )
            return np.ascontiguousarray(colored[..., 0])
        if file.image.mode not in _INTEGER_MODES:
            raise DefectError(
                DefectKind.UNREADABLE_MASK,
                path,
                "a mask needs one integer a pixel (grey, palette or 1-bit PNG or TIFF) or 8-bit RGB colours, and this "
                f"file holds {file.image.mode} pixels of {file.bits} bits; save the class index of each pixel instead",
            )
        values = apply_orientation(pixels(file.image), file.orientation)
        if file.image.mode == "P" and how.colors:
            return in_order(values.astype(np.uint8, copy=False), palette_colors(file.image), dict(how.colors))
        return _as_stored(path, values, file, nothing)


def has_nodata(path: Path) -> bool:
    """Whether a mask holds NaN, or may hold what its own nodata tag names, and that can be no index.

    Raises:
        DataError: unreadable.
    """
    tiff = read_tiff_header(path)
    if tiff is None or tiff.bands != 1 or tiff.dtype in ("uint8", "uint16"):
        return False
    if tiff.nodata is not None and not 0 <= tiff.nodata <= MAX_INDEX:  # NaN too
        return True
    return tiff.dtype.startswith("float") and bool(np.isnan(decode_tiff(path, tiff)).any())


def refuse_lossy(path: Path, file: OpenImage) -> None:
    """Refuse a mask whose labels have been through the losses of JPEG or WebP.

    Raises:
        DataError: it is one, whatever its name says.
    """
    if file.lossy:
        raise DefectError(
            DefectKind.LOSSY_MASK,
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
    values = apply_orientation(pixels(file.image), file.orientation).astype(np.uint8, copy=False)
    return values[..., :1] if file.image.mode == "LA" else values[..., :3]


def refuse_transparent(path: Path, file: OpenImage) -> None:
    """Refuse a mask whose alpha channel hides pixels; what lies below is often anything.

    Palettes and key colours that are shown as transparent hide nothing: each pixel keeps its value.

    Raises:
        DataError: it is one.
    """
    if "A" in file.image.getbands() and file.image.getchannel("A").getextrema() != (255, 255):
        raise DefectError(
            DefectKind.TRANSPARENT_MASK,
            path,
            "a mask with transparent pixels, which stand for no class; save it without alpha",
        )


def grey(colors: NDArray[np.uint8]) -> bool:
    """Whether (H, W, 3) holds no colour but grey, as (H, W, 1) never does."""
    return bool((colors[..., :-1] == colors[..., 1:]).all())


def describe_ranges(values: Iterable[int]) -> str:
    """Integers in words: `0-18, 255`, or `none`."""
    runs: list[list[int]] = []
    for value in sorted(values):
        if runs and value == runs[-1][1] + 1:
            runs[-1][1] = value
        else:
            runs.append([value, value])
    return ", ".join(f"{low}" if low == high else f"{low}-{high}" for low, high in runs) or "none"


def _as_stored(
    path: Path, values: NDArray[Any], file: OpenImage, nothing: Collection[float]
) -> NDArray[np.unsignedinteger[Any]]:
    if file.image.mode == "L" and file.bits in (2, 4):
        return values // np.uint8(255 // (2**file.bits - 1))  # Pillow spreads small grey levels over 0-255
    if file.image.mode in ("1", "L", "P"):
        return values.astype(np.uint8, copy=False)
    return _whole(path, values, nothing)


def _of_bands(path: Path, tiff: TiffHeader, nothing: Collection[float]) -> NDArray[np.unsignedinteger[Any]]:
    """A TIFF that Pillow does not hold."""
    if tiff.bands != 1:
        raise DefectError(
            DefectKind.UNREADABLE_MASK,
            path,
            f"a mask needs one integer a pixel, and this file holds {tiff.bands} bands of {tiff.dtype}; save the class "
            "index of each pixel instead",
        )
    return _whole(path, apply_orientation(decode_tiff(path, tiff)[..., 0], tiff.orientation), nothing)


def _nothing(tiff: TiffHeader | None, how: IndexValues) -> tuple[float, ...]:
    """What counts nowhere in one file."""
    if tiff is None:
        return ()
    tag = () if tiff.nodata is None else (tiff.nodata,)
    return (*how.negative, *((np.nan, *tag) if how.nodata else ()))


def _whole(path: Path, values: NDArray[Any], nothing: Collection[float]) -> NDArray[np.unsignedinteger[Any]]:
    """Whole numbers that can be indices, and `NODATA_VALUE` where they cannot but are listed."""
    beyond = ~((values >= 0) & (values <= MAX_INDEX))  # NaN too
    if beyond.any():
        _refuse_no_index(path, values[beyond & ~_any_of(values, nothing)])
        values = np.where(beyond, 0, values)
    if values.dtype.kind == "f" and not (values == np.rint(values)).all():
        value = values[values != np.rint(values)][0]
        detail = f"mask value {value:g} is no whole number, so it is no class; save class indices"
        raise DefectError(DefectKind.UNREADABLE_MASK, path, detail)
    return (
        np.where(beyond, np.uint32(NODATA_VALUE), values.astype(np.uint32))
        if beyond.any()
        else values.astype(np.uint16)
    )


def _any_of(values: NDArray[Any], listed: Collection[float]) -> NDArray[np.bool_]:
    found = np.zeros(values.shape, np.bool_)
    for number in listed:
        if np.isnan(number):
            found |= values != values
        elif values.dtype.kind == "f":
            with np.errstate(over="ignore"):  # beyond float32, where it is infinite, as the values are
                found |= values == np.float32(number)
        elif float(number).is_integer():
            found |= values == int(number)
    return found


def _refuse_no_index(path: Path, values: NDArray[Any]) -> None:
    """Refuse numbers that can be no index, unless there are none.

    Raises:
        DataError: names them, and how to have them count nowhere.
    """
    numbers = np.unique(values).tolist()
    if not numbers:
        return
    found = first_few([f"{number:.15g}" for number in numbers], limit=_SHOWN)
    listable = len(numbers) <= _SHOWN and all(MIN_IGNORED <= number < 0 and number == int(number) for number in numbers)
    say = f"[{', '.join(str(int(number)) for number in numbers)}]" if listable else NODATA_KEYWORD
    raise DefectError(
        DefectKind.UNREADABLE_MASK,
        path,
        f"mask values {found}: values from 0 to {MAX_INDEX} are possible; save class indices, or, where these "
        f"count nowhere{'' if listable else ' and are NaN or tagged as nodata'}, list them under ignore "
        f"(data.ignore={say})",
    )


# Binary masks whose two values have been blurred, by anti-aliasing or by JPEG: a stated threshold parts them.

BACKGROUND, FOREGROUND = 0, 255


@dataclass(frozen=True)
class ThresholdValues:
    """Grey levels, 0 below the threshold and 255 from it on. Lossy files are taken; colours count by their luma.

    Attributes:
        threshold: 1 to 255.
    """

    threshold: int
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint8]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no mask")
        with open_image(record.mask) as file:
            if file.bits > 8 or file.image.mode not in ("1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "YCbCr"):
                raise DefectError(
                    DefectKind.UNREADABLE_MASK,
                    record.mask,
                    f"a threshold is for grey levels of 8 bits, and this file holds {file.image.mode} pixels of "
                    f"{file.bits} bits; save it with 8 bits, or leave out threshold",
                )
            refuse_transparent(record.mask, file)
            levels = apply_orientation(pixels(file.image.convert("L")), file.orientation).astype(np.uint8, copy=False)
        return np.where(levels >= self.threshold, FOREGROUND, BACKGROUND).astype(np.uint8)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_ranges(values)
