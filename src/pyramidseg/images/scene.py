"""Images of any size that are read in windows: what GeoTIFF files and slides have in common."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, LifoQueue
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.errors import DataError
from pyramidseg.base.log import track
from pyramidseg.base.setting_types import Channels
from pyramidseg.images.decode import ImageHeader, select_masked, with_channels
from pyramidseg.images.file_checks import decoding_errors
from pyramidseg.images.nodata import MaskedImage

Mask = NDArray[np.bool_]

NODATA = 255
"""Label of pixels that were not predicted."""

_PART_ROWS, _PART_COLUMNS = 512, 8192


@dataclass(frozen=True)
class SceneOptions:
    """Level of a slide, or its micrometres per pixel; whether only its scanned area is read, and whether windows of a
    single colour are left out; the metres per pixel that files with a place on a map are resampled to; the axes of a
    Zarr array, such as `cyx`; and the format of the labels, `geotiff` or `zarr`.
    """

    level: int | None = None
    mpp: float | None = None
    scanned_area: bool = False
    skip_empty: bool = False
    resample: float | None = field(default=None, repr=False)  # earlier calls' rows are known by the others
    axes: str = field(default="", repr=False)
    format: str = field(default="geotiff", repr=False)


FULL_RESOLUTION = SceneOptions()


class ScenePlace(NamedTuple):
    """Coordinate system as WKT, transform as in `Georeference`, and ground control points: column, row, x, y."""

    crs: str = ""
    transform: tuple[float, float, float, float, float, float] | None = None
    points: tuple[tuple[float, ...], ...] = ()


class Scene(ABC):
    """An image file whose windows are read from left to right by threads; `means` of the channels replace nodata."""

    nodata_value: float | None = None
    place = ScenePlace()
    means: tuple[float, ...] | None = None
    reading_threads, window_rows = 2, 0

    header: ImageHeader
    full: tuple[ScenePlace, tuple[int, int]] | None = None
    """Place, height and width of the file, if windows of it are resampled."""

    def __init__(self, path: Path) -> None:
        self.path, self.tags, self.idle = path, dict[str, str](), LifoQueue[Any]()

    @abstractmethod
    def read(self, rows: slice, columns: slice) -> tuple[NDArray[Any], Mask | None]:
        """All channels of a window, (H, W, C), and where it has no data, as far as the values do not show it."""

    @abstractmethod
    def open(self) -> Any:
        """Another handle of the file, for one thread at a time."""

    def cache_bytes(self, window_rows: int) -> int:
        """Memory for decoded blocks of the file, with windows of this height."""
        return 0

    @contextmanager
    def handle(self) -> Iterator[Any]:
        """A handle that is free, or another one; after an error it is not used again, as GDAL's then give zeros."""
        try:
            file = self.idle.get_nowait()
        except Empty:
            file = self.open()
        try:
            yield file
        except BaseException:
            file.close()
            raise
        self.idle.put(file)

    def close(self) -> None:
        """Close the file."""
        while not self.idle.empty():
            self.idle.get().close()

    def window(self, rows: slice, columns: slice, channels: Channels) -> tuple[NDArray[Any], Mask | None]:
        """A window as `read_image` has it, and where it has no data in any channel; a DataError if it is unreadable."""
        image = self._masked(rows, columns, channels)
        filled = MaskedImage(image.filled(self.means), None)
        return with_channels(filled, channels).values, image.nodata_in_all_channels()

    def measure_means(self, channels: Channels) -> None:
        """Read everything once for the means of channels that may have nodata; unreadable parts are left out."""
        height, width = self.header[:2]
        if self.means is not None or not self.header.may_have_nodata:
            return
        sums, counts = np.zeros(1), np.zeros(1, np.int64)
        tops = range(0, height, _PART_ROWS)
        for top in track(tops, total=len(tops), task=f"{self.path.name}: measuring nodata"):
            for left in range(0, width, _PART_COLUMNS):
                ends = min(top + _PART_ROWS, height), min(left + _PART_COLUMNS, width)
                try:
                    values, nodata = self._masked(slice(top, ends[0]), slice(left, ends[1]), channels)
                except DataError:
                    continue
                valid = np.ones(values.shape, np.bool_) if nodata is None else ~nodata
                sums = sums + values.sum(axis=(0, 1), dtype=np.float64, where=valid)
                counts = counts + valid.sum(axis=(0, 1))
        self.means = tuple((sums / np.maximum(counts, 1)).tolist()) if counts.any() else None

    def _masked(self, rows: slice, columns: slice, channels: Channels) -> MaskedImage:
        with decoding_errors(self.path):
            values, empty = self.read(rows, columns)
        image = select_masked(values, self.header, channels, self.nodata_value)
        if empty is None or not empty.any():
            return image
        nodata = np.broadcast_to(empty[..., None], image.values.shape)
        return MaskedImage(image.values, nodata if image.nodata is None else nodata | image.nodata)
