"""LabelMe: a JSON file for each image, beside it or in a folder of its own, with a folder for each split or without."""

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
    Polygons,
    Runs,
    Shape,
    Where,
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
from pyramidseg.base.parallel import in_threads
from pyramidseg.base.safe_paths import is_file, is_plain, named_file, short
from pyramidseg.data.index_masks import describe_names
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import SPLIT_NAMES, DatasetFormat, ParsedDataset, SplitNames, already_read
from pyramidseg.formats.detection import json_kind
from pyramidseg.formats.paths import child_folder
from pyramidseg.formats.polygon_labels import DRAWN, DrawnLabels, alike
from pyramidseg.images.decode import image_size
from pyramidseg.images.open_image import check_pixel_count, list_files, list_images

# LabelMe's shapes as masks: a JSON file for each image.

WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Kinds of shapes that enclose nothing. They are not drawn, and the reader says how many there are."""

Size = tuple[int, int]
"""Height and width."""


@dataclass
class LabelMeFile:
    """What a file says.

    Attributes:
        image_path: None where it is not said.
        height, width: of the image, as the file has them; None where it has none.
        shapes: as they are in the file, whatever they are; None where it is no LabelMe file.
    """

    path: Path
    image_path: object = None
    height: object = None
    width: object = None
    shapes: list[Any] | None = None

    def size(self) -> Size | None:
        """Of the image; None where it is not said.

        Raises:
            DataError: it is none.
        """
        if self.height is None or self.width is None:
            return None
        if not (_is_length(self.height) and _is_length(self.width)):
            raise Where(self.path).flaw("imageHeight and imageWidth have to be whole numbers from 1 on")
        return self.height, self.width


def read_labelme(path: Path) -> LabelMeFile:
    """Read a file.

    Raises:
        DataError: no JSON, or more than `MAX_TOGETHER` of shapes.
    """
    file = LabelMeFile(path)
    volume = 0
    for member in members(path):
        if member.key == "imagePath":
            file.image_path = member.value
        elif member.key == "imageHeight":
            file.height = member.value
        elif member.key == "imageWidth":
            file.width = member.value
        elif member.key == "shapes":
            file.shapes = file.shapes or []
            volume += member.end - member.start
            if volume > MAX_TOGETHER:
                raise Where(path).flaw(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            if member.value != []:
                file.shapes.append(member.value)
    return file


def label_of(shape: object) -> str | None:
    """The label of a shape; None where it has none."""
    label = shape.get("label") if isinstance(shape, dict) else None
    return label.strip() if isinstance(label, str) and label.strip() and is_plain(label.strip()) else None


def kind_of(shape: object) -> str:
    """Its kind, which old files leave out."""
    return str((isinstance(shape, dict) and shape.get("shape_type")) or "polygon")


@dataclass(frozen=True)
class LabelMeValues:
    """Shapes by their labels.

    Attributes:
        values: by label.
        names: by value; 0 is what no shape covers.
    """

    values: Mapping[str, int]
    names: tuple[str, ...]
    ignored_values: ClassVar[tuple[int, ...]] = ()

    def read(self, record: Record) -> NDArray[np.uint16]:
        """See `ValueSource.read`."""
        if record.mask is None:
            raise DataError(f"{record.image}: has no LabelMe file")
        file = read_labelme(record.mask)
        size, flaws = None, DefectCollector()
        with flaws.collect():
            size = file.size()
        height, width = size or image_size(record.image)
        check_pixel_count(file.path, height, width)
        shapes: list[Shape] = []
        for number, shape in enumerate(file.shapes or []):
            where = Where(file.path, f"shape {number}")
            with flaws.collect():
                value = self._value(shape, where)
                if kind_of(shape) not in WITHOUT_AREA:
                    shapes.append(_drawn(shape, value, number, where, (height, width), record.image))
        flaws.raise_if_any()
        return rasterise(shapes, height=height, width=width, where=Where(file.path))

    def has_own_size(self, record: Record) -> bool:
        """See `OutlineSource.has_own_size`."""
        return record.mask is not None and read_labelme(record.mask).size() is not None

    def describe(self, values: Iterable[int]) -> str:
        """See `ValueSource.describe`."""
        return describe_names(values, self.names)

    def _value(self, shape: object, where: Where) -> int:
        label, given = label_of(shape), shape.get("label") if isinstance(shape, dict) else None
        if label is None and given in (None, ""):
            raise where.flaw("has no label; give it one, or delete it")
        if label is None:
            raise where.flaw(f"has the label {short(given)}, where text on one line is needed; correct or delete it")
        if label not in self.values:
            raise where.flaw(f"label {label[:40]!r} was not there when the dataset was listed; start anew")
        return self.values[label]


def _is_length(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and 1 <= value < 2**31


def _drawn(shape: Mapping[str, Any], value: int, layer: int, where: Where, size: Size, image: Path) -> Shape:
    height, width = size
    kind, points = kind_of(shape), shape.get("points")
    if kind in ("polygon", "oriented_rectangle"):
        ring = parse_ring(points, where=where)
        check_inside_image(ring, height=height, width=width, image=image, where=where)
        return Polygons(value, [[ring]], layer)
    if kind not in ("rectangle", "circle", "mask"):
        raise where.flaw(f"is a {kind[:40]!r}: polygon, rectangle, circle, mask and {', '.join(WITHOUT_AREA)} are read")
    corners = parse_points(points, where=where)
    if len(corners) != 2:
        raise where.flaw(f"a {kind} of {len(corners)} points: 2 are needed")
    check_inside_image(corners, height=height, width=width, image=image, where=where)
    (left, top), (right, bottom) = corners.tolist()
    if kind == "circle":  # its centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return disc(value, left, top, radius, height=height, width=width, layer=layer)
    if kind == "mask":
        return _pixels(shape.get("mask"), corners, value, layer, where, size)
    ring = np.array([(left, top), (right, top), (right, bottom), (left, bottom)])
    return Polygons(value, [[ring]], layer)


def _pixels(text: object, corners: NDArray[np.float64], value: int, layer: int, where: Where, size: Size) -> Runs:
    """A mask in a PNG, in base64; its corners are those of its first and its last pixel."""
    height, width = size
    (left, top), (right, bottom) = corners.astype(np.int64).tolist()
    if right - left >= width or bottom - top >= height:
        raise where.flaw(f"its mask is larger than the image of {height} x {width} pixels (height x width)")
    try:
        image = PngImageFile(io.BytesIO(base64.b64decode(str(text), validate=True)))
        if image.size != (right - left + 1, bottom - top + 1):
            raise where.flaw(f"its mask is {image.size} (width, height), and its points are those of another size")
        pixels = np.asarray(image.convert("L")) > 0
    except DataError:
        raise
    except MemoryError:
        raise
    except Exception as error:  # a decoder answers damage with nearly any exception there is
        raise where.flaw(f"its mask cannot be read: {' '.join(str(error).split())[:80]}") from error
    return runs_of_pixels(value, pixels, top=top, left=left, height=height, width=width, layer=layer)


_LOOKED_AT = 20


@dataclass
class _Found:
    """What the files of a split hold.

    Attributes:
        labels, kinds: shapes of each label and of each kind.
        others: JSON files that are not LabelMe's.
        renamed: files whose image has another name than they say.
    """

    records: dict[Path, Record] = field(default_factory=dict)
    labels: Counter[str] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    defects: list[Defect] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    renamed: int = 0


def read_labelme_folder(folder: Path, splits: SplitNames) -> ParsedDataset | None:
    """List JSON files with the images that they name. An image without a file has not been labelled: it is left out."""
    everything = list_files(folder, (".json",))
    if not any(json_kind(file) == "labelme" for file in everything[:: max(1, len(everything) // _LOOKED_AT)]):
        return None
    places = _places(folder, splits)
    files = {split: list_files(place, (".json",)) for split, place in places.items()}
    if not any(files.values()):
        return None
    images = list_images(folder)
    found = {split: _find(some, images, places[split], folder) for split, some in files.items()}
    labels = sorted({label for split in found.values() for label in split.labels})
    drawn = DrawnLabels.of(labels)
    return ParsedDataset(
        "LabelMe (a JSON file for each image)",
        {split: tuple(some.records.values()) for split, some in found.items()},
        drawn.labels,
        LabelMeValues(drawn.values, drawn.names),
        notes=(*_notes(list(found.values()), images), *alike(labels)),
        defects=tuple(defect for some in found.values() for defect in some.defects),
    )


def _places(folder: Path, splits: SplitNames) -> dict[str, Path]:
    """The folders of splits where there are any with JSON files, else the whole."""
    inside = {split: child_folder(folder, names) for split, names in splits.items()}
    places = {split: path for split, path in inside.items() if path and list_files(path, (".json",))}
    return places or ({"train": folder} if splits == SPLIT_NAMES else {})


def _find(files: Sequence[Path], images: Sequence[Path], place: Path, root: Path) -> _Found:
    found = _Found()
    known = set(images)
    beside = {image.with_suffix(""): image for image in reversed(images)}
    for path, file in zip(files, in_threads(_read, files), strict=True):
        if isinstance(file, Defect):
            found.defects.append(file)
        elif file.shapes is None:
            found.others.append(path)
        else:
            _add(found, file, known, beside.get(path.with_suffix("")), place, root)
    if files and len(found.others) == len(files):
        detail = f"none of its {len(files)} JSON files is LabelMe's, as those of other splits are; export them anew"
        found.defects.append(Defect(DefectKind.ABSENT, place, detail))
    return found


def _read(path: Path) -> LabelMeFile | Defect:
    """The file without the points of its shapes, so that many of them may wait."""
    try:
        file = read_labelme(path)
    except DefectError as error:
        return error.defect
    for shape in file.shapes or []:
        if isinstance(shape, dict):
            shape.pop("points", None)
            shape.pop("mask", None)
    return file


def _add(found: _Found, file: LabelMeFile, known: set[Path], beside: Path | None, place: Path, root: Path) -> None:
    shapes = file.shapes or []
    found.labels.update(label for shape in shapes if (label := label_of(shape)))
    found.kinds.update(kind_of(shape) for shape in shapes)
    try:
        image, renamed = _image_of(file, known, beside, root)
    except DefectError as error:
        found.defects.append(error.defect)
        return
    if image in found.records:
        detail = f"is of the image {image}, and so is {found.records[image].mask}; take one of them out"
        found.defects.append(Defect(DefectKind.REPEATED_ID, file.path, detail))
        return
    found.renamed += renamed
    id = image.relative_to(place if image.is_relative_to(place) else root).with_suffix("").as_posix()
    found.records[image] = Record(id, image, file.path)


def _image_of(file: LabelMeFile, known: set[Path], beside: Path | None, root: Path) -> tuple[Path, bool]:
    """The image that a file names, or the one of its own name beside it where it names none or one that is not there.

    Returns:
        The image, and whether it is another one than the file says.

    Raises:
        DataError: there is none, or the name leads out of the dataset, or the two contradict each other.
    """
    if file.image_path is None and beside is not None:
        return beside, False
    if beside is not None and PureWindowsPath(str(file.image_path)).stem == beside.stem:
        with suppress(DefectError):  # moved here together: the path leads elsewhere, and is not followed
            image = named_file(file.image_path, folder=file.path.parent, root=root, where=file.path)
            return (image, False) if image in known or is_file(image) else (beside, True)
        return beside, True
    image = named_file(file.image_path, folder=file.path.parent, root=root, where=file.path)
    if image not in known and not is_file(image):
        if beside is not None:
            return beside, True
        raise DefectError(
            DefectKind.MISSING_IMAGE, file.path, f"is of the image {image} (imagePath), which is not there"
        )
    if beside is not None and image.stem != file.path.stem:
        detail = f"is of the image {image} by its imagePath, and of {beside} by its own name; correct one of them"
        raise DefectError(DefectKind.BAD_ANNOTATION, file.path, detail)
    return image, False


def _notes(found: Sequence[_Found], images: Sequence[Path]) -> Iterator[str]:
    yield f"{DRAWN}; of shapes that overlap, the later lies on top, as LabelMe draws them; labels are in order of name"
    left_out = {kind: sum(some.kinds[kind] for some in found) for kind in WITHOUT_AREA}
    if any(left_out.values()):
        counts = ", ".join(f"{count} {kind}" for kind, count in left_out.items() if count)
        yield f"shapes without an area are not drawn ({counts}); make polygons of those that are to count"
    renamed = sum(some.renamed for some in found)
    if renamed:
        yield f"{renamed} files name an image (imagePath) that is not there: the image of their own name was taken"
    listed = {image.with_suffix("") for some in found for image in some.records}
    listed |= {defect.file.with_suffix("") for some in found for defect in some.defects}
    unlabelled = [image for image in images if image.with_suffix("") not in listed]
    if unlabelled:
        yield f"{len(unlabelled)} images, such as {unlabelled[0]}, have no LabelMe file and were left out"
    others = [path for some in found for path in some.others]
    if others:
        yield f"{len(others)} JSON files, such as {others[0]}, are not LabelMe's and were left out"


FORMAT = DatasetFormat(
    "labelme",
    "a JSON file next to each image",
    detect=read_labelme_folder,
    read=already_read,
)
