"""TIFF beyond what Pillow holds: any number of bands, signed and floating-point values, and the nodata of GIS files.

The tags say all that has to be known before a pixel is decoded. tifffile decodes; compressions other than deflate need
imagecodecs beside it. Sources: TIFF 6.0, and the GDAL_NODATA tag (GDAL's GTiff driver).
"""

import importlib.util
import logging
import math
import zlib
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL.TiffImagePlugin import ImageFileDirectory_v2

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import MissingExtra
from pyramidseg.images.open_image import MAX_PIXELS, SEVERAL_PAGES, check_pixel_count, decoding_errors

MAX_VALUES = 4 * MAX_PIXELS
"""Pixels times bands of one file at most: 4 GB as float32."""

MAX_RATIO = 4096
"""Decoded bytes for each stored byte at most. Deflate reaches 1032; more is a header that lies."""

_NO_COMPRESSION, _DEFLATE = 1, (8, 32946)
_WITH_IMAGECODECS = (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, zstd: these decode into a place of given size
_FLOATING_POINT_PREDICTOR = 3
_GREY, _RGB = 1, 2
_DECODED = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")


class TiffHeader(NamedTuple):
    """What the tags say.

    Attributes:
        height, width: before turning.
        dtype: of the stored values.
        alpha: whether the last band is transparency.
        color: whether the bands begin with red, green, blue.
        orientation: 1 to 8 as in EXIF.
        nodata: the value of pixels that hold nothing.
        plain: whether Pillow holds the file without loss.
        georeferenced: whether the tags place the pixels on a map, by scale and tie point or by a matrix.
        place: those tags and the ones that name the coordinate system, as they are stored.
    """

    height: int
    width: int
    bands: int
    dtype: str
    alpha: bool
    color: bool
    orientation: int
    nodata: float | None
    plain: bool
    georeferenced: bool
    place: tuple[Any, ...] = ()


def read_tiff_header(path: Path) -> TiffHeader | None:
    """What the tags of a TIFF file say; None for files of other kinds.

    Raises:
        DataError: absent or damaged; or, where the file is for `decode_tiff`, of several pages, too large, or of values
            that are not read.
        MissingExtra: `decode_tiff` would need imagecodecs.
    """
    with decoding_errors(path), Path(path).open("rb") as file:
        if file.read(4) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            return None
        directories = _directories(file)
        tags = next(directories)
        header = _header(tags)
        if not header.plain:
            _check(path, header, tags)
            if any(not further.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK for further in directories):
                raise DefectError(DefectKind.SEVERAL_PAGES, path, SEVERAL_PAGES)
        return header


def decode_tiff(path: Path, header: TiffHeader) -> NDArray[Any]:
    """All bands of a file, unturned: (H, W, bands) of the stored type; floats of 16 and 64 bits become float32.

    Raises:
        DataError: damaged or truncated.
    """
    with decoding_errors(path), Path(path).open("rb") as file:
        return _decoded(path, file, header)


def _directories(file: IO[bytes]) -> Iterator[Mapping[int, Any]]:
    """The tags of each page."""
    file.seek(0)
    start = file.read(8)
    directory = ImageFileDirectory_v2(start + file.read(8) if start[2] == 43 else start)
    seen: set[int] = set()
    while directory.next and directory.next not in seen:
        seen.add(directory.next)
        file.seek(directory.next)
        directory.load(file)
        yield {tag: directory[tag] for tag in _TAGS if tag in directory}
    if not seen:
        raise ValueError("it has no image directory")


def _header(tags: Mapping[int, Any]) -> TiffHeader:
    if _HEIGHT not in tags or _WIDTH not in tags:
        raise ValueError("its tags name no size")
    bands = int(tags.get(_SAMPLES_PER_PIXEL, 1))
    extras = _numbers(tags, _EXTRA_SAMPLES)
    photometric = int(tags.get(_PHOTOMETRIC, 0))
    bits, formats = set(_numbers(tags, _BITS_PER_SAMPLE, 1)), set(_numbers(tags, _SAMPLE_FORMAT, 1))
    dtype = "mixed" if len(bits) > 1 or len(formats) > 1 else _dtype(bits.pop(), formats.pop())
    orientation = tags.get(_ORIENTATION, 1)
    return TiffHeader(
        height=int(tags[_HEIGHT]),
        width=int(tags[_WIDTH]),
        bands=bands,
        dtype=dtype,
        alpha=_has_alpha(photometric, bands, extras),
        color=photometric == _RGB and bands >= 3,
        orientation=orientation if orientation in range(1, 9) else 1,
        nodata=_number(tags.get(_GDAL_NODATA)),
        plain=_is_plain(photometric, dtype, bands, extras, planar=tags.get(_PLANAR, 1) == 2),
        georeferenced=(_PIXEL_SCALE in tags and _TIE_POINTS in tags) or _GEO_MATRIX in tags,
        place=tuple(tags.get(tag) for tag in _PLACE),
    )


def _is_plain(photometric: int, dtype: str, bands: int, extras: tuple[int, ...], *, planar: bool) -> bool:
    """Whether Pillow holds every value. It leaves out bands that are neither colour nor alpha, without a word."""
    alpha = _has_alpha(photometric, bands, extras)
    if planar and dtype != "uint8":
        return False  # Pillow and OpenCV know planes of bytes only
    if photometric == _GREY and bands == 1:
        return dtype.startswith("uint") or dtype in ("int16", "int32", "float32")
    if photometric == _GREY:
        return bands == 2 and alpha and dtype == "uint8"
    if photometric == _RGB:
        return bands == 3 + alpha and dtype in ("uint8", "uint16")
    return True  # palettes, printing colours and the like: Pillow's to read or to refuse


def _has_alpha(photometric: int, bands: int, extras: tuple[int, ...]) -> bool:
    """A fourth band beside RGB of which nothing is said is alpha, as Pillow and OpenCV have it."""
    return extras[-1] in _ALPHA if extras else photometric == _RGB and bands == 4


def _dtype(bits: int, sample_format: int) -> str:
    kind = {1: "uint", 2: "int", 3: "float", 4: "uint"}.get(sample_format, "complex")
    return f"{kind}{bits}"


def _check(path: Path, header: TiffHeader, tags: Mapping[int, Any]) -> None:
    if header.dtype not in _DECODED:
        detail = (
            f"{header.bands} bands of {header.dtype} values are not read; make them uint8, uint16, int16 or float32"
        )
        raise DefectError(DefectKind.UNREADABLE_IMAGE, path, detail)
    check_pixel_count(path, header.height, header.width)
    values = header.height * header.width * header.bands
    if not 0 < values <= MAX_VALUES:
        raise DefectError(
            DefectKind.TOO_LARGE,
            path,
            f"{header.height} x {header.width} pixels of {header.bands} bands, and one image may have 1 to "
            f"{MAX_VALUES // 10**6} million values; cut it into smaller files",
        )
    compression = int(tags.get(_COMPRESSION, _NO_COMPRESSION))
    if compression not in (_NO_COMPRESSION, *_DEFLATE, *_WITH_IMAGECODECS):
        raise DefectError(
            DefectKind.UNREADABLE_IMAGE,
            path,
            f"{header.bands} bands of {header.dtype} values in TIFF compression {compression}, which is not read; "
            "write them with deflate, LZW, zstd, LZMA, PackBits or without compression",
        )
    simple = compression not in _WITH_IMAGECODECS and tags.get(_PREDICTOR, 1) != _FLOATING_POINT_PREDICTOR
    if not simple and importlib.util.find_spec("imagecodecs") is None:
        raise MissingExtra("imagecodecs", extra="geo", purpose=f"{path}: its kind of TIFF compression")


def _decoded(path: Path, file: IO[bytes], header: TiffHeader) -> NDArray[Any]:
    from tifffile import TiffFile  # takes half a second to import, which nobody should pay for PNG and JPEG

    if not (logger := logging.getLogger("tifffile")).handlers:
        logger.addHandler(logging.NullHandler())  # what it has to say of damage is said by our error
    page: Any = TiffFile(file).pages.first
    _check_page(page, header, size=path.stat().st_size)
    planes, _, height, width, samples = page.shaped
    stored = np.dtype(header.dtype)
    kept = np.dtype(np.float32) if stored.kind == "f" else stored
    with np.errstate(over="ignore"):  # float64 files mark holes by the least number of all: infinite in float32
        values = np.full((planes, height, width, samples), np.array(_empty(header, stored), stored).astype(kept))
        for piece, plane, top, left in _pieces(page, file, stored.itemsize):
            piece = piece[: height - top, : width - left]
            values[plane, top : top + piece.shape[0], left : left + piece.shape[1]] = piece
    return values[0] if planes == 1 else np.ascontiguousarray(np.moveaxis(values[..., 0], 0, -1))


def _check_page(page: Any, header: TiffHeader, *, size: int) -> None:
    """Refuse what cannot be, before memory is taken for it.

    Args:
        size: of the file in bytes.
    """
    itemsize = np.dtype(header.dtype).itemsize
    expected = header.height * header.width * header.bands * itemsize
    pieces = math.prod(page.chunked)
    if min(len(page.dataoffsets), len(page.databytecounts)) < pieces or expected > MAX_RATIO * size:
        raise ValueError(f"{size} bytes cannot hold its {expected} bytes of pixels")
    if math.prod(page.chunks) * itemsize > max(2**28, 2 * expected):
        raise ValueError(f"its tiles of {page.chunks} are too large")
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(end > size for end in islice(ends, pieces)):
        raise ValueError("it is truncated")
    planes, depth, height, width, samples = page.shaped
    if (depth, height, width, planes * samples) != (1, header.height, header.width, header.bands):
        raise ValueError(f"its tags contradict each other: {page.shaped}")


def _pieces(page: Any, file: IO[bytes], itemsize: int) -> Iterator[tuple[NDArray[Any], int, int, int]]:
    """Strips or tiles (h, w, samples), each with its plane, row and column."""
    inflate = page.compression in _DEFLATE
    if inflate:
        page.compression = _NO_COMPRESSION  # for `page.decode`, which is handed what has been inflated already
    limit = math.prod(page.chunks) * itemsize
    for index in range(math.prod(page.chunked)):
        if page.databytecounts[index] == 0:
            continue  # a tile that was never written, as GDAL leaves them: nodata
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        piece, (plane, _, top, left, _), _ = page.decode(_inflated(data, limit=limit) if inflate else data, index)
        yield piece[0], plane, top, left


def _inflated(data: bytes, *, limit: int) -> bytes:
    """A deflated tile or strip; of a bomb no more than there is place for."""
    return zlib.decompressobj().decompress(data, limit)


def _empty(header: TiffHeader, dtype: np.dtype[Any]) -> float:
    """What tiles hold that were never written."""
    if header.nodata is None or (dtype.kind in "iu" and not _fits(header.nodata, dtype)):
        return 0
    return header.nodata


def _fits(value: float, dtype: np.dtype[Any]) -> bool:
    return value.is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max


def _numbers(tags: Mapping[int, Any], tag: int, *default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    return tuple(int(number) for number in value) if isinstance(value, tuple) else (int(value),)


def _number(text: object) -> float | None:
    """GDAL_NODATA is a number as text."""
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        return None


_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_SAMPLES_PER_PIXEL, _PLANAR, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 284, 317, 338, 339
_ALPHA = (1, 2, 999)  # premultiplied, not premultiplied, and CorelDRAW's word for the latter
_PIXEL_SCALE, _TIE_POINTS, _GEO_MATRIX, _GDAL_NODATA = 33550, 33922, 34264, 42113
_PLACE = (
    _PIXEL_SCALE,
    _TIE_POINTS,
    _GEO_MATRIX,
    34735,
    34736,
    34737,
)  # and GeoTIFF's keys, with their numbers and words
_TAGS = (
    *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES_PER_PIXEL),
    *(_PLANAR, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _GDAL_NODATA, *_PLACE),
)
