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

from pyramidseg.annotations.polygons import Where
from pyramidseg.base.classes import Color
from pyramidseg.base.defects import MAX_KEPT, Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.json_stream import JsonSlices, members
from pyramidseg.base.safe_paths import is_plain
from pyramidseg.formats.coco.coco_masks import Id, as_id

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
    """One file. What a single entry lacks is a defect, and the entry is left out.

    Attributes:
        images: by id.
        categories: by id.
        used: objects, or panoptic segments, by category id and whether they are crowds; of listed categories alone.
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
    flaws: DefectCollector = field(default_factory=DefectCollector)
    slices: JsonSlices = field(init=False)
    image_numbers: NDArray[np.int64] = field(init=False)

    @property
    def panoptic(self) -> bool:
        """Whether annotations are segments of PNG files."""
        return bool(self.segment_files)


def read_coco_json(path: Path) -> CocoJson:
    """Read a file from its beginning to its end, in little memory.

    Raises:
        DataError: no JSON, no categories, or panoptic segments among objects.
    """
    found = CocoJson(path)
    starts, ends, owners = array("q"), array("q"), array("q")
    numbers: dict[Id, int] = {}  # of every image that is named, in any order
    unusable: set[Id] = set()  # images whose entries are defects already
    for member in members(path):
        if member.value == [] or member.key not in ("images", "annotations", "categories"):
            continue
        with found.flaws.collect():
            entry = _Entry(path, member.key, member.value)
            if member.key == "images":
                unusable.add(entry.id("id"))
                image = ImageEntry(entry.text("file_name"), entry.size("height"), entry.size("width"))
                unusable.discard(entry.id("id"))
                entry.enter(found.images, image, DefectKind.REPEATED_ID)
            elif member.key == "categories":
                supercategory = entry.text("supercategory") if entry.get("supercategory") else ""
                category = Category(entry.text("name"), supercategory, entry.color())
                entry.enter(found.categories, category, DefectKind.BAD_ANNOTATION)
            else:
                image_id = entry.id("image_id")
                _count(found, entry)
                starts.append(member.start)
                ends.append(member.end)
                owners.append(numbers.setdefault(image_id, len(numbers)))
    if found.panoptic and len(found.segment_files) < len(owners):
        raise DefectError(
            DefectKind.BAD_ANNOTATION, path, "holds panoptic segments and objects; part them into two files"
        )
    if owners and not found.categories:
        raise DefectError.of(
            [*found.flaws.defects, Defect(DefectKind.BAD_ANNOTATION, path, "lists no categories; export it anew")]
        )
    found.used = Counter({use: count for use, count in found.used.items() if use[0] in found.categories})
    position = np.full(len(numbers) + 1, -1)
    for place, image_id in enumerate(found.images):
        position[numbers.get(image_id, -1)] = place
    position[-1] = -1
    found.slices = JsonSlices.of(path, starts, ends)
    found.image_numbers = position[np.array(owners, np.int64)]
    known = np.array([number for id, number in numbers.items() if id in unusable], np.int64)
    _add_homeless(found, np.flatnonzero((found.image_numbers < 0) & ~np.isin(owners, known)))
    return found


def _count(found: CocoJson, entry: "_Entry") -> None:
    """Take an annotation into account. What is wrong with its category or outline, the mask of its image will say."""
    segments = entry.get("segments_info")
    if segments is None:
        found.shapeless += not entry.get("segmentation")
        contents = [entry.value]
    elif isinstance(segments, list):
        found.segment_files.append(entry.text("file_name"))
        contents = [segment for segment in segments if isinstance(segment, dict)]
    else:
        raise entry.flaw("segments_info", segments)
    categories = ((as_id(content.get("category_id")), bool(content.get("iscrowd"))) for content in contents)
    found.used.update((id, crowd) for id, crowd in categories if id is not None)


def _add_homeless(found: CocoJson, rows: NDArray[np.int64]) -> None:
    """Annotations of images that are not listed: their pixels would be background in silence."""
    for row in rows[:MAX_KEPT].tolist():
        (annotation,) = found.slices.read([row])
        what = f"annotation {str(annotation.get('id', annotation.get('file_name')))[:40]}"
        image = reprlib.repr(annotation["image_id"])
        flaw = Where(found.path, what).flaw(
            f"is of image {image} (image_id), which images does not list; correct it, or take it out"
        )
        found.flaws.add(flaw.defect)
    found.flaws.add(more=max(0, len(rows) - MAX_KEPT))


class _Entry:
    """An element of one of the arrays."""

    def __init__(self, path: Path, key: str, value: Any) -> None:
        self.path, self.key, self.value = path, key, value
        if not isinstance(value, dict):
            raise DefectError(
                DefectKind.BAD_ANNOTATION, path, f"{key} holds {reprlib.repr(value)}, where an object is needed"
            )

    def get(self, name: str, default: Any = None) -> Any:
        return self.value.get(name, default)

    def id(self, name: str) -> Id:
        id = as_id(self.get(name))
        if id is None:
            raise self.flaw(name, self.get(name))
        return id

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

    def enter(self, table: "dict[Id, Any]", value: object, kind: DefectKind) -> None:
        other = table.setdefault(self.id("id"), value)
        if other is not value:
            names = f"{reprlib.repr(other[0])} and {reprlib.repr(self.value.get('file_name', self.value.get('name')))}"
            id = reprlib.repr(self.id("id"))
            raise DefectError(kind, self.path, f"{self.key}: id {id} is given twice, to {names}; give each its own")

    def flaw(self, name: str, value: object) -> DefectError:
        given = "lacks" if value is None else f"has an unusable ({reprlib.repr(value)})"
        return DefectError(
            DefectKind.BAD_ANNOTATION,
            self.path,
            f"{self.key}: {reprlib.repr(self.value)} {given} {name}; export it anew",
        )
