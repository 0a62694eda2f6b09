"""Prediction of one image that is larger than memory, window by window, into a GeoTIFF or a Zarr array.

A row of windows at a time is read, predicted and blended (`blend_row`), in panels of a few windows, so that memory does
not grow with the width. The labels that a panel completes are written as a file into a hidden folder next to the
output, with the logits that the next row needs; after the last panel, a line of the folder's own ledger says that the
row is done. So a call that was killed goes on with the row it was at. In the end, the parts become one file, and the
folder is deleted, unless windows could not be read: then the next call tries these again. Polygons are made from a file
of all pixels in that folder, with their labels and confidence.
"""

import io
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import astuple
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT
from pyramidseg.base.device import out_of_memory_explained
from pyramidseg.base.errors import DataError
from pyramidseg.base.files import explained_writes, write_bytes
from pyramidseg.base.ledger import Ledger
from pyramidseg.base.log import ProgressTask
from pyramidseg.base.parallel import map_in_order
from pyramidseg.images.decode import check_channels
from pyramidseg.images.georeference import Georeference, encode_geotiff
from pyramidseg.images.label_rasters import LabelPart, write_label_raster, write_label_zarr
from pyramidseg.images.scene import NODATA, Scene
from pyramidseg.predict.input_images import check_image
from pyramidseg.predict.outputs.ownership import SIGNATURE
from pyramidseg.predict.outputs.polygon_layers import PolygonLayer, PolygonOptions
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import (
    Image,
    OutputOptions,
    all_finite,
    class_shares,
    completed_cells,
    not_finite,
    segment_row_blocks,
)
from pyramidseg.predict.summary_file import Entry
from pyramidseg.predict.tiling import Panel, RowBlock, Tiles, blend_row, padding_of, panels_of, tile_grid
from pyramidseg.predict.upsampling import Axis, bilinear_axis

MASKS = {"geotiff": "_mask.tif", "zarr": "_mask.zarr.zip"}
"""Ends of the names of label maps by their format."""

_PIXEL = np.dtype([("label", "u1"), ("confidence", "<f4")])

_CELL_PX, _SINGLE_COLOR = 16, 0.04


PANEL_PX = 4096
"""Width of the windows that are blended together, in an image of any width."""


class ReadWindow(NamedTuple):
    """A window of a scene.

    Attributes:
        pixels: (C, H, W) as the model takes it; None if it is left out, or predicted already.
        nodata: (H, W) mask of pixels without data, packed into bits along the rows.
        error: why it cannot be read.
        logits: (K, h, w), once it is predicted.
    """

    pixels: Tensor | None
    nodata: NDArray[np.uint8] | None = None
    error: str = ""
    logits: Tensor | None = None


class ScenePrediction:
    """The prediction of one scene, as far as a call with the same fingerprint has not done it, by a ledger of its own.

    Raises:
        DataError: the scene does not have the channels or the units of the model.
        OutOfMemory: not even the smallest windows fit into memory.
    """

    def __init__(
        self,
        predictor: Predictor,
        scene: Scene,
        ledger: Ledger,
        fingerprint: str,
        *,
        skip_empty: bool,
        confidence: bool = False,
    ):
        self.predictor, self.scene, self.ledger, self.skip_empty = predictor, scene, ledger, skip_empty
        self._options = OutputOptions(confidence=confidence)
        self.fingerprint, (self.height, self.width) = fingerprint, scene.header[:2]
        check_channels(scene.path, scene.header, predictor.channels)
        if scene.place.transform and scene.full is None:
            place = Georeference(scene.place.crs, scene.place.transform)
            predictor.check_resolution(scene.path, place, self.height, self.width)
        self.tiles = self._begin()
        backend, geometry = predictor.backend, predictor.backend.geometry
        pixel = np.zeros((1, backend.in_channels, 1, 1), scene.header.dtype)
        self._probe = backend.coarse_logits(torch.from_numpy(pixel))[0]
        padding_px = padding_of(self._probe, stride=geometry.stride)
        self.grid = tile_grid(self.height, self.width, self.tiles, stride=geometry.stride, padding_px=padding_px)
        self._rows = bilinear_axis(self.grid.points[0], self.height, geometry)
        most_px = self.width if geometry.align_corners else PANEL_PX  # the scale would be another in each panel
        self._panels = [(panel, *self._pixels_of(panel)) for panel in panels_of(self.grid, most_px)]
        self._pixels = ledger.folder / "pixels"

    def run(self) -> None:
        """Predict all rows that are not done."""
        first, rows, columns = self._first_row(), len(self.grid.rows), len(self.grid.columns)
        task = f"{self.scene.path.name}: windows"
        with ProgressTask(task, total=rows * columns, done=first * columns) as progress:
            for number in range(first, rows):
                self._predict_row(number, progress)

    def write(self, path: Path) -> None:
        """Write the labels of all rows as one file, in the format that the end of its name says."""
        classes, parts, top = self.predictor.classes, list[LabelPart](), 0
        for row, line in enumerate(self._lines()):
            rows = slice(top, top := top + line["rows"])
            own = ((self._file(row, n), rows, pixels) for n, (_, pixels, _) in enumerate(self._panels) if line["rows"])
            parts += [LabelPart(*part) for part in own]
        if path.name.endswith(MASKS["zarr"]):
            about = {"classes": classes.names, "colors": classes.colors, "nodata": NODATA, **self.scene.tags}
            write_label_zarr(path, parts, (self.height, self.width), about)
            return
        tags = {f"class_{index}": name for index, name in enumerate(classes.names)} | self.scene.tags
        tags["TIFFTAG_SOFTWARE"] = SIGNATURE
        write_label_raster(path, parts, self.scene, palette=classes.palette(), tags=tags)

    def polygons(self, options: PolygonOptions) -> PolygonLayer:
        """The polygons of all rows, which have been predicted with confidence."""

        def read(rows: slice) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
            start, count = (size * self.width for size in (rows.start, rows.stop - rows.start))
            pixels = np.fromfile(self._pixels, _PIXEL, count, offset=start * _PIXEL.itemsize)
            return pixels["label"].reshape(-1, self.width), pixels["confidence"].reshape(-1, self.width)

        crs, transform, points = self.scene.place
        place = None if transform is None or points else Georeference(crs, transform)
        return PolygonLayer(read, (self.height, self.width), self.predictor.classes, place, options)

    def entry(self) -> Entry:
        """What `predictions.json` says about the labels; with `error` if windows could not be read."""
        counts = np.sum([line["pixels"] for line in self._lines()], axis=0)
        height, width = self.scene.full[1] if self.scene.full else (self.height, self.width)
        shares = class_shares(counts[:NODATA], counts[:NODATA].sum(), self.predictor.classes)
        entry: Entry = {"height": height, "width": width, "tile_px": self.tiles.tile_px}
        entry |= {"overlap_px": self.tiles.overlap_px, "classes": shares, "nodata": counts[NODATA] / counts.sum()}
        if unread := [error for line in self._lines() for _, error in line["unread"]]:
            total, reason = len(self.grid.rows) * len(self.grid.columns), f"{unread[0]}; the next call tries again"
            entry["error"] = f"{self.scene.path}: {len(unread)} of {total} windows are nodata, unreadable: {reason}"
        return entry

    def _begin(self) -> Tiles:
        """Tiles and means of an earlier call, as both may depend on the moment, or new ones."""
        head = self.ledger.find("scene")
        if head is None or head["fingerprint"] != self.fingerprint:
            at_once_px = min(self.width, 2 * PANEL_PX)  # with the windows that neighbouring panels share
            planner, cache_bytes = self.predictor.tile_planner, self.scene.cache_bytes
            tiles = planner.plan_windows(self.height, at_once_px, cache_bytes=cache_bytes)
            self.scene.window_rows = tiles.tile_px
            self.scene.measure_means(self.predictor.channels)
            middle = [slice(max(0, side // 2 - 256), side // 2 + 256) for side in (self.height, self.width)]
            if (pixels := self._read(middle[0], middle[1]).pixels) is not None:
                self.predictor.check_range(pixels.numpy(), self.scene.path)
            head = {"key": "scene", "fingerprint": self.fingerprint, "means": self.scene.means, "tiles": astuple(tiles)}
            self.ledger.append(head)
        self.scene.means = head["means"]
        tiles = Tiles(*head["tiles"])
        self.scene.window_rows = tiles.tile_px
        return tiles

    def _first_row(self) -> int:
        """The first row that is not done, or that has unread windows of which one can be read now."""
        done, rows, panels = 0, self.grid.rows, range(len(self._panels))
        while done < len(rows) and self.ledger.done(str(done), self.fingerprint):
            if not all(self._file(done, panel).exists() for panel in panels):
                break
            done += 1
        unread = [(n, column) for n, line in enumerate(self._lines()) if n < done for column, _ in line["unread"]]
        if any(not self._read(rows[n].pixels, self.grid.columns[column].pixels).error for n, column in unread):
            for number in range(unread[0][0], done):
                self.ledger.append({"key": str(number), "fingerprint": ""})
            done = unread[0][0]
        while 0 < done < len(rows) and not all(self._file(done, panel, ".npz").exists() for panel in panels):
            done -= 1
        return done

    @torch.inference_mode()
    def _predict_row(self, number: int, progress: ProgressTask) -> None:
        """Predict a row of windows, and write the labels that it completes."""
        row, recent, rows = self.grid.rows[number], dict[int, ReadWindow](), 0
        above = min(row.pixels.start, self.predictor.backend.geometry.stride)  # labels may begin half a stride before
        counts, unread = np.zeros(NODATA + 1, np.int64), list[tuple[int, str]]()
        options: Any = {"threads": self.scene.reading_threads, "ahead": self.scene.reading_threads, "name": "read"}
        reads = map_in_order(lambda at: self._read(row.pixels, at.pixels, above), self.grid.columns, **options)

        def logits_of(columns: range) -> Iterator[Tensor | None]:
            for column in columns:
                if column not in recent:
                    window = next(ahead)
                    logits = None if window.pixels is None else self._coarse_logits(window.pixels[None])[0]
                    recent[column] = window._replace(pixels=None, logits=logits)
                    unread.extend([(column, window.error)] if window.error else [])
                    del window
                    progress.advance()
                yield recent[column].logits

        with out_of_memory_explained(REDUCE_MEMORY_HINT), closing(reads) as ahead:
            for part, (panel, pixels, axis) in enumerate(self._panels):
                for column in [column for column in recent if column not in panel.columns]:
                    del recent[column]
                state = self._load_state(number, part)
                block, unfinished = blend_row(logits_of(panel.columns), panel.grid, number, state)
                covered = None if block.covered is None else block.covered[:, panel.own]
                own = RowBlock(block.first, block.logits[..., panel.own], covered)
                windows = [(self.grid.columns[column].pixels, recent[column]) for column in panel.columns]
                labels = self._labels(own, row.pixels.start - above, pixels, axis, windows)
                write_bytes(self._file(number, part), self._encode(labels))
                if number + 1 < len(self.grid.rows):
                    self._save_state(number + 1, part, unfinished)
                counts += np.bincount(labels.ravel(), minlength=NODATA + 1)
                rows = len(labels)
        self._record_row(number, {"rows": rows, "pixels": counts.tolist(), "unread": unread})

    def _record_row(self, number: int, line: dict[str, Any]) -> None:
        """Record that a row is complete, and delete the states that no later call needs."""
        self.ledger.append({"key": str(number), "fingerprint": self.fingerprint, **line})
        kept = next((n for n, line in enumerate(self._lines()) if line["unread"]), number), number, number + 1
        for file in self.ledger.folder.glob("*.npz"):
            if int(file.stem.partition("-")[0]) not in kept:
                file.unlink()

    def _labels(
        self, block: RowBlock, top: int, columns: slice, axis: Axis, windows: list[tuple[slice, ReadWindow]]
    ) -> NDArray[np.uint8]:
        """The labels that a block of a panel completes, of an image that was read from row `top` on."""
        pixels, points, part = completed_cells(block, self._rows)
        if pixels.start == pixels.stop:
            return np.empty((0, columns.stop - columns.start), np.uint8)
        backend, own = self.predictor.backend, RowBlock(0, points.logits)
        found = segment_row_blocks([own], part, axis, backend.geometry, backend.classes, self._options)
        labels_HW = found.labels
        if points.covered is not None and not points.covered.all():
            labels_HW[~points.covered[_nearest(part)][:, _nearest(axis)]] = NODATA
        within = slice(pixels.start - top, pixels.stop - top)
        for window, read in windows:
            first, end = max(window.start, columns.start), min(window.stop, columns.stop)
            if read.nodata is not None and first < end:
                empty = np.unpackbits(read.nodata[within], axis=1, count=window.stop - window.start).view(np.bool_)
                own_HW = labels_HW[:, first - columns.start : end - columns.start]
                own_HW[empty[:, first - window.start : end - window.start]] = NODATA
        if found.confidence is not None:
            self._write_pixels(labels_HW, found.confidence, pixels.start, columns.start)
        return labels_HW

    def _write_pixels(self, labels: NDArray[np.uint8], confidence: NDArray[np.float32], top: int, left: int) -> None:
        record = np.empty(labels.shape, _PIXEL)
        record["label"], record["confidence"] = labels, np.where(labels == NODATA, np.nan, confidence)
        with explained_writes(self._pixels), self._pixels.open("r+b" if self._pixels.exists() else "w+b") as file:
            for row, values in enumerate(record, top):
                file.seek((row * self.width + left) * _PIXEL.itemsize)
                file.write(values.tobytes())
            file.flush()
            os.fsync(file.fileno())  # before the ledger says that these rows are done

    def _encode(self, labels: NDArray[np.uint8]) -> bytes:
        return encode_geotiff(labels, None, palette=self.predictor.classes.palette(), tags={}) if len(labels) else b""

    def _pixels_of(self, panel: Panel) -> tuple[slice, Axis]:
        """The columns whose labels a panel completes, and their positions between its own points."""
        columns = bilinear_axis(self.grid.points[1], self.width, self.predictor.backend.geometry)
        first, end = panel.points.start, panel.points.stop
        _, pixels, axis = columns.between(first + 1 if first else 0, end + (end == columns.points))
        return pixels, axis

    def _read(self, rows: slice, columns: slice, above: int = 0) -> ReadWindow:
        """Read a window; `nodata` begins this number of rows above it."""
        try:
            pixels, nodata = self.scene.window(slice(rows.start - above, rows.stop), columns, self.predictor.channels)
        except DataError as error:
            return ReadWindow(None, error=str(error).removeprefix(f"{self.scene.path}: "))
        pixels, bits = pixels[above:], None if nodata is None else np.packbits(nodata, axis=1)
        if (nodata is not None and nodata[above:].all()) or (self.skip_empty and is_single_color(pixels)):
            return ReadWindow(None, bits)
        return ReadWindow(torch.from_numpy(check_image(pixels, str(self.scene.path))).permute(2, 0, 1), bits)

    def _coarse_logits(self, images: Tensor) -> Tensor:
        logits = self.predictor.backend.coarse_logits(images)
        if not all_finite(logits):
            raise not_finite(images)
        return logits

    def _lines(self) -> Iterator[dict[str, Any]]:
        """What the ledger says about each row."""
        missing = {"rows": 0, "pixels": [0] * (NODATA + 1), "unread": []}
        return (missing | (self.ledger.find(str(number)) or {}) for number in range(len(self.grid.rows)))

    def _file(self, number: int, panel: int, suffix: str = ".tif") -> Path:
        """The labels of a row and panel, or the logits that it continues."""
        return self.ledger.folder / f"{number:06}-{panel:03}{suffix}"

    def _save_state(self, number: int, panel: int, unfinished: RowBlock) -> None:
        logits, buffer = unfinished.logits.cpu(), io.BytesIO()
        values = (logits.float() if logits.dtype == torch.bfloat16 else logits).numpy()
        np.savez(buffer, first=unfinished.first, logits=values, covered=np.asarray(unfinished.covered))
        write_bytes(self._file(number, panel, ".npz"), buffer.getvalue())

    def _load_state(self, number: int, panel: int) -> RowBlock:
        if number == 0:
            width = self._panels[panel][0].grid.points[1]
            return RowBlock(0, self._probe.new_zeros(len(self._probe), 0, width), np.zeros((0, width), np.bool_))
        with np.load(self._file(number, panel, ".npz")) as state:
            return RowBlock(int(state["first"]), torch.from_numpy(state["logits"]).to(self._probe), state["covered"])


def is_single_color(pixels: Image) -> bool:
    """Whether a window is of one colour, up to noise: glass, water, the background of a scan.

    Means of 16 x 16 pixels may differ by 4 % of the range of the type, so that small objects are found; floats and
    signed integers have no range and must be equal.
    """
    if pixels.dtype not in (np.uint8, np.uint16):
        return bool((pixels == pixels[0, 0]).all())
    height, width, channels = pixels.shape
    size = max(1, width // _CELL_PX), max(1, height // _CELL_PX)
    cells = cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).reshape(-1, channels).astype(np.float64)
    return float(np.ptp(cells, axis=0).max()) <= _SINGLE_COLOR * np.iinfo(pixels.dtype).max


def _nearest(axis: Axis) -> NDArray[np.int64]:
    """The nearest point of each pixel."""
    return np.clip(axis.cell - (axis.fraction < 0.5), 0, axis.points - 1)
