"""Find image files by name: recursively, sorted, without hidden files."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import chain
from pathlib import Path

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.sequences import Mapped, PackedNames

IMAGE_EXTENSIONS = (
    *(".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".ppm", ".pgm", ".pnm"),
    *(".jp2", ".j2k", ".avif", ".heic", ".heif"),
)
"""Extensions of the files that a folder is searched for, in lower case. `open_image` ignores the extension and goes by
the first bytes of the file."""

ARRAY_EXTENSIONS = (".npy", ".npz")
"""Extensions of masks that are NumPy arrays, see `array_files`."""

VIDEO_EXTENSIONS = (
    *(".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg"),
    *(".mpeg", ".wmv", ".flv", ".3gp", ".mts", ".m2ts"),
)
"""Extensions of videos, which are predicted."""

UNREAD_EXTENSIONS = (
    *(*VIDEO_EXTENSIONS, ".dcm", ".nii"),
    *(".nii.gz", ".tga", ".psd", ".svg", ".jxl", ".exr", ".hdr", ".img", ".ecw", ".sid", ".vrt", ".hdf", ".h5", ".nc"),
    *(".dng", ".cr2", ".cr3", ".nef", ".arw", ".raw", ".pbm", ".ico", ".svs", ".czi", ".nrrd", ".mha"),
    *(*ARRAY_EXTENSIONS, ".mat"),
)
"""Extensions of images, rasters, arrays and videos that are not read where a folder has images: they are reported.
Arrays are read as masks, not as images."""


class UnlistableFolderError(DefectError):
    """A folder that may not be listed, whatever was looked for in it."""


def count_extensions(files: Iterable[Path]) -> str:
    """Files by extension, the most frequent first: `3 .mp4, 1 .dcm`."""
    names = (file.name.lower() for file in files)
    counts = Counter(
        ".nii.gz" if name.endswith(".nii.gz") else Path(name).suffix or "without extension" for name in names
    )
    return ", ".join(
        f"{count} {extension}" for extension, count in sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    )


def list_images(folder: Path) -> list[Path]:
    """The image files of a folder and its subfolders; see `list_files`."""
    return list_files(folder, IMAGE_EXTENSIONS)


def list_masks(folder: Path) -> list[Path]:
    """The image files of a folder and its subfolders, or its arrays (.npy, .npz) if there are none."""
    return list_images(folder) or list_files(folder, ARRAY_EXTENSIONS)


def pack_images(folder: Path) -> Sequence[Path]:
    """`list_images` in little memory."""
    return Mapped(folder.joinpath, PackedNames(_names(folder, IMAGE_EXTENSIONS)))


def pack_masks(folder: Path) -> Sequence[Path]:
    """`list_masks` in little memory."""
    return pack_images(folder) or Mapped(folder.joinpath, PackedNames(_names(folder, ARRAY_EXTENSIONS)))


def walk(folder: Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """`os.walk` that follows links, and that does not leave out what it may not read.

    Raises:
        DataError: names the folder that cannot be listed.
    """
    return os.walk(folder, followlinks=True, onerror=_refuse)


@contextmanager
def listing_errors() -> Iterator[None]:
    """Name the folder that the `with` block may not list, as `walk` does."""
    try:
        yield
    except OSError as error:
        _refuse(error)
        raise


def _refuse(error: OSError) -> None:
    if isinstance(error, (FileNotFoundError, NotADirectoryError)):
        return
    detail = f"cannot be listed: {error.strerror}; make the folder readable, or move it away"
    raise UnlistableFolderError(DefectKind.ABSENT, Path(error.filename), detail) from None


def list_files(folder: Path, extensions: tuple[str, ...]) -> list[Path]:
    """The files of a folder and its subfolders with one of the extensions, sorted by relative path.

    Symbolic links are followed. Hidden files and folders, such as `._a.jpg` and `.ipynb_checkpoints`, are left out.

    Args:
        extensions: in lower case; case is ignored in file names.

    Raises:
        DataError: see `walk`.
    """
    return [folder / name for name in _names(folder, extensions)]


def _names(folder: Path, extensions: tuple[str, ...]) -> list[str]:
    """The paths of `list_files` below the folder, with slashes."""
    found: list[str] = []
    visited: set[str] = set()
    for parent, folders, files in walk(folder):
        real = os.path.realpath(parent)
        if real in visited:  # a link to a parent folder would never end
            folders.clear()
            continue
        visited.add(real)
        stores = [name for name in folders if _has_extension(name, (".zarr",))]  # folders that are one image
        folders[:] = [name for name in folders if not name.startswith(".") and name not in stores]
        above = "".join(f"{part}/" for part in Path(parent).relative_to(folder).parts)
        found += [above + name for name in chain(files, stores) if _has_extension(name, extensions)]
    return sorted(found, key=lambda name: name.replace("/", "\0"))  # folder by folder


def is_image_name(name: str) -> bool:
    """Whether a file name has the extension of an image and is not hidden."""
    return _has_extension(name, IMAGE_EXTENSIONS)


def is_array_name(name: str) -> bool:
    """Whether a file name has the extension of an array and is not hidden."""
    return _has_extension(name, ARRAY_EXTENSIONS)


def _has_extension(name: str, extensions: tuple[str, ...]) -> bool:
    return not name.startswith(".") and name.lower().endswith(extensions)
