"""TIFF files of any number of bands."""

from pathlib import Path
from typing import Any

import numpy as np
import tifffile
from numpy.typing import NDArray

H, W = 37, 53
READ = [np.uint8, np.uint16, np.int16, np.float32]


def draw(bands: int, dtype: Any, *, height: int = H, width: int = W, seed: int = 0) -> NDArray[Any]:
    rng = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        return rng.normal(0, 1000, (height, width, bands)).astype(dtype)
    limits = np.iinfo(dtype)
    return rng.integers(limits.min, limits.max, (height, width, bands), dtype, endpoint=True)


def write(path: Path, values: NDArray[Any], *, planar: bool = False, **options: Any) -> Path:
    bands = values.shape[2]
    data = np.moveaxis(values, 2, 0) if planar else values
    layout: dict[str, Any] = {} if bands == 1 else {"planarconfig": "separate" if planar else "contig"}
    extra = {} if bands == 1 else {"extrasamples": ["unspecified"] * (bands - 1)}
    data = values[..., 0] if bands == 1 else data
    tifffile.imwrite(path, data, photometric="minisblack", metadata=None, **layout, **extra, **options)
    return path
