"""Supervisely: a folder for each dataset of a project, with a JSON file for each image.

    meta.json    train/img/a.jpg    train/ann/a.jpg.json

    {"size": {"height": 480, "width": 640}, "objects": [
      {"classTitle": "fig", "geometryType": "polygon", "points": {"exterior": [[x, y], ...], "interior": [[...], ...]}},
      {"classTitle": "fig", "geometryType": "bitmap", "bitmap": {"origin": [x, y], "data": "PNG, zlib, base64"}}]}

`WRITER` writes a bitmap for each connected region, and meta.json with the classes.
"""

import base64
import json
import struct
import zlib
from collections.abc import Iterator, Mapping
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pyramidseg.annotations.polygons import Location, Runs, parse_ring, runs_of_pixels
from pyramidseg.base.classes import Classes, Color, hex_color
from pyramidseg.base.json_stream import MAX_TOGETHER, members, parse_again
from pyramidseg.base.safe_paths import short, usable_name
from pyramidseg.base.text import base64_text
from pyramidseg.base.text_files import read_text
from pyramidseg.data.records import Record
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.label_regions import boxed_regions, lost_ignored, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.paths import child_file, child_folder, content, subfolders
from pyramidseg.formats.polygon_labels import drawn_name
from pyramidseg.formats.region_masks import Objects, Region, Size, numbered, png_pixels, stated_size
from pyramidseg.formats.regions import Entry, Listing, ToolExport, region_dataset

META = "meta.json"
CONFIDENCE = "confidence"
ANNOTATIONS, IMAGES = ("ann",), ("img",)

_WITHOUT_AREA = ("rectangle", "line", "point", "cuboid", "graph", "any")
_SAMPLED = 20
_SMALL = 32
"""Pixels of a region's box up to which its bitmap is kept."""

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_PNG_HEADER = 2**20
"""Bytes beyond one per pixel that a PNG may have."""


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find datasets: the folder itself, or folders up to two levels below."""
    below = subfolders(folder)
    places = [folder, *below, *(inner for place in below for inner in subfolders(place))]
    found = tuple(place for place in places if child_folder(place, ANNOTATIONS) and child_folder(place, IMAGES))
    files = [file for place in found for file in _annotation_files(place)[:_SAMPLED]]
    if not any(json_kind(file) == "supervisely" for file in files):
        return None
    return ToolExport(folder, splits, found)


def read(found: ToolExport, _: object) -> ParsedDataset:
    """List the annotation files; the name of each is that of its image with `.json` after it."""
    listing = Listing()
    with listing.defects.collect():
        listing.declared = _declared_classes(found.root)
    files = [file for place in found.files for file in _annotation_files(place)]
    listing.add_files(files, partial(_summary, root=found.root))
    overlap = "the later is on top, as in Supervisely"
    return region_dataset("Supervisely", found, listing, regions=_regions, objects=_objects, overlap=overlap)


FORMAT = DatasetFormat("supervisely", "folders of datasets with img/ and ann/, and meta.json", detect, read)


def _annotation_files(dataset: Path) -> list[Path]:
    folder = child_folder(dataset, ANNOTATIONS)
    return [path for path in content(folder) if path.suffix.lower() == ".json"] if folder else []


def _declared_classes(root: Path) -> dict[str, Color | None]:
    meta = child_file(root, META)
    if meta is None:
        return {}
    entries = [member.value for member in members(meta) if member.key == "classes" and isinstance(member.value, dict)]
    return {name: hex_color(entry.get("color")) for entry in entries if (name := usable_name(entry.get("title")))}


def _summary(file: Path, root: Path) -> tuple[Entry, list[str]]:
    """The entry of a file, and the types of its objects without an area."""
    labels: dict[str, None] = {}
    without_area: list[str] = []
    keys = set()
    for key, object, _, _ in members(file):
        keys.add(key)
        if key != "objects" or not isinstance(object, dict):
            continue
        if (type := _type(object)) in _WITHOUT_AREA:
            without_area.append(type)
        elif label := usable_name(object.get("classTitle")):
            labels[label] = None
    if not {"objects", "size"} <= keys:
        raise Location(file).error("is not an annotation of Supervisely (objects and size are missing)")
    image = file.parent.parent / IMAGES[0] / file.name.removesuffix(".json")
    return Entry(image.relative_to(root).as_posix(), file, labels=tuple(labels)), without_area


def _type(object: dict[str, Any]) -> str:
    return str(object.get("geometryType") or ("bitmap" if object.get("bitmap") else "polygon"))


def _objects(record: Record) -> Objects:
    """The size of an image, and its objects that have an area, with their place in the order of drawing."""
    assert record.mask is not None
    where = Location(record.mask)
    content = parse_again(read_text(record.mask, most=MAX_TOGETHER), record.mask)
    if not isinstance(content, dict) or not isinstance(content.get("objects"), list):
        raise where.error("no longer readable as an annotation of Supervisely")
    stated = content.get("size")
    size = stated_size(stated.get("height"), stated.get("width")) if isinstance(stated, dict) else None
    if size is None:
        raise where.error("height and width of its size have to be whole numbers from 1")
    pairs = enumerate(content["objects"])
    drawn = [pair for pair in pairs if not isinstance(pair[1], dict) or _type(pair[1]) not in _WITHOUT_AREA]
    return Objects(size, numbered(drawn))


def _regions(numbered: tuple[int, Any], size: Size, where: Location) -> Iterator[Region]:
    layer, object = numbered
    title = object.get("classTitle") if isinstance(object, dict) else None
    if not (label := usable_name(title)):
        raise where.error(f"has the classTitle {short(title)}, where the name of a class is needed")
    type = _type(object)
    if type == "polygon":
        points = object.get("points")
        if not isinstance(points, dict) or not isinstance(points.get("interior", []), list):
            raise where.error("its points need an exterior, and a list as interior")
        rings = [parse_ring(ring, where=where) for ring in (points.get("exterior"), *points.get("interior", []))]
        yield Region(label, [rings], layer)
    elif type == "bitmap":
        yield Region(label, _bitmap(object.get("bitmap"), size, where), layer)
    else:
        allowed = ", ".join(("polygon", "bitmap", *_WITHOUT_AREA))
        raise where.error(f"has the geometryType {short(type)}; allowed are {allowed}; convert it to a bitmap")


def _bitmap(bitmap: object, size: Size, where: Location) -> Runs:
    """The pixels of a PNG file."""
    height, width = size
    origin = bitmap.get("origin") if isinstance(bitmap, dict) else None
    if not (isinstance(origin, list) and len(origin) == 2 and all(isinstance(x, int) for x in origin)):
        raise where.error("its bitmap needs an origin of two whole numbers")
    try:
        packed = base64.b64decode(str(bitmap["data"]), validate=True)  # type: ignore[index]
        png = zlib.decompressobj().decompress(packed, 4 * height * width + _PNG_HEADER)
    except (KeyError, ValueError, zlib.error) as error:
        raise where.error(f"its bitmap cannot be read: {error}") from error
    left, top = origin
    return runs_of_pixels(
        png_pixels(png, top=top, left=left, size=size, where=where), top=top, left=left, height=height
    )


# Writing.


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    content = {
        "description": "",
        "tags": [],
        "size": {"height": height, "width": width},
        "objects": [
            {
                "classTitle": classes.names[region.value],
                "geometryType": "bitmap",
                "description": "",
                "tags": [
                    {"name": CONFIDENCE, "value": score} for score in image.score(region.pixels, region.box).values()
                ],
                "bitmap": {"origin": list(region.box[:2]), "data": _encode_bitmap(region.pixels)},
            }
            for region in boxed_regions(image.labels, classes)
        ],
    }
    path = f"{image.split}/ann/{image.name}{image.image.suffix}.json"
    text = json.dumps(content, ensure_ascii=False)
    return WrittenLabels({path: text.encode()}, image.confidence is not None, lost=lost_ignored(image.labels))


def _encode_bitmap(pixels: NDArray[np.bool_]) -> str:
    if pixels.size <= _SMALL:
        return _encode_small_bitmap(pixels.shape, pixels.tobytes())
    return _pack_bitmap(pixels)


@lru_cache(4096)
def _encode_small_bitmap(shape: tuple[int, int], content: bytes) -> str:
    """Small regions recur: half of a scene's have up to 4 pixels."""
    return _pack_bitmap(np.frombuffer(content, bool).reshape(shape))


def _pack_bitmap(pixels: NDArray[np.bool_]) -> str:
    """A PNG of one bit in a zlib stream, which need not compress it again, in base64."""
    height, width = pixels.shape
    rows = np.zeros((height, 1 + (width + 7) // 8), np.uint8)
    rows[:, 1:] = np.packbits(pixels, axis=1)  # after a 0: a row without a filter
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    chunks = (_chunk(b"IHDR", header), _chunk(b"IDAT", zlib.compress(rows.tobytes(), 1)), _chunk(b"IEND", b""))
    return base64_text(zlib.compress(b"".join((_PNG_SIGNATURE, *chunks)), 0))


def _chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    is_scored = any(scored for some in parts.values() for _, scored in some)
    titles = [
        {
            "title": classes.names[index],
            "shape": "bitmap",
            "color": f"#{bytes(classes.colors[index]).hex().upper()}",
            "geometry_config": {},
        }
        for index in outlined_classes(classes)
    ]
    tags = [{"name": CONFIDENCE, "value_type": "any_number", "color": "#000000"}] if is_scored else []
    meta = json.dumps({"classes": titles, "tags": tags, "projectType": "images"}, ensure_ascii=False)
    yield "meta.json", iter([meta.encode()])


WRITER = LabelWriter("{split}/img/{name}", _encode, _assemble, is_flat=True, read_as=drawn_name)
