"""Parse a COCO JSON file into an index: its images, its categories, and the byte offsets of its annotations.

The annotations themselves stay in the file and are read again image by image, so that a file with a million of them
needs little memory.
"""

import reprlib
from array import array
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location
from pyramidseg.base.classes import Color
from pyramidseg.base.defects import MAX_KEPT, Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.json_stream import JsonSlices, Member, members, parse_again
from pyramidseg.base.safe_paths import usable_name

Id = int | str

_MAX_NAME_LENGTH = 1024


class ImageEntry(NamedTuple):
    """An element of `images`; a size is 0 if it is missing, and -1 if it is not a whole number from 1."""

    file_name: str
    height: int
    width: int


class Category(NamedTuple):
    """An element of `categories`."""

    name: str
    supercategory: str
    color: Color | None


@dataclass(frozen=True)
class CocoJson:
    """The index of one file. Entries that cannot be used are `defects` and are left out.

    Attributes:
        images: by id. The position of an image is its place in this order.
        categories: by id.
        objects: number of objects, or of panoptic segments, by category id and `iscrowd`; listed categories only.
        without_outline: number of annotations with neither an outline nor segments.
        segment_files: the PNG file of each annotation; empty unless the file is panoptic.
        slices: (N) byte offsets of the annotations.
        image_positions: (N) the position of each annotation's image; -1 if the image cannot be used.
    """

    path: Path
    images: dict[Id, ImageEntry]
    categories: dict[Id, Category]
    objects: Counter[tuple[Id, bool]]
    without_outline: int
    segment_files: list[str]
    slices: JsonSlices
    image_positions: NDArray[np.int64]
    defects: tuple[Defect, ...]

    @property
    def panoptic(self) -> bool:
        """Whether annotations are segments of PNG files."""
        return bool(self.segment_files)


def parse_coco_json(path: Path) -> CocoJson:
    """Parse a file from its beginning to its end.

    Raises:
        DataError: the file is not JSON, lists no categories, or mixes panoptic segments with objects.
    """
    parser = _Parser(path)
    add = {"images": parser.add_image, "categories": parser.add_category, "annotations": parser.add_annotation}
    for member in members(path):
        if member.key in add and member.value != []:
            with parser.defects.collect():
                add[member.key](_Entry(path, member))
    return parser.index()


class _Parser:
    """Collects the elements of the three arrays, which may come in any order."""

    def __init__(self, path: Path) -> None:
        self.where = Location(path)
        self.images: dict[Id, ImageEntry] = {}
        self.categories: dict[Id, Category] = {}
        self.objects: Counter[tuple[Id, bool]] = Counter()
        self.without_outline = 0
        self.segment_files: list[str] = []
        self.defects = DefectCollector()
        self.starts, self.ends, self.owners = array("q"), array("q"), array("q")
        self.image_numbers: dict[Id, int] = {}  # of every image that an annotation names, listed or not
        self.unusable: set[Id] = set()  # images whose own entry is a defect already

    def add_image(self, entry: "_Entry") -> None:
        id = entry.id("id")
        self.unusable.add(id)
        image = ImageEntry(entry.text("file_name"), entry.size("height"), entry.size("width"))
        self.unusable.discard(id)
        entry.put_into(self.images, image, DefectKind.REPEATED_ID)

    def add_category(self, entry: "_Entry") -> None:
        supercategory = entry.text("supercategory") if entry.get("supercategory") else ""
        category = Category(entry.text("name"), supercategory, entry.color())
        entry.put_into(self.categories, category, DefectKind.BAD_ANNOTATION)

    def add_annotation(self, entry: "_Entry") -> None:
        """Index an annotation. Its category and outline are checked when the mask of its image is drawn."""
        image_id, segments = entry.id("image_id"), entry.get("segments_info")
        if segments is None:
            self.without_outline += not entry.get("segmentation")
            contents = [entry.value]
        elif isinstance(segments, list):
            self.segment_files.append(entry.text("file_name"))
            contents = [segment for segment in segments if isinstance(segment, dict)]
        else:
            raise entry.flaw("segments_info")
        for content in contents:
            if (category_id := as_id(content.get("category_id"))) is not None:
                self.objects[category_id, bool(content.get("iscrowd"))] += 1
        self.starts.append(entry.member.start)
        self.ends.append(entry.member.end)
        self.owners.append(self.image_numbers.setdefault(image_id, len(self.image_numbers)))

    def index(self) -> CocoJson:
        if self.segment_files and len(self.segment_files) < len(self.owners):
            raise self.where.error("holds panoptic segments as well as objects; split it into two files")
        if self.owners and not self.categories:
            lacking = self.where.error("lists no categories; export it again").defect
            raise DefectError.of([*self.defects.defects, lacking])
        position_of = {id: position for position, id in enumerate(self.images)}
        owners = np.array(self.owners, np.int64)
        positions = np.array([position_of.get(id, -1) for id in self.image_numbers], np.int64)[owners]
        slices = JsonSlices.of(self.where.file, self.starts, self.ends)
        known = [number for id, number in self.image_numbers.items() if id in self.unusable]
        self._add_unlisted(slices, np.flatnonzero((positions < 0) & ~np.isin(owners, known)))
        return CocoJson(
            self.where.file,
            self.images,
            self.categories,
            Counter({key: count for key, count in self.objects.items() if key[0] in self.categories}),
            self.without_outline,
            self.segment_files,
            slices,
            positions,
            self.defects.defects,
        )

    def _add_unlisted(self, slices: JsonSlices, rows: NDArray[np.int64]) -> None:
        """Add a defect for annotations of images that are not listed: their pixels would silently be background."""
        for row in rows[:MAX_KEPT].tolist():
            annotation = parse_again(slices.read([row])[0], slices.path)
            what = f"annotation {str(annotation.get('id', annotation.get('file_name')))[:40]}"
            detail = f"is of image {reprlib.repr(annotation['image_id'])} (image_id), which images does not list"
            self.defects.add(self.where._replace(item=what).error(f"{detail}; correct it, or remove it").defect)
        self.defects.add(more=max(0, len(rows) - MAX_KEPT))


class _Entry:
    """An element of one of the arrays; its methods raise a `DefectError` that names the element and the field."""

    def __init__(self, path: Path, member: Member) -> None:
        self.path, self.member, self.value = path, member, member.value
        if not isinstance(self.value, dict):
            detail = f"{member.key} holds {reprlib.repr(self.value)}, where an object is needed"
            raise Location(path).error(detail)

    def get(self, name: str) -> Any:
        return self.value.get(name)

    def id(self, name: str) -> Id:
        id = as_id(self.get(name))
        if id is None:
            raise self.flaw(name)
        return id

    def text(self, name: str) -> str:
        text = usable_name(self.get(name))
        if not text or len(text) > _MAX_NAME_LENGTH:
            raise self.flaw(name)
        return text

    def size(self, name: str) -> int:
        value = self.get(name)
        if value is None:
            return 0
        valid = isinstance(value, (int, float)) and 1 <= value < 2**31 and value == int(value)
        return int(value) if valid else -1

    def color(self) -> Color | None:
        match self.get("color"):
            case [int(red), int(green), int(blue)] if 0 <= min(red, green, blue) <= max(red, green, blue) <= 255:
                return red, green, blue
        return None

    def put_into(self, table: "dict[Id, Any]", value: object, kind: DefectKind) -> None:
        id = self.id("id")
        other = table.setdefault(id, value)
        if other is not value:
            names = f"{reprlib.repr(other[0])} and {reprlib.repr(self.get('file_name') or self.get('name'))}"
            detail = f"{self.member.key}: id {reprlib.repr(id)} is given twice, to {names}; give each its own"
            raise DefectError(kind, self.path, detail)

    def flaw(self, name: str) -> DefectError:
        value = self.get(name)
        given = "lacks" if value is None else f"has an unusable ({reprlib.repr(value)})"
        return Location(self.path, self.member.key).error(f"{reprlib.repr(self.value)} {given} {name}; export it again")


def as_id(value: object) -> Id | None:
    """An id: a string or a whole number (also as a float); None for anything else."""
    if isinstance(value, float) and value.is_integer():
        return int(value)
    return value if isinstance(value, (int, str)) and not isinstance(value, bool) else None
