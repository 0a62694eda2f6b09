"""Image files as they lie on the disk: which there are, which way up they are, and what damage they have.

Images and masks are opened here and nowhere else, so that the same file is turned, bounded and refused in the same way
in training, prediction and inspection.
"""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import BmpImagePlugin, ExifTags, GifImagePlugin, Image, PngImagePlugin, TiffImagePlugin, WebPImagePlugin
from PIL.ImageFile import ImageFile
from PIL.JpegImagePlugin import JpegImageFile

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import PyramidSegError

IMAGE_EXTENSIONS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif")
"""What counts as an image file in a folder, in lower case. What a file is, its first bytes say."""

MAX_PIXELS = 250_000_000
"""Larger files are refused by their header alone: a few kilobytes can pretend to be gigabytes."""

MOST_PIXELS_PER_BYTE = {"JPEG": 512, "PNG": 8 * 1032, "GIF": 4096}
"""What a byte of a file can be at most: JPEG spends a bit on each block of 64 pixels, deflate (RFC 1951) one on 129
bytes, and a code of LZW stands for up to 4096. Where a header says more it lies, and a decoder would fill in grey."""

OTHER_PIXELS_PER_BYTE = 2**16

SEVERAL_PAGES = "holds several pages or frames; save each as a file of its own"


class OpenImage(NamedTuple):
    """A file whose header has been read and whose pixels have not.

    Attributes:
        image: Pillow's image. `pixels` reads it.
        orientation: how it has yet to be turned, 1 to 8 as in EXIF.
        bits: bits per sample in the file; Pillow's mode does not always tell.
        lossy: the compression that changes values, in words; empty where they are kept.
    """

    image: ImageFile
    orientation: int
    bits: int
    lossy: str

    @property
    def size(self) -> tuple[int, int]:
        """Height and width, after turning."""
        width, height = self.image.size
        return (width, height) if self.orientation >= 5 else (height, width)


def list_images(folder: Path) -> list[Path]:
    """`list_files` whose names say that they are images."""
    return list_files(folder, IMAGE_EXTENSIONS)


def list_files(folder: Path, extensions: tuple[str, ...]) -> list[Path]:
    """Files in a folder and all folders below, in the order of their relative paths, by extensions in lower case.

    Links are followed. Names that begin with a dot are left out: `._a.jpg` and `.ipynb_checkpoints` are no images.
    """
    found: list[tuple[tuple[str, ...], Path]] = []
    seen: set[str] = set()
    for parent, folders, files in os.walk(folder, followlinks=True):
        real = os.path.realpath(parent)
        if real in seen:  # a link to a folder above would never end
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(parent).relative_to(folder).parts
        found += [((*below, name), Path(parent, name)) for name in files if _is_named(name, extensions)]
    return [path for _, path in sorted(found)]


def is_image_name(name: str) -> bool:
    """Whether a file's name says that it is an image."""
    return _is_named(name, IMAGE_EXTENSIONS)


def _is_named(name: str, extensions: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(extensions)


@contextmanager
def open_image(path: Path) -> Iterator[OpenImage]:
    """Open an image file, read its header, and refuse what is no single image of bearable size.

    Whatever goes wrong while it is open is damage in the file and becomes a `DataError`.

    Raises:
        DataError: absent, of another format, damaged, truncated, larger than `MAX_PIXELS`, or of several pages.
    """
    with decoding_errors(path), Path(path).open("rb") as file:
        image = _read_header(path, file)
        check_pixel_count(path, *image.size[::-1])
        _check_plausible_size(path, image, os.fstat(file.fileno()).st_size)
        if _has_pages(image):
            raise DefectError(DefectKind.SEVERAL_PAGES, path, SEVERAL_PAGES)
        yield OpenImage(image, _orientation(image), _bits(image, file), _lossy(image, file))


@contextmanager
def decoding_errors(path: Path) -> Iterator[None]:
    """Turn whatever a decoder raises into one line: mutated bytes are answered with nearly any exception there is."""
    try:
        yield
    except PyramidSegError:
        raise
    except FileNotFoundError:
        raise DefectError(DefectKind.ABSENT, path, "no such file") from None
    except IsADirectoryError:
        raise DefectError(DefectKind.FOREIGN, path, "a folder, not an image; name the images in it") from None
    except MemoryError:
        raise
    except Exception as error:
        reason = " ".join(str(error).split()).replace(str(path), "file") or type(error).__name__
        detail = f"cannot be read as an image: {reason}; replace the file, or take it out"
        raise DefectError(DefectKind.DAMAGED, path, detail) from error


def check_pixel_count(path: Path, height: int, width: int) -> None:
    """Refuse more than `MAX_PIXELS`.

    Raises:
        DataError: names the file and its size.
    """
    if height * width > MAX_PIXELS:
        raise DefectError(
            DefectKind.TOO_LARGE,
            path,
            f"{height} x {width} pixels are more than the {MAX_PIXELS // 10**6} million that one image may have; cut "
            "it into smaller files",
        )


def _check_plausible_size(path: Path, image: ImageFile, size_bytes: int) -> None:
    """Refuse a file that cannot hold as many pixels as its header says, before memory is taken for them."""
    width, height = image.size
    if width * height > size_bytes * MOST_PIXELS_PER_BYTE.get(image.format or "", OTHER_PIXELS_PER_BYTE):
        detail = (
            f"its header says {height} x {width} pixels, more than a {image.format} file of {size_bytes} bytes can "
            "hold; replace the file, or take it out"
        )
        raise DefectError(DefectKind.DAMAGED, path, detail)


def pixels(image: Image.Image) -> NDArray[np.generic]:
    """The values of a Pillow image, (H, W) or (H, W, C), in a writable array of their own."""
    return np.array(image)


def apply_orientation(values: NDArray[np.generic], orientation: int) -> NDArray[np.generic]:
    """Turn and mirror (H, W, ...) as an EXIF orientation asks for; 1 leaves it as it is."""
    if orientation >= 5:
        values = values.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        values = values[::-1]
    if orientation in (2, 3, 6, 7):
        values = values[:, ::-1]
    return np.ascontiguousarray(values)


def _read_header(path: Path, file: IO[bytes]) -> ImageFile:
    """Pillow's image of the format that the first bytes name.

    The plugins are called directly. `Image.open` would guard against large images by its own limits, which are
    global to the process, and for photographs of some cameras go by an index that is often damaged.
    """
    start = file.read(16)
    file.seek(0)
    if not start:
        raise DefectError(DefectKind.EMPTY, path, "the file is empty; replace it, or take it out")
    for recognises, plugin in _FORMATS:
        if recognises(start):
            return plugin(file, str(path))
    raise DefectError(
        DefectKind.FOREIGN, path, "no image that can be read here; JPEG, PNG, TIFF, BMP, WebP and GIF can"
    )


_FORMATS: tuple[tuple[Callable[[bytes], bool], Callable[[IO[bytes], str], ImageFile]], ...] = (
    (lambda start: start.startswith(b"\xff\xd8\xff"), JpegImageFile),
    (lambda start: start.startswith(b"\x89PNG\r\n\x1a\n"), PngImagePlugin.PngImageFile),
    (lambda start: start[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImagePlugin.TiffImageFile),
    (lambda start: start.startswith(b"BM"), BmpImagePlugin.BmpImageFile),
    (lambda start: start[:4] == b"RIFF" and start[8:12] == b"WEBP", WebPImagePlugin.WebPImageFile),
    (lambda start: start[:6] in (b"GIF87a", b"GIF89a"), GifImagePlugin.GifImageFile),
)


def _orientation(image: ImageFile) -> int:
    """The EXIF (or XMP) orientation that Pillow has not seen to; 1 where none is given."""
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return 1  # Pillow turns TIFF files itself
    # Not image.getexif(): for PNG that decodes all pixels, in search of a chunk that has to come before them.
    value = Image.Image.getexif(image).get(ExifTags.Base.Orientation, 1)
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def _bits(image: ImageFile, file: IO[bytes]) -> int:
    if isinstance(image, PngImagePlugin.PngImageFile):
        return _bytes_at(file, 24, 1)[0]  # signature 8, length and name of IHDR 8, width 4, height 4
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return int(max(image.tag_v2.get(TiffImagePlugin.BITSPERSAMPLE, (1,))))
    return 8


def _lossy(image: ImageFile, file: IO[bytes]) -> str:
    if isinstance(image, JpegImageFile):
        return "JPEG"
    if isinstance(image, TiffImagePlugin.TiffImageFile):
        return "JPEG-compressed TIFF" if "jpeg" in str(image.info.get("compression")) else ""
    if isinstance(image, WebPImagePlugin.WebPImageFile):
        return "lossy WebP" if b"VP8 " in _webp_chunks(file) else ""
    return ""


def _webp_chunks(file: IO[bytes]) -> set[bytes]:
    """The names of a WebP file's chunks: `VP8 ` holds lossy pixels and `VP8L` exact ones."""
    names: set[bytes] = set()
    place = 12  # behind RIFF, the length and WEBP
    while len(start := _bytes_at(file, place, 8)) == 8:
        names.add(start[:4])
        length = int.from_bytes(start[4:], "little")
        place += 8 + length + length % 2
    return names


def _bytes_at(file: IO[bytes], place: int, count: int) -> bytes:
    """Bytes of a file that is read on afterwards where it was."""
    before = file.tell()
    file.seek(place)
    content = file.read(count)
    file.seek(before)
    return content


def _has_pages(image: ImageFile) -> bool:
    """Whether there are pages beside the first that are more than a smaller copy or a mask of it."""
    if not isinstance(image, TiffImagePlugin.TiffImageFile):
        return bool(getattr(image, "is_animated", False))
    further = False
    for page in range(1, image.n_frames):
        image.seek(page)
        further |= not image.tag_v2.get(_SUBFILE_TYPE, 0) & _REDUCED_OR_MASK
    image.seek(0)
    return further


_SUBFILE_TYPE, _REDUCED_OR_MASK = 254, 0b101
