"""What one COCO JSON file lists; of a million annotations only where each lies in the file is kept.

    {"images": [{"id": 9, "file_name": "000009.jpg", "height": 480, "width": 640}, ...],
     "annotations": [{"id": 1, "image_id": 9, "category_id": 51, "segmentation": ..., "iscrowd": 0}, ...],
     "categories": [{"id": 51, "name": "bowl", "supercategory": "kitchen"}, ...]}

A panoptic file has {"image_id": 9, "file_name": "000009.png", "segments_info": [{"id": 3, "category_id": 51}, ...]}.
"""

import reprlib
from array import array
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.classes import Color
from pyramidseg.data.defect_kinds import DefectError, Kind
from pyramidseg.data.json_files import JsonSlices, members
from pyramidseg.data.masks.coco import Id
from pyramidseg.data.references import is_plain

_LONGEST = 1024
"""Characters of the longest name; longer ones are no names."""


class ImageEntry(NamedTuple):
    """An image as the file names it; sizes are 0 where they are not given, and -1 where they are no sizes."""

    file_name: str
    height: int
    width: int


class Category(NamedTuple):
    """A class of objects."""

    name: str
    supercategory: str
    color: Color | None


@dataclass
class CocoJson:
    """One file.

    Attributes:
        images: by id.
        categories: by id.
        used: objects, or panoptic segments, by category id and whether they are crowds.
        shapeless: annotations with neither an outline nor segments.
        segment_files: of a panoptic file the PNG of each annotation.
        slices, image_numbers: where each annotation lies, and the position of its image; -1 if it is of none.
    """

    path: Path
    images: dict[Id, ImageEntry] = field(default_factory=dict)
    categories: dict[Id, Category] = field(default_factory=dict)
    used: Counter[tuple[Id, bool]] = field(default_factory=Counter)
    shapeless: int = 0
    segment_files: list[str] = field(default_factory=list)
    slices: JsonSlices = field(init=False)
    image_numbers: NDArray[np.int64] = field(init=False)

    @property
    def panoptic(self) -> bool:
        """Whether annotations are segments of PNG files."""
        return bool(self.segment_files)


def read_coco_json(path: Path) -> CocoJson:
    """Read a file from its beginning to its end, in little memory.

    Raises:
        DataError: no JSON, entries without what they need, an id that is given twice, a category that is not listed.
    """
    found = CocoJson(path)
    starts, ends, owners = array("q"), array("q"), array("q")
    numbers: dict[Id, int] = {}  # of every image that is named, in any order
    for member in members(path):
        if member.value == [] or member.key not in ("images", "annotations", "categories"):
            continue
        entry = _Entry(path, member.key, member.value)
        if member.key == "images":
            entry.enter(found.images, ImageEntry(entry.text("file_name"), entry.size("height"), entry.size("width")))
        elif member.key == "categories":
            supercategory = entry.text("supercategory") if entry.get("supercategory") else ""
            entry.enter(found.categories, Category(entry.text("name"), supercategory, entry.color()))
        else:
            starts.append(member.start)
            ends.append(member.end)
            owners.append(numbers.setdefault(entry.id("image_id"), len(numbers)))
            _add_annotation(found, entry)
    if found.panoptic and len(found.segment_files) < len(owners):
        raise DefectError(Kind.BAD_ANNOTATION, path, "holds panoptic segments and objects; part them into two files")
    _refuse_unknown_categories(found)
    position = np.full(len(numbers) + 1, -1)
    for place, image in enumerate(found.images):
        position[numbers.get(image, -1)] = place
    position[-1] = -1
    found.slices = JsonSlices.of(path, starts, ends)
    found.image_numbers = position[np.array(owners, np.int64)]
    return found


def _add_annotation(found: CocoJson, entry: "_Entry") -> None:
    segments = entry.get("segments_info")
    if segments is None:
        found.used[entry.id("category_id"), bool(entry.get("iscrowd"))] += 1
        found.shapeless += not entry.get("segmentation")
        return
    if not isinstance(segments, list):
        raise entry.flaw("segments_info", segments)
    found.segment_files.append(entry.text("file_name"))
    for segment in segments:
        inner = _Entry(entry.path, "segments_info", segment)
        found.used[inner.id("category_id"), bool(inner.get("iscrowd"))] += 1


def _refuse_unknown_categories(found: CocoJson) -> None:
    unknown = {category: count for (category, _), count in found.used.items() if category not in found.categories}
    if unknown:
        category = next(iter(unknown))
        raise DefectError(
            Kind.BAD_ANNOTATION,
            found.path,
            f"{sum(unknown.values())} annotations are of category {reprlib.repr(category)}"
            f"{' and others' if len(unknown) > 1 else ''}, which categories does not list; export it anew",
        )


class _Entry:
    """An element of one of the arrays."""

    def __init__(self, path: Path, key: str, value: Any) -> None:
        self.path, self.key, self.value = path, key, value
        if not isinstance(value, dict):
            raise DefectError(
                Kind.BAD_ANNOTATION, path, f"{key} holds {reprlib.repr(value)}, where an object is needed"
            )

    def get(self, name: str, default: Any = None) -> Any:
        return self.value.get(name, default)

    def id(self, name: str) -> Id:
        value = self.get(name)
        if isinstance(value, float) and value.is_integer():
            return int(value)
        if not isinstance(value, (int, str)) or isinstance(value, bool):
            raise self.flaw(name, value)
        return value

    def text(self, name: str) -> str:
        value = self.get(name)
        if not isinstance(value, str) or not value.strip() or len(value) > _LONGEST or not is_plain(value.strip()):
            raise self.flaw(name, value)
        return value.strip()

    def size(self, name: str) -> int:
        value = self.get(name)
        if value is None:
            return 0
        valid = isinstance(value, (int, float)) and 1 <= value < 2**31 and value == int(value)
        return int(value) if valid else -1

    def color(self) -> Color | None:
        value = self.get("color")
        if not isinstance(value, list) or len(value) != 3:
            return None
        if not all(isinstance(level, int) and 0 <= level <= 255 for level in value):
            return None
        return value[0], value[1], value[2]

    def enter(self, table: "dict[Id, Any]", value: object) -> None:
        if table.setdefault(self.id("id"), value) is not value:
            raise DefectError(
                Kind.BAD_ANNOTATION, self.path, f"{self.key}: id {reprlib.repr(self.id('id'))} is given twice"
            )

    def flaw(self, name: str, value: object) -> DefectError:
        given = "lacks" if value is None else f"has an unusable ({reprlib.repr(value)})"
        return DefectError(
            Kind.BAD_ANNOTATION, self.path, f"{self.key}: {reprlib.repr(self.value)} {given} {name}; export it anew"
        )
