"""Open an image file: recognise its format, check its header, and decode it in the orientation that EXIF prescribes.

Images and masks are opened only here, once each, so that training, prediction and inspection rotate, limit and reject
the same file in the same way.
"""

import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray
from PIL import (
    AvifImagePlugin,
    BmpImagePlugin,
    ExifTags,
    GifImagePlugin,
    Image,
    Jpeg2KImagePlugin,
    PngImagePlugin,
    PpmImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import import_extra
from pyramidseg.base.safe_paths import open_regular
from pyramidseg.base.text_files import LFS_DETAIL, LFS_POINTER
from pyramidseg.images.file_checks import (
    check_all_rows,
    check_pixel_count,
    decoding_errors,
    several_pages,
    silence_decoders,
    size_bytes,
)
from pyramidseg.images.scene_windows import window_at
from pyramidseg.images.tiff import TIFF_SIGNATURES, TiffHeader, decode_tiff, is_further_page, raw_tags, read_tiff_header

MAX_PIXELS_PER_BYTE = {"JPEG": 512, "PNG": 8 * 1032, "GIF": 4096}
"""Upper limits of what a byte of a file can encode: JPEG needs at least one bit for a block of 64 pixels, deflate (RFC
1951) one for 129 bytes, and an LZW code stands for up to 4096 pixels. A header that claims more is wrong, and the
decoder would fill the rest with grey."""

MAX_PIXELS_PER_BYTE_OTHER = 2**16


class OpenImage:
    """An open image file whose header and pixels are read when they are first used.

    Two decoders read the pixels: tifffile the TIFF files that Pillow cannot hold without loss (`is_raster`), and Pillow
    everything else.

    Attributes:
        path: of the file.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        """Recognise the format by the first bytes.

        Raises:
            DataError: the file is empty or in another format.
        """
        silence_decoders()
        self.path = path
        self.file = file
        self._start = file.read(32)
        if not self._start:
            raise DefectError(DefectKind.EMPTY, path, "the file is empty; replace or remove it")
        self._plugin = next((plugin for matches, plugin in _FORMATS if matches(self._start)), None)
        if self._start.startswith(LFS_POINTER):
            raise DefectError(DefectKind.FOREIGN, path, LFS_DETAIL)
        if self._plugin is None:
            detail = (
                "is not an image in a supported format (JPEG, JPEG 2000, PNG, TIFF, BMP, WebP, GIF, AVIF, HEIC, PPM, "
                "PGM); convert or remove it"
            )
            raise DefectError(DefectKind.FOREIGN, path, detail)

    @cached_property
    def tiff(self) -> TiffHeader | None:
        """The tags of a TIFF file; None for other formats.

        Raises:
            DataError: see `read_tiff_header`.
        """
        return read_tiff_header(self.path, self.file) if self._start.startswith(TIFF_SIGNATURES) else None

    @property
    def tiff_tags(self) -> TiffHeader | None:
        """Like `tiff`, of a file of any size, unchecked."""
        return raw_tags(self.file) if self._start.startswith(TIFF_SIGNATURES) else None

    @property
    def is_raster(self) -> bool:
        """Whether the file is a TIFF that Pillow cannot hold without loss."""
        return self.tiff is not None and not self.tiff.plain

    @cached_property
    def image(self) -> ImageFile:
        """The image as Pillow opens it, not yet decoded.

        The plugins are called directly. `Image.open` would apply its own pixel limit, which is global to the process,
        and would read the multi-picture index of camera JPEGs, which is often damaged.

        Raises:
            DataError: too many pixels, more than the file can hold, or several pages.
        """
        assert self._plugin is not None
        self.file.seek(0)
        image = self._plugin(self.file, str(self.path))
        if isinstance(image, PpmImagePlugin.PpmImageFile):  # decoding empties the list of tiles
            _, _, self._pnm_offset, arguments = image.tile[0]
            self._pnm_limit = arguments[1] if isinstance(arguments, tuple) else 65535 if "16" in str(arguments) else 255
        check_pixel_count(self.path, image.height, image.width)
        _check_plausible_size(self.path, image, size_bytes(self.file))
        if _has_several_pages(image):
            raise several_pages(self.path)
        return image

    @cached_property
    def orientation(self) -> int:
        """The orientation that the file prescribes, 1 to 8 as in EXIF; 1 if it prescribes none."""
        if self.tiff is not None:
            return self.tiff.orientation
        # Not image.getexif(): for PNG it decodes all pixels to look for a chunk that must come before them.
        value = Image.Image.getexif(self.image).get(ExifTags.Base.Orientation, 1)
        return value if isinstance(value, int) and 1 <= value <= 8 else 1

    @property
    def size(self) -> tuple[int, int]:
        """Height and width in the prescribed orientation."""
        if self.tiff is not None and not self.tiff.plain:
            height, width = self.tiff.height, self.tiff.width
            return (width, height) if self.orientation >= 5 else (height, width)
        width, height = self.image.size  # for TIFF, Pillow has applied the orientation already
        return (width, height) if self.orientation >= 5 and self.tiff is None else (height, width)

    @cached_property
    def bits(self) -> int:
        """Bits per sample in the file, which Pillow's mode does not always show."""
        if isinstance(self.image, PngImagePlugin.PngImageFile):
            return self._start[24]  # signature 8, length and name of IHDR 8, width 4, height 4
        if isinstance(self.image, TiffImagePlugin.TiffImageFile):
            return int(max(self.image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
        if isinstance(self.image, Jpeg2KImagePlugin.Jpeg2KImageFile):
            return (self._codestream[42] & 127) + 1  # marker SIZ (ISO 15444-1, A.5.1): bits of each sample, less one
        if isinstance(self.image, PpmImagePlugin.PpmImageFile):
            return 16 if self._pnm_limit > 255 else 8
        return 8

    @cached_property
    def lossy_compression(self) -> str:
        """The name of the lossy compression, such as `JPEG`; empty if values are stored exactly."""
        if isinstance(self.image, JpegImageFile):
            return "JPEG"
        if isinstance(self.image, TiffImagePlugin.TiffImageFile):
            return "JPEG-compressed TIFF" if "jpeg" in str(self.image.info.get("compression")) else ""
        if isinstance(self.image, WebPImagePlugin.WebPImageFile):
            return "lossy WebP" if b"VP8 " in _webp_chunks(self._first_bytes()) else ""
        if isinstance(self.image, Jpeg2KImagePlugin.Jpeg2KImageFile):
            start = self._codestream  # marker COD (A.6.1): the wavelet 9-7 is not reversible
            return "" if start[start.index(b"\xff\x52") + 13] else "lossy JPEG 2000"
        return self.image.format if self.image.format in ("AVIF", "HEIF") else ""

    @cached_property
    def _codestream(self) -> bytes:
        """The first bytes of a JPEG 2000 codestream."""
        start = self._first_bytes(2**16)
        return start[start.index(b"\xff\x4f\xff\x51") :]

    def _first_bytes(self, most: int = -1) -> bytes:
        """The beginning of the file, or all of it; its position is kept."""
        position = self.file.tell()
        self.file.seek(0)
        start = self.file.read(most)
        self.file.seek(position)
        return start

    def load(self) -> None:
        """Decode the pixels of `image`.

        Raises:
            ValueError: it is damaged, or its pixels end early (`decoding_errors` makes this a DataError).
        """
        self.image.load()
        if isinstance(self.image, PngImagePlugin.PngImageFile):
            check_all_rows(self.image, self.file)

    def pixels(self, mode: str | None = None) -> NDArray[Any]:
        """Decode the image in the prescribed orientation.

        Args:
            mode: convert to this Pillow mode first; not for rasters.

        Returns:
            A writable array, (H, W) or (H, W, C); of rasters always (H, W, bands), see `decode_tiff`.
        """
        if self.tiff is not None and not self.tiff.plain:
            return apply_orientation(decode_tiff(self.path, self.file, self.tiff), self.orientation)
        image: Image.Image = self.image
        if isinstance(image, PpmImagePlugin.PpmImageFile) and mode in (None, image.mode):
            return self._pnm_values()
        self.load()
        if mode is not None:
            image = image.convert(mode)
        values = np.array(image)
        if isinstance(image, Jpeg2KImagePlugin.Jpeg2KImageFile) and image.mode == "I;16":
            values >>= 16 - self.bits  # Pillow scales 12 bits to 16
        return values if self.tiff is not None else apply_orientation(values, self.orientation)

    def _pnm_values(self) -> NDArray[Any]:
        """The values of a binary PPM or PGM file as stored; Pillow would scale those whose largest value is not 255."""
        self.file.seek(self._pnm_offset)
        shape = (self.image.height, self.image.width, *((3,) if self._start[1:2] == b"6" else ()))
        dtype = np.dtype(">u2" if self.bits == 16 else "u1")
        size = int(np.prod(shape)) * dtype.itemsize
        if len(data := self.file.read(size)) < size:
            raise ValueError("it is truncated")
        return np.frombuffer(data, dtype).astype(dtype.newbyteorder("=")).reshape(shape)


@contextmanager
def open_image(path: Path, content: bytes | None = None, *, header_only: bool = False) -> Iterator[OpenImage]:
    """Open an image file, or a window of a scene, for the `with` block; exceptions of its decoder become a `DataError`.

    Args:
        content: of the file, if it is in memory; `path` is then only a name.
        header_only: the pixels are not needed; those of a window are then not read.

    Raises:
        DataError: the file is missing, empty, damaged, truncated, too large, has several pages, or is not an image.
    """
    with decoding_errors(path):
        if content is None and (window := window_at(path)):
            content = window.encode(pixels=not header_only)
        with open_regular(Path(path)) if content is None else io.BytesIO(content) as file:
            yield OpenImage(path, file)


def apply_orientation(values: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Rotate and mirror (H, W, ...) as an EXIF orientation prescribes; 1 changes nothing."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return contiguous(values)


def contiguous(values: NDArray[Any]) -> NDArray[Any]:
    """`np.ascontiguousarray`, also where an axis of length 1 has a negative stride, which torch does not take."""
    return values.copy() if min(values.strides) < 0 else np.ascontiguousarray(values)


_HEIC = (b"heic", b"heix", b"heim", b"heis", b"mif1")

_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[IO[bytes], str], ImageFile]], ...] = (
    (lambda start: start.startswith(b"\xff\xd8\xff"), JpegImageFile),
    (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (lambda start: start.startswith(TIFF_SIGNATURES), TiffImagePlugin.TiffImageFile),
    (lambda start: start.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    (lambda start: start[:4] == b"\xff\x4f\xff\x51" or start[4:8] == b"jP  ", Jpeg2KImagePlugin.Jpeg2KImageFile),
    (lambda start: start[:2] in (b"P5", b"P6") and start[2:3].isspace(), PpmImagePlugin.PpmImageFile),
    (lambda start: start[4:8] == b"ftyp" and b"avif" in start[8:], AvifImagePlugin.AvifImageFile),
    (lambda start: start[4:8] == b"ftyp" and start[8:12] in _HEIC, lambda file, name: _open_heic(file, name)),
    (lambda start: start[:6] in (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
)


def _open_heic(file: IO[bytes], name: str) -> ImageFile:
    """The image of an iPhone; the decoder applies its orientation."""
    heif = import_extra("pillow_heif.as_plugin", extra="heic", purpose=f"reading HEIC images ({name})")
    image: ImageFile = heif.HeifImageFile(file, name)
    return image


def _check_plausible_size(path: Path, image: ImageFile, size_bytes: int) -> None:
    """Reject a header that claims more pixels than the file can hold, before memory is allocated for them."""
    width, height = image.size
    if width * height > size_bytes * MAX_PIXELS_PER_BYTE.get(image.format or "", MAX_PIXELS_PER_BYTE_OTHER):
        detail = (
            f"its header says {height} x {width} pixels, more than a {image.format} file of {size_bytes} bytes can "
            "hold; replace or remove the file"
        )
        raise DefectError(DefectKind.DAMAGED, path, detail)


def _has_several_pages(image: ImageFile) -> bool:
    """Whether the file has pages other than the first, not counting reduced copies and masks of it."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(getattr(image, "is_animated", False))
    further = False
    for page in range(1, image.n_frames):
        image.seek(page)
        further |= is_further_page(image.tag_v2)
    image.seek(0)
    return further


def _webp_chunks(content: bytes) -> set[bytes]:
    """The names of a WebP file's chunks: `VP8 ` holds lossy pixels and `VP8L` exact ones."""
    names, offset = set[bytes](), 12  # after RIFF, the length and WEBP
    while offset + 8 <= len(content):
        names.add(content[offset : offset + 4])
        length = int.from_bytes(content[offset + 4 : offset + 8], "little")
        offset += 8 + length + length % 2
    return names
