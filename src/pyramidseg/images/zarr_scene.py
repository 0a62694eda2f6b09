"""Zarr: arrays of version 2 and 3 and multiscale images (OME-NGFF), read in windows."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.errors import ConfigError, DataError, import_extra
from pyramidseg.images.decode import PIXEL_TYPES, ImageHeader
from pyramidseg.images.file_checks import decoding_errors
from pyramidseg.images.scene import Mask, Scene, SceneOptions

logger = logging.getLogger(__name__)

_AXES = {**dict.fromkeys(("y", "lat", "latitude"), "y"), **dict.fromkeys(("x", "lon", "longitude"), "x")}
_AXES |= dict.fromkeys(("c", "band", "bands", "channel"), "c")
"""Rows, columns and channels by the names of axes."""


class ZarrScene(Scene):
    """An array of rows, columns and, in any place, channels; all other axes have one element.

    Raises:
        ConfigError: there are several arrays or levels, or axes without names, and no option says which.
        DataError: it cannot be opened, or has values that are not read.
        MissingExtra: zarr is not installed.
    """

    def __init__(self, path: Path, options: SceneOptions) -> None:
        zarr = import_extra("zarr", extra="zarr", purpose=f"{path}: reading Zarr")
        super().__init__(path)
        with decoding_errors(path):
            self._array, names = self._choose(zarr, zarr.open(path, mode="r"), options)
            shape, type_name = self._array.shape, self._array.dtype.name
        letters = "".join(_AXES.get(str(name).lower(), "-") for name in names)
        self._axes = options.axes or ("yx" if len(shape) == 2 and not any(names) else letters)
        other = [size for axis, size in zip(self._axes, shape, strict=False) if axis not in "yxc"]
        counts = [self._axes.count(axis) for axis in "yxc"]
        if len(self._axes) != len(shape) or counts not in ([1, 1, 0], [1, 1, 1]) or any(size > 1 for size in other):
            known = f"axes {', '.join(map(str, names))}" if any(names) else "axes without names"
            raise ConfigError(
                f"{path}: has the shape {shape} and {known}; say which are rows (y), columns (x) and channels (c), "
                "such as `axes='yxc'` or `axes='cyx'`; any other must have 1 element"
            )
        if type_name not in PIXEL_TYPES:
            detail = f"values of type {type_name} are not read; convert them to one of {', '.join(PIXEL_TYPES)}"
            raise DefectError(DefectKind.UNREADABLE_IMAGE, path, detail)
        sizes = {"c": 1, **dict(zip(self._axes, shape, strict=True))}
        dtype = "float32" if type_name.startswith("float") else type_name
        self.header = ImageHeader(sizes["y"], sizes["x"], sizes["c"], dtype, may_have_nodata=dtype == "float32")
        if missing := self._array.nchunks - self._array.nchunks_initialized:
            fill = f"{missing} of {self._array.nchunks} chunks are missing: their pixels are {self._array.fill_value}"
            logger.warning(f"{path}: {fill}, the fill value")

    def read(self, rows: slice, columns: slice) -> tuple[NDArray[Any], Mask | None]:
        where = {"y": rows, "x": columns, "c": slice(None)}
        values = np.asarray(self._array[tuple(where.get(axis, 0) for axis in self._axes)])
        kept = [axis for axis in self._axes if axis in where]
        values = values.transpose([kept.index(axis) for axis in "yxc" if axis in kept])
        with np.errstate(over="ignore"):
            return values.reshape(*values.shape[:2], -1).astype(self.header.dtype, copy=False), None

    def open(self) -> Any:
        return self._array  # of which threads can read at a time

    def _choose(self, zarr: Any, found: Any, options: SceneOptions) -> tuple[Any, Sequence[str]]:
        """The array that is meant, and the names of its axes as far as they are stated."""
        if not isinstance(found, zarr.Group):
            return found, getattr(found.metadata, "dimension_names", None) or found.attrs.get("_ARRAY_DIMENSIONS", ())
        scales = found.attrs.get("ome", found.attrs).get("multiscales")
        paths = (
            [level["path"] for level in scales[0]["datasets"]] if scales else sorted(name for name, _ in found.arrays())
        )
        if not paths:
            raise DataError(f"{self.path}: is a Zarr group without arrays; give the path of an array in it")
        if len(paths) > 1 and not (scales and options.level in range(len(paths))):
            flags = (f"`level={n}`" if scales else f"{self.path / path}" for n, path in enumerate(paths))
            known = "; ".join(
                f"{flag} ({' x '.join(map(str, found[p].shape))})" for flag, p in zip(flags, paths, strict=True)
            )
            raise ConfigError(f"{self.path}: has several arrays; choose one: {known}")
        array, names = self._choose(zarr, found[paths[options.level or 0]], options)
        return array, [axis["name"] for axis in scales[0]["axes"]] if scales and "axes" in scales[0] else names
