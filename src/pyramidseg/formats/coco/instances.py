"""COCO's outlined objects: polygons and run lengths, drawn on a background. The package shows the format."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Polygons, Shape, check_inside_image, parse_ring, rasterise
from pyramidseg.annotations.run_lengths import decode_run_lengths
from pyramidseg.base.defects import DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import JsonSlices
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.coco.annotation_files import AnnotationFiles, find_annotation_files
from pyramidseg.formats.coco.categories import CategoryLabels, CategoryValues, category_values
from pyramidseg.formats.coco.coco_images import CocoSplit, parse_splits
from pyramidseg.formats.coco.coco_json import CocoJson, Id
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.polygon_labels import DRAWN
from pyramidseg.images.decode import image_size
from pyramidseg.images.file_checks import check_pixel_count

_BELOW_OBJECTS = -1
"""The layer of crowds: objects that are outlined by themselves are drawn over them."""


def detect(folder: Path, splits: SplitNames) -> AnnotationFiles | None:
    """Find the JSON file of each split."""
    return find_annotation_files(folder, splits, panoptic=False)


def read(found: AnnotationFiles) -> ParsedDataset:
    """Parse the JSON files, find their images, name the classes, and list the records."""
    splits = parse_splits(found, check=_require_outlines)
    records: dict[str, tuple[Record, ...]] = dict.fromkeys(found.of_split, ())
    if not splits.by_name:
        return ParsedDataset("COCO", records, notes=splits.notes, defects=splits.defects)
    labels = CategoryLabels.of_objects(splits.files)
    files: dict[str, CocoFile] = {}
    for name, split in splits.by_name.items():
        json_path = split.json.path
        records[name] = tuple(Record(split.ids[position], image, json_path) for position, image in split.paths.items())
        files[str(json_path)] = CocoFile.of(split, labels.values_of(split.json))
    return ParsedDataset(
        f"COCO ({', '.join(str(json.path.relative_to(found.root)) for json in splits.files)})",
        records,
        labels.labels,
        CocoMasks(files, labels.names),
        notes=(f"{DRAWN}; where objects overlap, the smaller is on top", *splits.notes, *labels.notes),
        defects=splits.defects,
    )


FORMAT = DatasetFormat(
    "coco", "JSON files of outlined objects as COCO, Roboflow and CVAT write them, and their images", detect, read
)


def _require_outlines(json: CocoJson) -> None:
    detail = None
    if json.panoptic:
        detail = "holds panoptic segments; name it panoptic_....json, next to a folder of its PNG files"
    elif json.without_outline and json.without_outline == len(json.image_positions):
        detail = (
            f"none of its {json.without_outline} annotations has an outline (segmentation), and boxes are not masks; "
            "export polygons or run lengths"
        )
    if detail:
        raise DefectError(DefectKind.BAD_ANNOTATION, json.path, detail)


@dataclass(frozen=True, eq=False)
class CocoFile:
    """The annotations of one JSON file, sorted by image.

    Attributes:
        slices: their byte offsets.
        positions: the image's position, by the id of its record.
        first: (images + 1,) the first annotation of each image.
        sizes: (images, 2) height and width of each image; see `ImageEntry`.
        values: mask values by category id.
    """

    slices: JsonSlices
    positions: Mapping[str, int]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    values: Mapping[Id, CategoryValues]

    @classmethod
    def of(cls, split: CocoSplit, values: Mapping[Id, CategoryValues]) -> "CocoFile":
        json = split.json
        order = np.argsort(json.image_positions, kind="stable")
        slices = replace(json.slices, starts=json.slices.starts[order], ends=json.slices.ends[order])
        first = np.searchsorted(json.image_positions[order], np.arange(len(json.images) + 1))
        sizes = np.array([(entry.height, entry.width) for entry in json.images.values()], np.int64)
        return cls(slices, {id: position for position, id in split.ids.items()}, first, sizes, values)


@dataclass(frozen=True, eq=False)
class CocoMasks:
    """Draws the mask of a record, whose `mask` is the JSON file. Where objects overlap, the smaller is on top.

    Attributes:
        files: by the path of the JSON file.
        names: of the classes, by value; 0 is background.
    """

    files: Mapping[str, CocoFile]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        file = self.files.get(str(record.mask))
        position = None if file is None else file.positions.get(record.id)
        if file is None or position is None:
            raise DataError(f"{record.image}: is in none of the annotation files of this dataset")
        height, width = file.sizes[position].tolist()
        where, defects = Location(file.slices.path, record.id), DefectCollector()
        if -1 in (height, width):
            defects.add(where.error("height and width have to be whole numbers from 1").defect)
        if height < 1 or width < 1:
            height, width = image_size(record.image)
        check_pixel_count(file.slices.path, height, width)
        shapes: list[Shape] = []
        for annotation in file.slices.read(range(file.first[position], file.first[position + 1])):
            with defects.collect():
                shapes.append(_shape(annotation, file, record, height=height, width=width))
        defects.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=where)

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        file = self.files[str(record.mask)]
        return bool(file.sizes[file.positions[record.id]].min() > 0)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)


def _shape(annotation: Any, file: CocoFile, record: Record, *, height: int, width: int) -> Shape:
    where = Location(file.slices.path, f"annotation {str(annotation.get('id'))[:40]} of {record.id}")
    values = category_values(annotation, file.values, where)
    value = values.crowds if annotation.get("iscrowd") else values.objects
    layer = 0 if value == values.objects else _BELOW_OBJECTS
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        if outline.get("size") != [height, width]:
            size = reprlib.repr(outline.get("size"))
            raise where.error(
                f"its run lengths are of an image of {size} pixels (height, width), but the size of the image is "
                f"{[height, width]}; export the file again"
            )
        return decode_run_lengths(value, outline.get("counts"), height=height, width=width, where=where, layer=layer)
    if not isinstance(outline, list) or not outline:
        raise where.error("has no outline (segmentation), and a box is not a mask; outline the object, or delete it")
    rings = [parse_ring(part, where=where) for part in outline]
    for ring in rings:
        check_inside_image(ring, height=height, width=width, image=record.image, where=where)
    return Polygons(value, [[ring] for ring in rings], layer)
