"""Recognises output files that pyramidseg wrote, which may be replaced, from other files, which may not."""

import zipfile
from pathlib import Path
from typing import IO

from PIL.ExifTags import Base as ExifTag
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

from pyramidseg.images.file_checks import size_bytes
from pyramidseg.images.tiff import TIFF_SIGNATURES

SIGNATURE = "pyramidseg"
"""The PNG text and TIFF tag `Software` of every picture, a key in every JSON file, and the comment
of videos and of archives of masks. Archives of probabilities have fixed entries."""

SHARES_COLUMNS = ("frame", "seconds")
"""The first columns of our tables of shares."""

_LAYER_BYTES = 2**18

ARCHIVE_ENTRIES = {"probabilities.npy", "classes.npy"}


def is_ours(path: Path) -> bool:
    """Whether pyramidseg wrote an output file: a PNG, TIFF, JSON file or video with the signature, ..."""
    try:
        with path.open("rb") as file:
            return _has_signature(file, path.suffix)
    except (OSError, ValueError, SyntaxError, NotImplementedError, zipfile.BadZipFile):
        return False


def _has_signature(file: IO[bytes], suffix: str) -> bool:
    if suffix in (".png", ".tif"):  # `Image.open` would refuse a label map of 179 million pixels
        start = file.read(8)
        file.seek(0)
        if start.startswith(TIFF_SIGNATURES):
            return TiffImageFile(file).tag_v2.get(ExifTag.Software) == SIGNATURE
        return start.startswith(b"\x89PNG") and PngImageFile(file).info.get("Software") == SIGNATURE
    if suffix in (".npz", ".zip"):
        with zipfile.ZipFile(file) as archive:
            return set(archive.namelist()) == ARCHIVE_ENTRIES or archive.comment == SIGNATURE.encode()
    if suffix in (".json", ".geojson"):  # it can have gigabytes
        return b"".join(file.read(64).split()).startswith(f'{{"{SIGNATURE}":'.encode())
    if suffix == ".csv":
        return file.read(64).startswith(",".join(SHARES_COLUMNS).encode())
    if suffix in (".gpkg", ".fgb", ".parquet", ".mp4"):
        # Layers have our name in their header, in a table at the beginning, or in metadata at the end.
        start = file.read(_LAYER_BYTES)
        file.seek(max(0, size_bytes(file) - _LAYER_BYTES))
        return SIGNATURE.encode() in start + file.read()
    return False
