"""COCO's outlined objects: polygons and run lengths, drawn on a background. The package shows the format."""

import reprlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyramidseg.annotations.polygons import Location, parse_ring
from pyramidseg.annotations.run_lengths import decode_run_lengths
from pyramidseg.base.json_stream import parse_again
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.categories import CategoryLabels, CategoryNames, category_names
from pyramidseg.formats.coco.coco_files import AnnotationFiles, CocoSplit, find_annotation_files, parse_splits
from pyramidseg.formats.coco.coco_json import CocoJson, Id
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.polygon_labels import DRAWN
from pyramidseg.formats.region_masks import Region, RegionMasks, SharedFile, SharedFiles, Size

_BELOW_OBJECTS = -1
"""The layer of crowds: objects that are outlined by themselves are drawn over them."""


def detect(folder: Path, splits: SplitNames) -> AnnotationFiles | None:
    """Find the JSON file of each split."""
    return find_annotation_files(folder, splits, panoptic=False)


def read(found: AnnotationFiles, _: object) -> ParsedDataset:
    """Parse the JSON files, find their images, name the classes, and list the records."""
    splits = parse_splits(found, check=_require_outlines)
    records: dict[str, tuple[Record, ...]] = dict.fromkeys(found.of_split, ())
    if not splits.by_name:
        return ParsedDataset("COCO", records, notes=splits.notes, defects=splits.defects)
    labels = CategoryLabels.of_files(splits.files, panoptic=False)
    files: dict[str, SharedFile] = {}
    categories: dict[Path, Mapping[Id, CategoryNames]] = {}
    for name, split in splits.by_name.items():
        json_path = split.json.path
        records[name] = tuple(Record(record.id, record.image, json_path) for record in split.images.values())
        files[str(json_path)] = _sorted_by_image(split)
        categories[json_path] = labels.names_of(split.json)
    return ParsedDataset(
        f"COCO ({', '.join(str(json.path.relative_to(found.root)) for json in splits.files)})",
        records,
        labels.labels,
        RegionMasks(
            SharedFiles(files, _parse).objects, partial(_regions, categories=categories), labels.values, labels.names
        ),
        notes=(f"{DRAWN}; where objects overlap, the smaller is on top", *splits.notes, *labels.notes),
        defects=splits.defects,
    )


FORMAT = DatasetFormat(
    "coco", "JSON files of outlined objects as COCO, Roboflow and CVAT write them, and their images", detect, read
)


def _require_outlines(json: CocoJson) -> None:
    where = Location(json.path)
    if json.panoptic:
        raise where.error("holds panoptic segments; name it panoptic_....json, next to a folder of its PNG files")
    if json.without_outline and json.without_outline == len(json.image_positions):
        raise where.error(
            f"none of its {json.without_outline} annotations has an outline (segmentation), and boxes are not masks; "
            "export polygons or run lengths"
        )


def _sorted_by_image(split: CocoSplit) -> SharedFile:
    json = split.json
    order = np.argsort(json.image_positions, kind="stable")
    slices = replace(json.slices, starts=json.slices.starts[order], ends=json.slices.ends[order])
    first = np.searchsorted(json.image_positions[order], np.arange(len(json.images) + 1))
    sizes = np.array([(entry.height, entry.width) for entry in json.images.values()], np.int64)
    return SharedFile(slices, {record.id: position for position, record in split.images.items()}, first, sizes)


def _parse(data: Sequence[bytes], where: Location) -> Iterable[tuple[str, Any]]:
    annotations = [parse_again(text, where.file) for text in data]
    return [(f"annotation {str(annotation.get('id'))[:40]}", annotation) for annotation in annotations]


def _regions(
    annotation: Any, size: Size, where: Location, categories: Mapping[Path, Mapping[Id, CategoryNames]]
) -> Iterator[Region]:
    names = category_names(annotation, categories[where.file], where)
    name = names.crowds if annotation.get("iscrowd") else names.objects
    layer = 0 if name == names.objects else _BELOW_OBJECTS
    outline = annotation.get("segmentation")
    height, width = size
    if isinstance(outline, dict):
        if outline.get("size") != [height, width]:
            stated = reprlib.repr(outline.get("size"))
            raise where.error(
                f"its run lengths are of an image of {stated} pixels (height, width), but the size of the image is "
                f"{[height, width]}; export the file again"
            )
        yield Region(name, decode_run_lengths(outline.get("counts"), height=height, width=width, where=where), layer)
    elif not isinstance(outline, list) or not outline:
        raise where.error("has no outline (segmentation), and a box is not a mask; outline the object, or delete it")
    else:
        yield Region(name, [[parse_ring(part, where=where)] for part in outline], layer)
