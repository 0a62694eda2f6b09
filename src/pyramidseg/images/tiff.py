"""TIFF files that Pillow cannot hold: any number of bands, signed and floating-point values, nodata of GIS files.

The tags contain everything that must be known before decoding. tifffile decodes strip by strip and tile by tile;
compressions other than deflate also need imagecodecs. `page.asarray` of tifffile would be shorter, but without
imagecodecs it inflates a strip to any size: a strip of 1280 bytes took 177 MB (tifffile 2026.3.3).
Sources: TIFF 6.0, and the GDAL_NODATA tag of GDAL's GTiff driver.
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
from pyramidseg.images.file_checks import MAX_PIXELS, check_pixel_count, several_pages, size_bytes

TIFF_SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")
"""First bytes of TIFF and BigTIFF files of either byte order."""

MAX_VALUES = 4 * MAX_PIXELS
"""Limit of pixels times bands of one file: 4 GB as float32."""

MAX_RATIO = 4096
"""Limit of decoded bytes per stored byte. Deflate reaches 1032; a header that claims more is wrong."""

_NO_COMPRESSION, _DEFLATE = 1, (8, 32946)
_WITH_IMAGECODECS = (5, 32773, 34925, 50000)  # LZW, PackBits, LZMA, zstd: decoded into a buffer of fixed size
_FLOATING_POINT_PREDICTOR = 3
_GREY, _RGB = 1, 2
_DECODED = ("uint8", "uint16", "uint32", "int8", "int16", "int32", "float16", "float32", "float64")


class TiffHeader(NamedTuple):
    """The tags of a TIFF file.

    Attributes:
        height, width: as stored, before the orientation is applied.
        dtype: of the stored values.
        alpha: whether the last band is transparency.
        color: whether the first bands are red, green, blue.
        orientation: 1 to 8 as in EXIF.
        nodata_value: the value of pixels without data (GDAL_NODATA); None if the file has none.
        plain: whether Pillow can hold the file without loss.
        georeferenced: whether the tags contain scale and tie point, or a transformation matrix.
        geo_tags: these tags and those of the coordinate system, as stored.
    """

    height: int
    width: int
    bands: int
    dtype: str
    alpha: bool
    color: bool
    orientation: int
    nodata_value: float | None
    plain: bool
    georeferenced: bool
    geo_tags: tuple[Any, ...] = ()


def read_tiff_header(path: Path, file: IO[bytes]) -> TiffHeader:
    """The tags of the first page of a TIFF file.

    Raises:
        DataError: for files that `decode_tiff` has to decode: several pages, too large, or values or a compression that
            are not supported.
        MissingExtra: `decode_tiff` would need imagecodecs.
    """
    directories = _directories(file)
    tags = next(directories)
    header = _header(tags)
    if not header.plain:
        _check(path, header, tags)
        if any(is_further_page(directory) for directory in directories):
            raise several_pages(path)
    return header


def raw_tags(file: IO[bytes]) -> TiffHeader:
    """The tags of the first page of a TIFF file of any size, unchecked."""
    return _header(next(_directories(file)))


def is_further_page(tags: Mapping[int, Any]) -> bool:
    """Whether the tags of a page after the first are those of another image, not of a reduced copy or a mask."""
    return not tags.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK


def decode_tiff(path: Path, file: IO[bytes], header: TiffHeader) -> NDArray[Any]:
    """All bands as stored, (H, W, bands), of the stored type; floats of 16 and 64 bits become float32.

    Tiles that were never written hold nodata.

    Raises:
        ValueError: damaged or truncated; `decoding_errors` makes this a DataError.
    """
    from tifffile import TiffFile  # takes half a second to import: not for users of PNG and JPEG

    if not (logger := logging.getLogger("tifffile")).handlers:
        logger.addHandler(logging.NullHandler())  # our error reports the damage
    file.seek(0)  # tifffile takes the current position for the start of the file
    page: Any = TiffFile(file).pages.first
    _check_page(page, header, size_bytes=size_bytes(file))
    planes, _, height, width, samples = page.shaped
    stored = np.dtype(header.dtype)
    kept = np.dtype(np.float32) if stored.kind == "f" else stored
    with np.errstate(over="ignore"):  # the usual nodata value of float64 files, the lowest number, is -inf in float32
        values = np.full((planes, height, width, samples), np.array(_fill_value(header, stored), stored).astype(kept))
        for segment, plane, top, left in _segments(page, file, stored.itemsize):
            segment = segment[: height - top, : width - left]
            values[plane, top : top + segment.shape[0], left : left + segment.shape[1]] = segment
    return values[0] if planes == 1 else np.ascontiguousarray(np.moveaxis(values[..., 0], 0, -1))


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
        raise ValueError("its tags contain no size")
    bands = int(tags.get(_SAMPLES_PER_PIXEL, 1))
    extras = _numbers(tags, _EXTRA_SAMPLES)
    photometric = int(tags.get(_PHOTOMETRIC, 0))
    bits, formats = set(_numbers(tags, _BITS_PER_SAMPLE, 1)), set(_numbers(tags, _SAMPLE_FORMAT, 1))
    kind = {1: "uint", 2: "int", 3: "float", 4: "uint"}.get(next(iter(formats)), "complex")
    dtype = "mixed" if len(bits) > 1 or len(formats) > 1 else f"{kind}{bits.pop()}"
    orientation = tags.get(_ORIENTATION, 1)
    return TiffHeader(
        height=int(tags[_HEIGHT]),
        width=int(tags[_WIDTH]),
        bands=bands,
        dtype=dtype,
        alpha=_has_alpha(photometric, bands, extras),
        color=photometric == _RGB and bands >= 3,
        orientation=orientation if orientation in range(1, 9) else 1,
        nodata_value=_number(tags.get(_GDAL_NODATA)),
        plain=_is_plain(photometric, dtype, bands, extras, planar=tags.get(_PLANAR, 1) == 2),
        georeferenced=(_PIXEL_SCALE in tags and _TIE_POINTS in tags) or _GEO_MATRIX in tags,
        geo_tags=tuple(tags.get(tag) for tag in _GEO_TAGS),
    )


def _is_plain(photometric: int, dtype: str, bands: int, extras: tuple[int, ...], *, planar: bool) -> bool:
    """Whether Pillow holds every value. It silently drops bands that are neither colour nor alpha."""
    alpha = _has_alpha(photometric, bands, extras)
    if planar and dtype != "uint8":
        return False  # Pillow and OpenCV read separate planes of bytes only
    if photometric == _GREY and bands == 1:
        return dtype.startswith("uint") or dtype in ("int16", "int32", "float32")
    if photometric == _GREY:
        return bands == 2 and alpha and dtype == "uint8"
    if photometric == _RGB:
        return bands == 3 + alpha and dtype in ("uint8", "uint16")
    return True  # palettes, CMYK and others: Pillow reads or rejects them


def _has_alpha(photometric: int, bands: int, extras: tuple[int, ...]) -> bool:
    """An undeclared fourth band after RGB is alpha, as in Pillow and OpenCV."""
    return extras[-1] in _ALPHA if extras else photometric == _RGB and bands == 4


def _check(path: Path, header: TiffHeader, tags: Mapping[int, Any]) -> None:
    if header.dtype not in _DECODED:
        raise unsupported_dtype(path, header)
    check_pixel_count(path, header.height, header.width)
    values = header.height * header.width * header.bands
    if not 0 < values <= MAX_VALUES:
        detail = (
            f"{header.height} x {header.width} pixels of {header.bands} bands: an image may have 1 to "
            f"{MAX_VALUES // 10**6} million values; cut it into smaller files"
        )
        raise DefectError(DefectKind.TOO_LARGE, path, detail)
    compression = int(tags.get(_COMPRESSION, _NO_COMPRESSION))
    if compression not in (_NO_COMPRESSION, *_DEFLATE, *_WITH_IMAGECODECS):
        detail = (
            f"{header.bands} bands of {header.dtype} values in TIFF compression {compression}, which is not supported; "
            "save the file with deflate, LZW, zstd, LZMA, PackBits or without compression"
        )
        raise DefectError(DefectKind.UNREADABLE_IMAGE, path, detail)
    simple = compression not in _WITH_IMAGECODECS and tags.get(_PREDICTOR, 1) != _FLOATING_POINT_PREDICTOR
    if not simple and importlib.util.find_spec("imagecodecs") is None:
        raise MissingExtra("imagecodecs", extra="geo", purpose=f"{path}: its kind of TIFF compression")


def unsupported_dtype(path: Path, header: TiffHeader) -> DefectError:
    """The error for values of a type that is not read."""
    detail = (
        f"{header.bands} bands of {header.dtype} values are not supported; convert them to uint8, uint16, int16 or "
        "float32"
    )
    return DefectError(DefectKind.UNREADABLE_IMAGE, path, detail)


def _check_page(page: Any, header: TiffHeader, *, size_bytes: int) -> None:
    """Reject impossible sizes and offsets before memory is allocated."""
    itemsize = np.dtype(header.dtype).itemsize
    expected = header.height * header.width * header.bands * itemsize
    segments = math.prod(page.chunked)
    if min(len(page.dataoffsets), len(page.databytecounts)) < segments or expected > MAX_RATIO * size_bytes:
        raise ValueError(f"{size_bytes} bytes cannot hold its {expected} bytes of pixels")
    if math.prod(page.chunks) * itemsize > max(2**28, 2 * expected):
        raise ValueError(f"its tiles of {page.chunks} are too large")
    ends = (offset + count for offset, count in zip(page.dataoffsets, page.databytecounts, strict=False))
    if any(end > size_bytes for end in islice(ends, segments)):
        raise ValueError("it is truncated")
    planes, depth, height, width, samples = page.shaped
    if (depth, height, width, planes * samples) != (1, header.height, header.width, header.bands):
        raise ValueError(f"its tags contradict each other: {page.shaped}")


def _segments(page: Any, file: IO[bytes], itemsize: int) -> Iterator[tuple[NDArray[Any], int, int, int]]:
    """Decoded strips or tiles (h, w, samples), each with its plane, row and column."""
    inflate = page.compression in _DEFLATE
    if inflate:
        page.compression = _NO_COMPRESSION  # `page.decode` gets inflated data
    limit = math.prod(page.chunks) * itemsize
    for index in range(math.prod(page.chunked)):
        if page.databytecounts[index] == 0:
            continue  # a tile that GDAL never wrote: nodata
        file.seek(page.dataoffsets[index])
        data = file.read(page.databytecounts[index])
        if inflate:  # a deflate bomb expands no further than its strip or tile
            data = zlib.decompressobj().decompress(data, limit)
        segment, (plane, _, top, left, _), _ = page.decode(data, index)
        yield segment[0], plane, top, left


def _fill_value(header: TiffHeader, dtype: np.dtype[Any]) -> float:
    """The value of tiles that were never written."""
    value = header.nodata_value
    if value is None:
        return 0
    fits = dtype.kind == "f" or (value.is_integer() and np.iinfo(dtype).min <= value <= np.iinfo(dtype).max)
    return value if fits else 0


def _numbers(tags: Mapping[int, Any], tag: int, *default: int) -> tuple[int, ...]:
    value = tags.get(tag, default)
    return tuple(int(number) for number in value) if isinstance(value, tuple) else (int(value),)


def _number(text: object) -> float | None:
    """GDAL_NODATA contains a number as text."""
    try:
        return float(str(text).strip(" \0"))
    except ValueError:
        return None


_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
_WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION = 256, 257, 258, 259, 262, 274
_SAMPLES_PER_PIXEL, _PLANAR, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT = 277, 284, 317, 338, 339
_ALPHA = (1, 2, 999)  # premultiplied, not premultiplied, and CorelDRAW's number for the latter
_PIXEL_SCALE, _TIE_POINTS, _GEO_MATRIX, _GDAL_NODATA = 33550, 33922, 34264, 42113
_GEO_TAGS = (_PIXEL_SCALE, _TIE_POINTS, _GEO_MATRIX, 34735, 34736, 34737)  # the last three: GeoTIFF's keys and values
_TAGS = (
    *(_SUBFILE_TYPE, _WIDTH, _HEIGHT, _BITS_PER_SAMPLE, _COMPRESSION, _PHOTOMETRIC, _ORIENTATION, _SAMPLES_PER_PIXEL),
    *(_PLANAR, _PREDICTOR, _EXTRA_SAMPLES, _SAMPLE_FORMAT, _GDAL_NODATA, *_GEO_TAGS),
)
