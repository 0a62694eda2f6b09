"""Recognises output files that pyramidseg wrote, which may be replaced, from other files, which may not."""

import zipfile
from pathlib import Path

from PIL import Image as PillowImage
from PIL.ExifTags import Base as ExifTag
from PIL.TiffImagePlugin import TiffImageFile

SIGNATURE = "pyramidseg"
"""The PNG text and TIFF tag `Software` of every picture, and a key in every JSON file. Archives have fixed entries."""

ARCHIVE_ENTRIES = {"probabilities.npy", "classes.npy"}


def is_ours(path: Path) -> bool:
    """Whether pyramidseg wrote an output file: a PNG, TIFF or JSON file with the signature, or an archive of ours."""
    if path.suffix == ".json":
        return _is_our_json(path)
    if path.suffix == ".npz":
        return _is_our_archive(path)
    if path.suffix not in (".png", ".tif"):
        return False
    try:
        with PillowImage.open(path) as picture:
            if isinstance(picture, TiffImageFile):
                return picture.tag_v2.get(ExifTag.Software) == SIGNATURE
            return picture.info.get("Software") == SIGNATURE
    except (OSError, ValueError, SyntaxError):
        return False


def _is_our_json(path: Path) -> bool:
    try:
        with path.open("rb") as file:  # it can have gigabytes
            return b"".join(file.read(64).split()).startswith(f'{{"{SIGNATURE}":'.encode())
    except OSError:
        return False


def is_damaged(path: Path) -> bool:
    """Whether a file cannot be opened as what its extension says."""
    if path.suffix == ".npz":
        return not zipfile.is_zipfile(path)
    try:
        with PillowImage.open(path):
            return False
    except (OSError, ValueError, SyntaxError):
        return path.is_file()


def _is_our_archive(path: Path) -> bool:
    try:
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == ARCHIVE_ENTRIES
    except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile):
        return False
