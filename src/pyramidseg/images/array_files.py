"""Masks as NumPy files: `.npy`, and `.npz` with one array. Headers are checked first, and nothing is ever unpickled."""

import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.safe_paths import open_regular, short
from pyramidseg.base.text import first_few
from pyramidseg.images.file_checks import check_pixel_count, decoding_errors, size_bytes

_NUMBERS = "biuf"
_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read_array_mask(path: Path) -> NDArray[Any]:
    """The array of a file, (H, W) of booleans, integers or floats; axes of length 1 around it are left out.

    Raises:
        DataError: it is damaged, too large, pickled, of another shape or type, or one of several arrays.
    """
    with decoding_errors(path), open_regular(path) as file:
        if not zipfile.is_zipfile(file):
            file.seek(0)
            return _read(path, file, size_bytes(file))
        file.seek(0)
        with zipfile.ZipFile(file) as archive:
            arrays = [entry for entry in archive.infolist() if entry.filename.endswith(".npy")]
            if len(arrays) != 1:
                names = first_few([short(entry.filename.removesuffix(".npy")) for entry in arrays]) or "none"
                raise _error(path, f"holds {len(arrays)} arrays ({names}), and a mask is one: save only the mask")
            with archive.open(arrays[0]) as member:
                return _read(path, member, arrays[0].file_size)


def _read(path: Path, file: IO[bytes], stored_bytes: int) -> NDArray[Any]:
    start = file.tell()
    version = npy.read_magic(file)
    if version not in _HEADERS:
        raise _error(path, "has the header of an array with named fields; save an array of integers")
    shape, _, dtype = _HEADERS[version](file)
    if dtype.kind not in _NUMBERS:
        found = "pickled Python objects, which are not loaded" if dtype.hasobject else f"values of type {dtype}"
        raise _error(path, f"holds {found}; save an array of integers: np.save(file, mask.astype(np.uint8))")
    height, width = _mask_shape(path, shape)
    check_pixel_count(path, height, width)
    if height * width * dtype.itemsize > stored_bytes - (file.tell() - start):
        detail = f"its header says {height} x {width} values of {dtype}, more than its {stored_bytes} bytes hold"
        raise ValueError(detail)
    file.seek(start)
    values: NDArray[Any] = npy.read_array(file, allow_pickle=False).reshape(height, width)
    values = values.astype(
        np.float32 if dtype.itemsize == 2 and dtype.kind == "f" else dtype.newbyteorder("="), copy=False
    )
    return values.view(np.uint8) if dtype.kind == "b" else values


def _mask_shape(path: Path, shape: tuple[int, ...]) -> tuple[int, int]:
    """Height and width of (H, W), (H, W, 1) or (1, H, W); of (1, W) and (H, 1) too."""
    inner = shape if len(shape) == 2 else tuple(length for length in shape if length != 1)
    if len(inner) != 2 or len(shape) > 4 or 0 in inner:
        detail = f"a mask is (height, width), one integer per pixel, and this array is {short(shape)}"
        step = "; of probabilities or one-hot planes save argmax over the classes" if len(inner) == 3 else ""
        raise _error(path, f"{detail}{step}")
    return inner[0], inner[1]


def _error(path: Path, detail: str) -> DefectError:
    return DefectError(DefectKind.UNREADABLE_MASK, path, detail)
