"""Cuts scenes into windows that are images of the dataset, by `data.window`. Nothing is read but headers."""

import math
from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import ConfigError
from pyramidseg.data.image_mask_checks import size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import ParsedDataset
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.images.open_image import open_image
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene_windows import SceneWindow

SLOW_FACTOR = 4
"""Decoded pixels for each pixel of a window, above which there is a note."""


def with_windows(parsed: ParsedDataset, config: LabelConfig, *, source: Path) -> ParsedDataset:
    """The dataset with the windows of its large images in their place; images that fit into one window stay.

    Windows are `config.window` pixels high and wide and cover each image exactly once, row by row; the last ones of a
    row or column are up to one and a half times as large, or at least half.

    Raises:
        ConfigError: `window_gap` without `window`, or labels that are not cut.
    """
    if config.window is None:
        if config.window_gap is not None:
            raise ConfigError(f"{source}: window_gap={config.window_gap}: needs data.window; add it, or leave this out")
        return parsed
    vectors = isinstance(parsed.values, GeoJsonMasks)
    if not (vectors or isinstance(parsed.values, IndexValues)):
        raise ConfigError(
            f"{source}: window={config.window}: only GeoJSON polygons and masks in TIFF files are cut into windows, "
            f"not labels of {parsed.layout}; convert them first (pyramidseg convert --to masks), or leave it out"
        )
    flaws, splits, notes = DefectCollector(), dict[str, tuple[Record, ...]](), list[str]()
    for split, records in parsed.splits.items():
        cut: list[list[Record]] = []
        for record in records:
            with flaws.collect():
                cut.append(_windows(record, config.window, notes, vectors=vectors))
        splits[split] = tuple(record for some in cut for record in some)
        scenes = [len(some) for some in cut if len(some) > 1]
        notes.append(
            f"{split}: {len(scenes)} of {len(records)} images are cut into {sum(scenes)} windows (data.window)"
        )
    return replace(parsed, splits=splits, notes=(*parsed.notes, *notes), defects=(*parsed.defects, *flaws.defects))


def spans(size: int, window: int) -> list[tuple[int, int]]:
    """Start and length of the windows along a side."""
    starts = np.arange(max(1, (size + window // 2) // window)) * window
    return list(zip(starts.tolist(), np.diff(starts, append=size).tolist(), strict=True))


def _windows(record: Record, window: int, notes: list[str], *, vectors: bool) -> list[Record]:
    """The windows of an image, or the record itself if it fits into one.

    Args:
        vectors: its mask is drawn; otherwise it is a file to cut, too.
    """
    with open_image(record.image, header_only=True) as file:
        tags = file.tiff_tags
        size = file.size if tags is None else (tags.height, tags.width)
    rows, columns = (spans(side, window) for side in size)
    if len(rows) == len(columns) == 1:
        return [record]
    _check(record.image, window, notes)
    masks = None if vectors else record.mask
    if masks is not None and (mask := _check(masks, window, notes, labels=True)) != size:
        raise size_mismatch(record, image=size, mask=mask)
    found: list[Record] = []
    for (top, height), (left, width) in product(rows, columns):
        part = SceneWindow(record.image, top, left, height, width)
        mask_path = record.mask if masks is None else part._replace(scene=masks).path
        found.append(Record(f"{record.id}#y{top}x{left}", part.path, mask_path))
    return found


def _check(path: Path, window: int, notes: list[str], *, labels: bool = False) -> tuple[int, int]:
    """Height and width of a file that is cut.

    Raises:
        DataError: it cannot be read in windows.
    """
    if path.suffix.lower() not in (".tif", ".tiff"):
        kind = DefectKind.UNREADABLE_MASK if labels else DefectKind.UNREADABLE_IMAGE
        detail = "is larger than data.window, and only TIFF files are read in windows, with masks in GeoJSON or TIFF"
        raise DefectError(kind, path, f"{detail}; convert it (gdal_translate -co TILED=YES), or leave data.window out")
    with closing(RasterScene(path, labels=labels)) as scene:
        if labels and scene.is_lossy:
            detail = "is compressed by JPEG, which changes labels; save it with deflate"
            raise DefectError(DefectKind.LOSSY_MASK, path, detail)
        size = scene.header[:2]
        factor = math.prod(max(1.0, min(pair) / window) for pair in zip(scene.block, size, strict=True))
        if factor > SLOW_FACTOR:
            notes.append(
                f"{path} is stored in blocks of {scene.block[0]} x {scene.block[1]} pixels: each window decodes "
                f"{factor:.0f} times its pixels; gdal_translate -co TILED=YES makes it faster"
            )
        return size
