"""COCO JSON: COCO's own folders, those of Roboflow, CVAT, Label Studio and FiftyOne, and a single file with its images.

| what | where |
|---|---|
| COCO | `annotations/instances_train2017.json`, `train2017/` |
| Roboflow | `train/_annotations.coco.json`, images beside it |
| CVAT | `annotations/instances_default.json`, `images/` |
| Label Studio, FiftyOne | `result.json`, `images/`; `labels.json`, `data/` |
"""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.annotations import CocoJson
from pyramidseg.formats.coco.categories import CategoryLabels
from pyramidseg.formats.coco.coco_layout import CocoImages, annotation_files, image_notes, read_splits
from pyramidseg.formats.coco.coco_masks import CategoryValues, CocoFile, CocoValues, Id
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames, already_read
from pyramidseg.formats.polygon_labels import DRAWN

_ORDER = f"{DRAWN}; of objects that overlap, the smaller lies on top"


def read_coco(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List files of outlined objects.

    Raises:
        DataError: the files of the splits contradict each other.
    """
    listed = annotation_files(folder, splits, panoptic=False)
    if not listed.of_split:
        return None
    read = read_splits(listed.of_split, folder, splits, check=_refuse_without_outlines)
    if not read.files:
        return ParsedDataset("COCO", dict.fromkeys(listed.of_split, ()), defects=(*listed.defects, *read.defects))
    files, found = read.files, read.images
    labels = CategoryLabels.of_objects(list(files.values()))
    records = {
        split: tuple(Record(images.ids[place], path, files[split].path) for place, path in images.paths.items())
        for split, images in found.items()
    }
    kept = {str(file.path): _by_image(file, found[split], labels.values_of(file)) for split, file in files.items()}
    notes = (_ORDER, *listed.notes(), *read.notes, *labels.notes, *image_notes(files, found))
    return ParsedDataset(
        f"COCO ({', '.join(str(file.path.relative_to(folder)) for file in files.values())})",
        {**dict.fromkeys(listed.of_split, ()), **records},
        labels.labels,
        CocoValues(kept, labels.names),
        notes=notes,
        defects=(*listed.defects, *read.defects),
    )


def _refuse_without_outlines(file: CocoJson) -> None:
    if file.panoptic:
        raise DefectError(
            DefectKind.BAD_ANNOTATION,
            file.path,
            "holds panoptic segments; call it panoptic_....json, beside a folder of its PNG files",
        )
    if file.shapeless and file.shapeless == len(file.image_numbers):
        raise DefectError(
            DefectKind.BAD_ANNOTATION,
            file.path,
            f"none of its {file.shapeless} annotations has an outline (segmentation), and boxes are no masks; export "
            "polygons or run lengths",
        )


def _by_image(file: CocoJson, images: CocoImages, values: Mapping[Id, CategoryValues]) -> CocoFile:
    """The annotations of a file, sorted by the position of their images."""
    order = np.argsort(file.image_numbers, kind="stable")
    slices = replace(file.slices, starts=file.slices.starts[order], ends=file.slices.ends[order])
    first = np.searchsorted(file.image_numbers[order], np.arange(len(file.images) + 1))
    sizes = np.array([(entry.height, entry.width) for entry in file.images.values()], np.int64)
    return CocoFile(slices, {id: place for place, id in images.ids.items()}, first, sizes, values)


FORMAT = DatasetFormat(
    "coco",
    "COCO's, Roboflow's or CVAT's JSON of outlined objects, and its images",
    detect=read_coco,
    read=already_read,
)
