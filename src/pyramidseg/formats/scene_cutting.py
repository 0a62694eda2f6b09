"""Cuts scenes into windows that are images of the dataset, by `data.window`. Nothing is read but headers."""

from contextlib import closing
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.data.image_mask_checks import size_mismatch
from pyramidseg.data.index_masks import IndexValues
from pyramidseg.data.records import Record, ValueSource
from pyramidseg.formats.dataset_format import ParsedDataset
from pyramidseg.formats.dataset_statements import Statements
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks
from pyramidseg.images.open_image import open_image
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene_windows import SceneWindow


def with_windows(parsed: ParsedDataset, stated: Statements) -> ParsedDataset:
    """The dataset with the windows of its large images in their place; images that fit into one window stay.

    Windows cover each image exactly once; the last of a row or column is half to one and a half times as large.

    Raises:
        ConfigError: `window_gap` without `window`.
    """
    window, gap = stated.config.window, stated.config.window_gap
    if window is None:
        if gap is not None:
            raise stated.error(f"window_gap={gap}: needs data.window; add it, or leave this out")
        return parsed
    flaws, splits, notes = DefectCollector(), dict[str, tuple[Record, ...]](), list[str]()
    for split, records in parsed.splits.items():
        cut: list[list[Record]] = []
        for record in records:
            with flaws.collect():
                cut.append(_windows(record, window, parsed.values))
        splits[split] = tuple(record for some in cut for record in some)
        scenes = [len(some) for some in cut if len(some) > 1]
        notes.append(f"{split}: {len(scenes)} of {len(records)} images are cut into {sum(scenes)} windows")
    return replace(parsed, splits=splits, notes=(*parsed.notes, *notes), defects=(*parsed.defects, *flaws.defects))


def spans(size: int, window: int) -> list[tuple[int, int]]:
    """Start and length of the windows along a side."""
    starts = np.arange(max(1, (size + window // 2) // window)) * window
    return list(zip(starts.tolist(), np.diff(starts, append=size).tolist(), strict=True))


def _windows(record: Record, window: int, values: ValueSource) -> list[Record]:
    """The windows of an image, or the record itself if it fits into one."""
    with open_image(record.image, header_only=True) as file:
        tags = file.tiff_tags
        size = file.size if tags is None else (tags.height, tags.width)
    rows, columns = (spans(side, window) for side in size)
    if len(rows) == len(columns) == 1:
        return [record]
    _check(record.image)
    is_drawn, mask = isinstance(values, GeoJsonMasks), record.mask
    if not is_drawn:
        if mask is None or not isinstance(values, IndexValues):
            detail = "has labels of a kind that is not cut; convert the dataset first (pyramidseg convert --to masks)"
            raise DefectError(DefectKind.UNREADABLE_MASK, record.image, detail)
        if (of_mask := _check(mask, labels=True)) != size:
            raise size_mismatch(record, image=size, mask=of_mask)
    found: list[Record] = []
    for (top, height), (left, width) in product(rows, columns):
        part = SceneWindow(record.image, top, left, height, width)
        labels = mask if is_drawn or mask is None else part._replace(scene=mask).path
        found.append(Record(f"{record.id}#y{top}x{left}", part.path, labels))
    return found


def _check(path: Path, *, labels: bool = False) -> tuple[int, int]:
    """Height and width of a file that is cut; a DataError if it cannot be read in windows."""
    if path.suffix.lower() not in (".tif", ".tiff"):
        kind = DefectKind.UNREADABLE_MASK if labels else DefectKind.UNREADABLE_IMAGE
        detail = "is larger than data.window, and only TIFF files are read in windows, with masks in GeoJSON or TIFF"
        raise DefectError(kind, path, f"{detail}; convert it (gdal_translate -co TILED=YES), or leave data.window out")
    with closing(RasterScene(path, labels=labels)) as scene:
        if labels and scene.is_lossy:
            raise DefectError(DefectKind.LOSSY_MASK, path, "is in JPEG, which changes labels; save it with deflate")
        height, width = scene.header[:2]
        scene.read(slice(height - 1, height), slice(width - 1, width))  # a truncated file lacks its end
        return height, width
