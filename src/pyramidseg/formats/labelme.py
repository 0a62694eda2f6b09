"""LabelMe: a JSON file for each image, next to it or in a folder of its own; in folders for the splits, or without.

    images/a.jpg    images/a.json    or    train/a.jpg  train/a.json  val/b.jpg  val/b.json

    {"imagePath": "a.jpg", "imageHeight": 480, "imageWidth": 640, "imageData": null,
     "shapes": [{"label": "fig", "shape_type": "polygon", "points": [[x1, y1], [x2, y2], ...]},
                {"label": "fig", "shape_type": "mask", "points": [first, last pixel], "mask": "PNG in base64"}, ...]}

`WRITER` writes polygons, and masks for regions with holes, which LabelMe's polygons cannot have.
"""

import base64
import json
import math
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path, PureWindowsPath
from typing import Any

import numpy as np

from pyramidseg.annotations import contours
from pyramidseg.annotations.polygons import Area, Location, parse_points, parse_ring, runs_of_pixels
from pyramidseg.base.classes import Classes
from pyramidseg.base.json_stream import MAX_TOGETHER, members
from pyramidseg.base.safe_paths import is_file, resolve_inside, short, usable_name
from pyramidseg.base.text import base64_text
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.label_regions import Outlines, not_outlined
from pyramidseg.formats.label_writer import NO_CLASS_LIST, LabelledImage, LabelWriter, WrittenLabels
from pyramidseg.formats.paired_writer import png
from pyramidseg.formats.polygon_labels import drawn_name
from pyramidseg.formats.region_masks import Objects, Region, Size, ellipse, png_pixels, stated_size
from pyramidseg.formats.regions import Entry, Listing, ToolExport, region_dataset
from pyramidseg.images.image_files import list_files, list_images

_SAMPLED = 20
"""Number of JSON files that are looked at to recognise the format."""

_WITHOUT_AREA = ("point", "points", "line", "linestrip")
"""Types of shapes that enclose nothing. They are not drawn, and a note says how many there are."""

Content = dict[str, Any]
"""The members of a file that are read."""


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find JSON files, some of which begin as LabelMe's do."""
    files = list_files(folder, (".json",))
    if not any(json_kind(file) == "labelme" for file in files[:: max(1, len(files) // _SAMPLED)]):
        return None
    return ToolExport(folder, splits, tuple(files))


def read(found: ToolExport, _: object) -> ParsedDataset:
    """List JSON files with the images that they name. An image without a file has no labels and is left out."""
    listing = Listing(notes=["labels are in alphabetical order"])
    by_stem = {image.with_suffix(""): image for image in reversed(list_images(found.root))}
    others = listing.add_files(found.files, partial(_summary, by_stem=by_stem, root=found.root))
    if others:
        listing.notes.append(f"{len(others)} JSON files, such as {min(others)}, are not LabelMe's and were left out")
        found = found._replace(files=tuple(file for file in found.files if file not in others))
    overlap = "the later is on top, as in LabelMe"
    return region_dataset(
        "LabelMe", found, listing, regions=_regions, objects=_objects, overlap=overlap, ids_below_splits=True
    )


FORMAT = DatasetFormat("labelme", "a JSON file next to each image", detect, read)


def _summary(path: Path, by_stem: Mapping[Path, Path], root: Path) -> tuple[Entry, list[str]] | None:
    """The entry of a file, and the types of its shapes without an area; None if it is not LabelMe's."""
    content = _load(path)
    if content is None:
        return None
    entry = _entry(path, content, by_stem.get(path.with_suffix("")), root)
    return entry, [kind for kind in map(_type, content["shapes"]) if kind in _WITHOUT_AREA]


def _load(path: Path) -> Content | None:
    """The members of a file without its image; None if it is not LabelMe's.

    Raises:
        DefectError: it is not JSON, or has more than `MAX_TOGETHER` bytes of shapes.
    """
    content: Content = {}
    shape_bytes = 0
    for member in members(path):
        if member.key == "shapes":
            shape_bytes += member.end - member.start
            if shape_bytes > MAX_TOGETHER:
                raise Location(path).error(f"more than {MAX_TOGETHER // 2**20} MB of shapes; simplify them")
            content.setdefault("shapes", []).extend([] if member.value == [] else [member.value])
        elif member.key in ("imagePath", "imageHeight", "imageWidth"):
            content[member.key] = member.value
    return content if "shapes" in content else None


def _entry(path: Path, content: Content, beside: Path | None, root: Path) -> Entry:
    """The entry of a file.

    Args:
        beside: the image next to the file that has its name. It is used if the image that the file names is not there.

    Raises:
        DefectError: the path leads out of the dataset, or both images exist and differ.
    """
    name = content.get("imagePath")
    if name is None and beside is not None:
        name = beside.name
    elif beside is None or PureWindowsPath(str(name)).stem != beside.stem:
        image = resolve_inside(name, folder=path.parent, root=root, where=path)
        if beside is not None and is_file(image):
            detail = f"belongs to the image {image} by its imagePath, but to {beside} by its name; correct one of them"
            raise Location(path).error(detail)
    labels = dict.fromkeys(_label(shape) for shape in content["shapes"] if _type(shape) not in _WITHOUT_AREA)
    labels.pop("", None)
    return Entry(str(name), path, labels=tuple(labels), other_name=beside.name if beside else None)


def _label(shape: object) -> str:
    """The label of a shape; empty if it has none that can be a name."""
    return usable_name(shape.get("label")) if isinstance(shape, dict) else ""


def _type(shape: object) -> str:
    """The type of a shape; files of LabelMe before 3.2 hold only polygons and do not name it."""
    return str((isinstance(shape, dict) and shape.get("shape_type")) or "polygon")


def _objects(record: Record) -> Objects:
    """The size of an image, and its shapes that have an area, with their place in the order of drawing."""
    assert record.mask is not None
    content = _load(record.mask) or {}
    height, width = content.get("imageHeight"), content.get("imageWidth")
    size = stated_size(height, width)
    if size is None and height is not None and width is not None:
        raise Location(record.mask).error("imageHeight and imageWidth have to be whole numbers from 1")
    shapes = enumerate(content.get("shapes", []))
    return Objects(
        size, [(f"shape {place}", (place, shape)) for place, shape in shapes if _type(shape) not in _WITHOUT_AREA]
    )


def _regions(placed: tuple[int, Any], size: Size, where: Location) -> Iterator[Region]:
    layer, shape = placed
    if not (label := _label(shape)):
        given = shape.get("label") if isinstance(shape, dict) else None
        if given in (None, ""):
            raise where.error("has no label; give it one, or delete it")
        raise where.error(f"has the label {short(given)}, where text on one line is needed; correct or delete it")
    yield Region(label, _area(shape, size, where), layer)


def _area(shape: dict[str, Any], size: Size, where: Location) -> Area:
    type, points = _type(shape), shape.get("points")
    if type in ("polygon", "oriented_rectangle"):
        return [[parse_ring(points, where=where)]]
    if type not in ("rectangle", "circle", "mask"):
        allowed = f"polygon, oriented_rectangle, rectangle, circle, mask and {', '.join(_WITHOUT_AREA)}"
        raise where.error(f"has the shape_type {type[:40]!r}; allowed are {allowed}")
    corners = parse_points(points, where=where)
    if len(corners) != 2:
        raise where.error(f"a {type} of {len(corners)} points: 2 are needed")
    (left, top), (right, bottom) = corners.tolist()
    if type == "rectangle":
        return [[np.array([(left, top), (right, top), (right, bottom), (left, bottom)])]]
    if type == "circle":  # its centre, and a point on it
        radius = math.hypot(right - left, bottom - top)
        return [[ellipse(left, top, radius, radius, size=size, where=where)]]
    try:  # a mask, whose points are its first and its last pixel
        png = base64.b64decode(str(shape.get("mask")), validate=True)
    except ValueError:
        raise where.error("its mask cannot be read: it is not in base64") from None
    left, top, right, bottom = map(int, (left, top, right, bottom))
    pixels = png_pixels(png, top=top, left=left, size=size, where=where)
    if pixels.shape != (bottom - top + 1, right - left + 1):
        raise where.error(f"its mask is {pixels.shape} (height, width), but its points are those of another size")
    return runs_of_pixels(pixels, top=top, left=left, height=size[0])


# Writing.


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    outlines = Outlines.of(image, skip=not_outlined(classes))
    content = {
        "version": "5.5.0",
        "flags": {},
        "shapes": [_shape(region, classes, outlines) for region in outlines.regions],
        "imagePath": image.name.rpartition("/")[2] + image.image.suffix,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }
    text = json.dumps(content, ensure_ascii=False)
    files = {f"{image.split}/{image.name}.json": text.encode()}
    return WrittenLabels(files, lost=outlines.lost())


def _shape(region: contours.TracedRegion, classes: Classes, outlines: Outlines) -> dict[str, Any]:
    shape: dict[str, Any] = {"label": classes.names[region.value], "group_id": None, "description": "", "flags": {}}
    if len(region.rings) == 1:
        return {**shape, "shape_type": "polygon", "points": region.rings[0].tolist(), "mask": None}
    mask, (left, top, width, height) = outlines.pixels(region)
    picture = base64_text(png(255 * mask.astype(np.uint8)))
    points = [[left, top], [left + width - 1, top + height - 1]]
    return {**shape, "shape_type": "mask", "points": points, "mask": picture}


WRITER = LabelWriter(
    "{split}/{name}",
    _encode,
    lambda parts, classes: iter(()),
    has_outlines=True,
    lacks=NO_CLASS_LIST,
    read_as=drawn_name,
)
