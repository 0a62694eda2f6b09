"""COCO's object annotations as masks: polygons and run lengths, drawn on a background."""

import reprlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Polygons, Shape, Where, check_inside_image, parse_ring, rasterise
from pyramidseg.annotations.run_lengths import decode_run_lengths
from pyramidseg.base.defects import DefectCollector
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import JsonSlices
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.images.decode import image_size
from pyramidseg.images.open_image import check_pixel_count

Id = int | str

_IDS_SHOWN = 8
_BELOW_ALL = -1  # the layer of crowds: what has been outlined by itself lies on top


@dataclass(frozen=True)
class CategoryValues:
    """What the pixels of a category become; those of its crowds are kept apart."""

    objects: int
    crowds: int


@dataclass(frozen=True, eq=False)
class CocoFile:
    """Where the annotations of each image lie in one JSON file.

    Attributes:
        slices: the annotations, image by image.
        rows: the image's number, by the id of its record.
        first: (images + 1,) the first annotation of each image, and the end.
        sizes: (images, 2) height and width of each image as the file has them; 0 where it has none, and -1 where it
            has anything but a size.
        values: by category id.
    """

    slices: JsonSlices
    rows: Mapping[str, int]
    first: NDArray[np.int64]
    sizes: NDArray[np.int64]
    values: Mapping[Id, CategoryValues]


@dataclass(frozen=True, eq=False)
class CocoValues:
    """Objects of COCO files, whose name a record has as its mask. Of objects that overlap, the smaller lies on top.

    Attributes:
        files: by the name of the JSON file.
        names: by value; 0 is what no object covers.
    """

    files: Mapping[str, CocoFile]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        file = self.files.get(str(record.mask))
        row = None if file is None else file.rows.get(record.id)
        if file is None or row is None:
            raise DataError(f"{record.image}: is in none of the annotation files that were listed")
        height, width = file.sizes[row].tolist()
        where, flaws = Where(file.slices.path, record.id), DefectCollector()
        if -1 in (height, width):
            flaws.add(where.flaw("height and width have to be whole numbers from 1 on").defect)
        if height < 1 or width < 1:
            height, width = image_size(record.image)
        check_pixel_count(file.slices.path, height, width)
        shapes: list[Shape] = []
        for annotation in file.slices.read(range(file.first[row], file.first[row + 1])):
            with flaws.collect():
                shapes.append(_shape(annotation, file, record, height=height, width=width))
        flaws.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=where)

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        file = self.files[str(record.mask)]
        return bool(file.sizes[file.rows[record.id]].min() > 0)

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)


def _shape(annotation: Any, file: CocoFile, record: Record, *, height: int, width: int) -> Shape:
    where = Where(file.slices.path, f"annotation {str(annotation.get('id'))[:40]} of {record.id}")
    values = values_of(annotation, file.values, where)
    value, layer = (values.crowds, _BELOW_ALL) if annotation.get("iscrowd") else (values.objects, 0)
    outline = annotation.get("segmentation")
    if isinstance(outline, dict):
        if outline.get("size") != [height, width]:
            size = reprlib.repr(outline.get("size"))
            raise where.flaw(
                f"its run lengths are of an image of {size} pixels (height, width), and the image is said to have "
                f"{[height, width]}"
            )
        return decode_run_lengths(value, outline.get("counts"), height=height, width=width, where=where, layer=layer)
    if not isinstance(outline, list) or not outline:
        raise where.flaw("has no outline (segmentation), and a box alone is no mask; outline it, or delete it")
    rings = [parse_ring(part, where=where) for part in outline]
    for ring in rings:
        check_inside_image(ring, height=height, width=width, image=record.image, where=where)
    return Polygons(value, [[ring] for ring in rings], layer)


def as_id(value: object) -> Id | None:
    """A value as an id, None where it is none; whole floating-point numbers are."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None


def values_of(content: Mapping[str, Any], values: Mapping[Id, CategoryValues], where: Where) -> CategoryValues:
    """What the category of an annotation, or of a segment, becomes.

    Raises:
        DataError: it names none, or one that is not listed.
    """
    id = as_id(content.get("category_id"))
    if id is None or id not in values:
        known = ", ".join(map(repr, list(values)[:_IDS_SHOWN])) + (", ..." if len(values) > _IDS_SHOWN else "")
        raise where.flaw(
            f"is of category {reprlib.repr(content.get('category_id'))} (category_id), which categories does not list "
            f"({known or 'none'}); correct it, or export the file anew"
        )
    return values[id]
