"""Recognises output files that pyramidseg wrote, which may be replaced, from other files, which may not."""

import zipfile
from pathlib import Path

from PIL import Image as PillowImage
from PIL.ExifTags import Base as ExifTag
from PIL.ImageFile import ImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile

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
        return _has_signature(path)
    except (
        OSError,
        ValueError,
        SyntaxError,
        NotImplementedError,
        zipfile.BadZipFile,
        PillowImage.DecompressionBombError,
    ):
        return False


def _has_signature(path: Path) -> bool:
    if path.suffix in (".png", ".tif"):
        with _picture(path) as picture:
            if isinstance(picture, TiffImageFile):
                return picture.tag_v2.get(ExifTag.Software) == SIGNATURE
            return picture.info.get("Software") == SIGNATURE
    if path.suffix in (".npz", ".zip"):
        with zipfile.ZipFile(path) as archive:
            return set(archive.namelist()) == ARCHIVE_ENTRIES or archive.comment == SIGNATURE.encode()
    with path.open("rb") as file:
        if path.suffix in (".json", ".geojson"):  # it can have gigabytes
            return b"".join(file.read(64).split()).startswith(f'{{"{SIGNATURE}":'.encode())
        if path.suffix == ".csv":
            return file.read(64).startswith(",".join(SHARES_COLUMNS).encode())
        if path.suffix in (".gpkg", ".fgb", ".parquet", ".mp4"):
            # Layers have our name in their header, in a table at the beginning, or in metadata at the end.
            start = file.read(_LAYER_BYTES)
            file.seek(max(0, path.stat().st_size - _LAYER_BYTES))
            return SIGNATURE.encode() in start + file.read()
    return False


def _picture(path: Path) -> ImageFile:
    """A picture whose pixels are not decoded; `Image.open` alone would refuse a label map of 179 million pixels."""
    with path.open("rb") as file:
        start = file.read(8)
    if start.startswith(b"\x89PNG"):
        return PngImageFile(path)
    return TiffImageFile(path) if start.startswith(TIFF_SIGNATURES) else PillowImage.open(path)
