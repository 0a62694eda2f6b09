"""LabelMe: a JSON file for each image, next to it or in a folder of its own; in folders for the splits, or without.

    images/a.jpg    images/a.json    or    train/a.jpg  train/a.json  val/b.jpg  val/b.json

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null,
     "shapes": [{"label": "fig", "shape_type": "polygon", "points": [[x1, y1], [x2, y2], ...]},
                {"label": "fig", "shape_type": "mask", "points": [first, last pixel], "mask": "PNG in base64"}, ...]}

A function `write` belongs in this module.
"""

import base64
import io
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path, PureWindowsPath
from typing import Any, ClassVar, TypeGuard

import numpy as np
from numpy.typing import NDArray
from PIL.PngImagePlugin import PngImageFile

from pyramidseg.annotations.polygons import (
    Location,
    Polygons,
    Runs,
    Shape,
    check_inside_image,
    disc,
    parse_points,
    parse_ring,
    rasterise,
    runs_of_pixels,
)
from pyramidseg.base.defects import Defect, DefectCollector, DefectError, DefectKind
from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import MAX_TOGETHER, members
from pyramidseg.base.parallel import map_in_threads
from pyramidseg.base.safe_paths import is_file, is_valid_name, resolve_inside, short
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.paths import child_folder
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, similar_names_note
from pyramidseg.images.decode import image_size
from pyramidseg.images.file_checks import check_pixel_count
from pyramidseg.images.image_files import list_files, list_images

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Types of shapes that enclose nothing. They are not drawn, and a note says how many there are."""

_SAMPLED = 20
"""Number of JSON files that are looked at to recognise the format."""

Size = tuple[int, int]
"""Height and width."""


@dataclass(frozen=True)
class LabelMeFiles:
    """The folder and the JSON files of each split."""

    folder: Path
    splits: Mapping[str, tuple[Path, Sequence[Path]]]


def detect(folder: Path, splits: SplitNames) -> LabelMeFiles | None:
    """Find JSON files, some of which begin as LabelMe's do: in folders of splits, or else in the whole folder."""
    files = list_files(folder, (".json",))
    if not any(json_kind(file) == "labelme" for file in files[:: max(1, len(files) // _SAMPLED)]):
        return None
    places = {split: child_folder(folder, names) for split, names in splits.items()}
    found = {split: (place, list_files(place, (".json",))) for split, place in places.items() if place}
    if any(some for _, some in found.values()):
        return LabelMeFiles(folder, {split: (place, some) for split, (place, some) in found.items() if some})
    return LabelMeFiles(folder, {"train": (folder, files)}) if splits == SPLIT_NAMES else None


def read(found: LabelMeFiles) -> ParsedDataset:
    """List JSON files with the images that they name. An image without a file has no labels and is left out."""
    images = list_images(found.folder)
    splits = {split: _read_split(files, images, place, found.folder) for split, (place, files) in found.splits.items()}
    labels = sorted({label for split in splits.values() for label in split.labels})
    drawn = DrawnLabels.of(labels)
    return ParsedDataset(
        "LabelMe (a JSON file for each image)",
        {name: tuple(split.records.values()) for name, split in splits.items()},
        drawn.labels,
        LabelMeMasks(drawn.values, drawn.names),
        notes=(*_notes(list(splits.values()), images), *similar_names_note(labels)),
        defects=tuple(defect for split in splits.values() for defect in split.defects),
    )


FORMAT = DatasetFormat("labelme", "a JSON file next to each image", detect, read)


@dataclass
class LabelMeFile:
    """Content of a JSON file, not yet checked.

    Attributes:
        shapes: None if the file is not LabelMe's.
    """

    path: Path
    image_path: object = None
    height: object = None
    width: object = None
    shapes: list[Any] | None = None

    def size(self) -> Size | None:
        """Height and width of the image; None if not given.

        Raises:
            DefectError: they are not sizes.
        """
        if self.height is None or self.width is None:
            return None
        if not (_is_length(self.height) and _is_length(self.width)):
            raise Location(self.path).error("imageHeight and imageWidth have to be whole numbers from 1")
        return self.height, self.width


def read_labelme(path: Path) -> LabelMeFile:
    """Read a JSON file.

    Raises:
        DefectError: it is not JSON, or has more than `MAX_TOGETHER` bytes of shapes.
    """
    file = LabelMeFile(path)
    shape_bytes = 0
    for member in members(path):
        if member.key == "imagePath":
            file.image_path = member.value
        elif member.key == "imageHeight":
            file.height = member.value
        elif member.key == "imageWidth":
            file.width = member.value
        elif member.key == "shapes":
            file.shapes = file.shapes or []
            shape_bytes += member.end - member.start
            if shape_bytes > MAX_TOGETHER:
                raise Location(path).error(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            if member.value != []:
                file.shapes.append(member.value)
    return file


def _label(shape: object) -> str | None:
    """The label of a shape; None if it has none that can be a name."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return label.strip() if isinstance(label, str) and label.strip() and is_valid_name(label.strip()) else None


def _shape_type(shape: object) -> str:
    """The type of a shape; files of LabelMe before 3.2 hold only polygons and do not name it."""
    return str((isinstance(shape, dict) and shape.get("shape_type")) or "polygon")


def _is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 1 <= value < 2**31


@dataclass
class _Split:
    """What the files of a split hold.

    Attributes:
        labels, types: number of shapes with each label, and of each type.
        others: JSON files that are not LabelMe's.
        renamed: number of files whose image has another name than they give.
    """

    records: dict[Path, Record] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    types: Counter[str] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    renamed: int = 0


def _read_split(files: Sequence[Path], images: Sequence[Path], place: Path, root: Path) -> _Split:
    split = _Split()
    known = set(images)
    by_stem = {image.with_suffix(""): image for image in reversed(images)}
    for path, file in zip(files, map_in_threads(_read_without_points, files), strict=True):
        if isinstance(file, Defect):
            split.defects.append(file)
        elif file.shapes is None:
            split.others.append(path)
        else:
            _add(split, file, known, by_stem.get(path.with_suffix("")), place, root)
    if files and len(split.others) == len(files):
        detail = f"none of its {len(files)} JSON files is LabelMe's, as those of other splits are; export them again"
        split.defects.append(Defect(DefectKind.ABSENT, place, detail))
    return split


def _read_without_points(path: Path) -> LabelMeFile | Defect:
    """A file without the points of its shapes, so that many fit into memory."""
    try:
        file = read_labelme(path)
    except DefectError as error:
        return error.defect
    for shape in file.shapes or []:
        if isinstance(shape, dict):
            shape.pop("points", None)
            shape.pop("mask", None)
    return file


def _add(split: _Split, file: LabelMeFile, known: set[Path], same_stem: Path | None, place: Path, root: Path) -> None:
    shapes = file.shapes or []
    split.labels.update(label for shape in shapes if (label := _label(shape)))
    split.types.update(_shape_type(shape) for shape in shapes)
    try:
        image, renamed = _image_of(file, known, same_stem, root)
    except DefectError as error:
        split.defects.append(error.defect)
        return
    if image in split.records:
        detail = f"belongs to the image {image}, and so does {split.records[image].mask}; remove one of them"
        split.defects.append(Defect(DefectKind.REPEATED_ID, file.path, detail))
        return
    split.renamed += renamed
    id = image.relative_to(place if image.is_relative_to(place) else root).with_suffix("").as_posix()
    split.records[image] = Record(id, image, file.path)


def _image_of(file: LabelMeFile, known: set[Path], same_stem: Path | None, root: Path) -> tuple[Path, bool]:
    """The image that a file names; if it names none, or one that does not exist, the image next to it of the same name.

    Returns:
        The image, and whether its name differs from the one that the file gives.

    Raises:
        DefectError: there is none, its path leads out of the dataset, or both names exist and differ.
    """
    if file.image_path is None and same_stem is not None:
        return same_stem, False
    if same_stem is not None and PureWindowsPath(str(file.image_path)).stem == same_stem.stem:
        with suppress(DefectError):  # file and image were moved together: the path leads elsewhere and is not followed
            image = resolve_inside(file.image_path, folder=file.path.parent, root=root, where=file.path)
            return (image, False) if image in known or is_file(image) else (same_stem, True)
        return same_stem, True
    image = resolve_inside(file.image_path, folder=file.path.parent, root=root, where=file.path)
    if image not in known and not is_file(image):
        if same_stem is not None:
            return same_stem, True
        detail = f"belongs to the image {image} (imagePath), which does not exist"
        raise DefectError(DefectKind.MISSING_IMAGE, file.path, detail)
    if same_stem is not None and image.stem != file.path.stem:
        detail = f"belongs to the image {image} by its imagePath, but to {same_stem} by its name; correct one of them"
        raise DefectError(DefectKind.BAD_ANNOTATION, file.path, detail)
    return image, False


def _notes(splits: Sequence[_Split], images: Sequence[Path]) -> Iterator[str]:
    yield f"{DRAWN}; where shapes overlap, the later is on top, as in LabelMe; labels are in alphabetical order"
    without_area = {type: sum(split.types[type] for split in splits) for type in WITHOUT_AREA}
    if any(without_area.values()):
        counts = ", ".join(f"{count} {type}" for type, count in without_area.items() if count)
        yield f"shapes without an area are not drawn ({counts}); convert them to polygons if they are needed"
    renamed = sum(split.renamed for split in splits)
    if renamed:
        yield f"{renamed} files name an image (imagePath) that does not exist: the image of the same name was used"
    used = {image.with_suffix("") for split in splits for image in split.records}
    used |= {defect.file.with_suffix("") for split in splits for defect in split.defects}
    unlabelled = [image for image in images if image.with_suffix("") not in used]
    if unlabelled:
        yield f"{len(unlabelled)} images, such as {unlabelled[0]}, have no LabelMe file and were left out"
    others = [path for split in splits for path in split.others]
    if others:
        yield f"{len(others)} JSON files, such as {others[0]}, are not LabelMe's and were left out"


@dataclass(frozen=True)
class LabelMeMasks:
    """Draws the mask of a record, whose `mask` is the JSON file.

    Attributes:
        values: by label.
        names: of the classes, by value; 0 is background.
    """

    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no LabelMe file")
        file = read_labelme(record.mask)
        size, defects = None, DefectCollector()
        with defects.collect():
            size = file.size()
        height, width = size or image_size(record.image)
        check_pixel_count(file.path, height, width)
        shapes: list[Shape] = []
        for number, shape in enumerate(file.shapes or []):
            where = Location(file.path, f"shape {number}")
            with defects.collect():
                value = self._value(shape, where)
                if _shape_type(shape) not in WITHOUT_AREA:
                    shapes.append(_parse_shape(shape, value, number, where, (height, width), record.image))
        defects.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=Location(file.path))

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return record.mask is not None and read_labelme(record.mask).size() is not None

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _value(self, shape: object, where: Location) -> int:
        label, given = _label(shape), shape.get("label") if isinstance(shape, dict) else None
        if label is None and given in (None, ""):
            raise where.error("has no label; give it one, or delete it")
        if label is None:
            raise where.error(f"has the label {short(given)}, where text on one line is needed; correct or delete it")
        if label not in self.values:
            raise where.error(f"label {label[:40]!r} was added after the dataset was opened; start again")
        return self.values[label]


def _parse_shape(shape: Mapping[str, Any], value: int, layer: int, where: Location, size: Size, image: Path) -> Shape:
    height, width = size
    type, points = _shape_type(shape), shape.get("points")
    if type in ("polygon", "oriented_rectangle"):
        ring = parse_ring(points, where=where)
        check_inside_image(ring, height=height, width=width, image=image, where=where)
        return Polygons(value, [[ring]], layer)
    if type not in ("rectangle", "circle", "mask"):
        allowed = f"polygon, oriented_rectangle, rectangle, circle, mask and {', '.join(WITHOUT_AREA)}"
        raise where.error(f"has the shape_type {type[:40]!r}; allowed are {allowed}")
    corners = parse_points(points, where=where)
    if len(corners) != 2:
        raise where.error(f"a {type} of {len(corners)} points: 2 are needed")
    check_inside_image(corners, height=height, width=width, image=image, where=where)
    (left, top), (right, bottom) = corners.tolist()
    if type == "circle":  # its centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return disc(value, left, top, radius, height=height, width=width, layer=layer)
    if type == "mask":
        return _parse_mask(shape.get("mask"), corners, value, layer, where, size)
    ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return Polygons(value, [[ring]], layer)


def _parse_mask(
    text: object, corners: NDArray[np.float64], value: int, layer: int, where: Location, size: Size
) -> Runs:
    """A mask as a PNG in base64; its points are its first and its last pixel."""
    height, width = size
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    if right - left >= width or bottom - top >= height:
        raise where.error(f"its mask is larger than the image of {height} x {width} pixels (height x width)")
    try:
        image = PngImageFile(io.BytesIO(base64.b64decode(str(text), validate=True)))
        if image.size != (right - left + 1, bottom - top + 1):
            raise where.error(f"its mask is {image.size} (width, height), but its points are those of another size")
        pixels = np.asarray(image.convert("L")) > 0
    except (DataError, MemoryError):
        raise
    except Exception as error:  # a decoder raises nearly any exception for damaged data
        raise where.error(f"its mask cannot be read: {' '.join(str(error).split())[:80]}") from error
    return runs_of_pixels(value, pixels, top=top, left=left, height=height, width=width, layer=layer)
