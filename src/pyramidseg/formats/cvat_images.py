"""CVAT for images 1.1: annotations.xml with polygons, masks as run lengths, and ellipses, and the images that it names.

    annotations.xml    images/a.jpg    images/Train/b.jpg

    <annotations><version>1.1</version>
      <image id="0" name="a.jpg" subset="Train" width="640" height="480">
        <polygon label="fig" points="1.5,2;30,2;30,40" z_order="0"/>
        <mask label="fig" rle="3, 5, 8, 2" left="10" top="20" width="6" height="3" z_order="0"/> ...

`WRITER` writes a mask for each connected region.
"""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from xml.etree import ElementTree
from xml.parsers import expat
from xml.sax.saxutils import quoteattr

import numpy as np

from pyramidseg.annotations.polygons import Location, Runs, parse_ring, runs_of_pixels
from pyramidseg.base.classes import Classes, hex_color
from pyramidseg.base.safe_paths import first_bytes, open_regular, short, usable_name
from pyramidseg.base.text_files import is_number
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.label_regions import BoxedRegion, boxed_regions, lost_ignored, outlined_classes
from pyramidseg.formats.label_writer import LabelledImage, LabelWriter, Parts, SharedFiles, WrittenLabels
from pyramidseg.formats.polygon_labels import drawn_name
from pyramidseg.formats.region_masks import Region, Size, ellipse, numbered, stated_size
from pyramidseg.formats.regions import Entry, Listing, ToolExport, export_files, region_dataset

FILE = "annotations.xml"

_DRAWN = ("polygon", "mask", "ellipse")
_WITHOUT_AREA = ("box", "polyline", "points", "cuboid", "skeleton")
_MAX_DEPTH = 20
_FIRST_BYTES = 2**12
_CHUNK = 2**20
_MAX_SIDE = 999_999
_ROOT = re.compile(rb"<annotations[\s>]")


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find annotations.xml, or other XML files that begin as CVAT's do, in the folder or in those below it."""
    files = export_files(folder, ".xml")
    found = tuple(path for path in files if path.name.lower() == FILE or _ROOT.search(first_bytes(path, _FIRST_BYTES)))
    return ToolExport(folder, splits, found) if found else None


def read(found: ToolExport, _: object) -> ParsedDataset:
    """List the images of all files."""
    listing = Listing()
    for file in found.files:
        with listing.defects.collect():
            _ImageLister(file, listing).read()
    overlap = "the one with the higher z_order is on top, then the smaller one"
    return region_dataset("CVAT for images", found, listing, regions=_regions, parse=_objects, overlap=overlap)


FORMAT = DatasetFormat("cvat_images", "annotations.xml of CVAT for images 1.1, and the images", detect, read)


class _ImageLister:
    """Adds the images of an XML file, and the names of labels that it declares, to a listing, in bounded memory."""

    def __init__(self, file: Path, listing: Listing) -> None:
        self.where, self.listing = Location(file), listing
        self.stack: list[str] = []
        self.text, self.label = "", ""  # of the element, and of the label that has begun
        self.start = 0
        self.attributes: dict[str, str] | None = None  # of the image that has begun
        self.labels: dict[str, None] = {}
        self.drawn = False
        self.parser = expat.ParserCreate()
        self.parser.buffer_text = True
        self.parser.StartElementHandler, self.parser.EndElementHandler = self._start, self._end
        self.parser.CharacterDataHandler, self.parser.XmlDeclHandler = self._characters, self._check_encoding
        self.parser.StartDoctypeDeclHandler = self._refuse_document_type

    def read(self) -> None:
        images = len(self.listing.entries)
        try:
            with open_regular(self.where.file) as stream:
                while data := stream.read(_CHUNK):
                    self.parser.Parse(data, False)
                self.parser.Parse(b"", True)
        except OSError as error:
            raise self.where.error(f"cannot be read: {error.strerror or error}") from None
        except expat.ExpatError as error:
            raise self.where.error(f"not readable as XML: {error}; export it again") from None
        if len(self.listing.entries) == images:
            raise self.where.error("describes no image; export the task as CVAT for images 1.1")

    def _refuse_document_type(self, *_: object) -> None:
        """Document types define entities, which can grow without limit or read other files."""
        raise self.where.error("has a document type (<!DOCTYPE>), which can define entities; remove it")

    def _check_encoding(self, _: str, encoding: str | None, __: int) -> None:
        if (encoding or "utf-8").lower() not in ("utf-8", "us-ascii"):
            raise self.where.error(f"is in the encoding {short(encoding)}, and UTF-8 is needed; save it as UTF-8")

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if not self.stack and name != "annotations":
            raise self.where.error(f"begins with <{name[:40]}>, where <annotations> of CVAT is needed")
        if len(self.stack) >= _MAX_DEPTH:
            raise self.where.error("elements are nested too deeply")
        self.stack.append(name)
        self.text = ""
        if name == "track" and len(self.stack) == 2:
            raise self.where.error(
                "is of CVAT for video (<track>), whose frames have no files of their own; export the task as CVAT for "
                "images 1.1 or as Segmentation mask 1.1"
            )
        if name == "image" and len(self.stack) == 2:
            self.attributes, self.start = attributes, self.parser.CurrentByteIndex
            self.labels, self.drawn = {}, False
        elif self.attributes is not None and len(self.stack) == 3:
            label = usable_name(attributes.get("label"))
            self.drawn |= name in _DRAWN
            if name in _DRAWN and label:
                self.labels[label] = None
            elif name in _WITHOUT_AREA:
                self.listing.without_area[f"{name} of {label[:40]}" if label else name] += 1

    def _end(self, name: str) -> None:
        text = usable_name(self.text)
        if self.stack[1:] == ["meta", *self.stack[2:-3], "labels", "label", "name"]:
            self.label = text
        if self.label and self.stack[-2:] in (["label", "name"], ["label", "color"]):
            self.listing.declared[self.label] = self.listing.declared.get(self.label) or hex_color(text)
        self.stack.pop()
        if name != "image" or len(self.stack) != 1 or self.attributes is None:
            return
        attributes, self.attributes = self.attributes, None
        with self.listing.defects.collect():
            self._add_image(attributes)

    def _add_image(self, attributes: dict[str, str]) -> None:
        image = attributes.get("name", "")
        if not usable_name(image):
            raise self.where.error(f"<image> without a usable name ({short(image)})")
        end = self.parser.CurrentByteIndex + len("</image>")
        spans = ((self.start, end),) if self.drawn else ()  # an empty element has no end tag
        sides = (attributes.get(side, "") for side in ("height", "width"))
        size = stated_size(*(int(side) if is_number(side, most=_MAX_SIDE) else 0 for side in sides))
        labels, file = tuple(self.labels), self.where.file
        self.listing.entries.append(Entry(image, file, spans, size, labels, attributes.get("subset")))
        if size is None:
            raise self.where.error(f"{short(image)}: width and height have to be whole numbers from 1")

    def _characters(self, text: str) -> None:
        if self.stack[-1:] in (["name"], ["color"]) and len(self.text) < _FIRST_BYTES:
            self.text += text


_Element = tuple[str, dict[str, str]]
"""Name and attributes."""


def _objects(data: Sequence[bytes], where: Location) -> Iterable[tuple[str, _Element]]:
    """The elements inside an `<image>`; without data if nothing in it is drawn."""
    try:
        images = [ElementTree.fromstring(element) for element in data]  # noqa: S314 - has no document type
    except ElementTree.ParseError as error:
        raise where.error(f"not readable as XML: {error}; export it again") from None
    inside = ((element.tag, element.attrib) for image in images for element in image)
    return numbered(element for element in inside if element[0] not in (*_WITHOUT_AREA, "tag"))


def _regions(element: _Element, size: Size, where: Location) -> Iterator[Region]:
    name, attributes = element
    label = usable_name(attributes.get("label"))
    if not label:
        raise where.error(f"<{name}> has no usable label; give it one, or delete it")
    layer = _whole(attributes.get("z_order", "0"), "z_order", where)
    if name == "polygon":
        points = attributes.get("points", "").replace(";", ",").split(",")
        yield Region(label, [[parse_ring(points, where=where)]], layer)
    elif name == "ellipse":
        cx, cy, rx, ry, rotation = (_number(attributes.get(key, default), key, where) for key, default in _ELLIPSE)
        ring = ellipse(cx, cy, rx, ry, degrees=rotation, size=size, where=where)
        yield Region(label, [[ring]], layer)
    elif name == "mask":
        yield Region(label, _mask(attributes, size, where), layer)
    else:
        allowed = ", ".join((*_DRAWN, *_WITHOUT_AREA))
        raise where.error(f"is a <{name[:40]}>; allowed are {allowed}")


_ELLIPSE = (("cx", ""), ("cy", ""), ("rx", ""), ("ry", ""), ("rotation", "0"))


def _mask(attributes: dict[str, str], size: Size, where: Location) -> Runs:
    """Run lengths row by row within a box, starting with pixels outside of the object."""
    left, top, width, height = (
        _whole(attributes.get(key, ""), key, where) for key in ("left", "top", "width", "height")
    )
    if not (min(left, top) >= 0 and min(width, height) > 0 and left + width <= size[1] and top + height <= size[0]):
        raise where.error(f"its box (left {left}, top {top}, {width} x {height}) is not inside the image")
    try:
        runs = np.array(attributes.get("rle", "").replace(",", " ").split(), np.int64)
    except (ValueError, OverflowError):
        raise where.error("its run lengths (rle) have to be whole numbers") from None
    if runs.size == 0 or runs.min() < 0 or runs.max() > width * height or runs.sum() != width * height:
        raise where.error(
            f"its {runs.size} run lengths (rle) have to add up to the {width} x {height} = {width * height} pixels of "
            "its box; export it again"
        )
    pixels = np.repeat(np.arange(len(runs)) % 2 == 1, runs).reshape(height, width)
    return runs_of_pixels(pixels, top=top, left=left, height=size[0])


def _whole(text: str, name: str, where: Location) -> int:
    number = _number(text, name, where)
    if not number.is_integer() or abs(number) >= 2**31:
        raise where.error(f"its {name} is {short(text)}, where a whole number is needed")
    return int(number)


def _number(text: str, name: str, where: Location) -> float:
    try:
        number = float(text)
    except ValueError:
        number = float("nan")
    if not np.isfinite(number):
        raise where.error(f"its {name} is {short(text)}, where a number is needed")
    return number


# Writing.


def _encode(image: LabelledImage, classes: Classes) -> WrittenLabels:
    height, width = image.labels.shape
    source = "auto" if image.model else "manual"
    names = [quoteattr(name) for name in classes.names]
    regions = boxed_regions(image.labels, classes)
    masks = "".join(_mask_element(region, names[region.value], source) for region in regions)
    name = quoteattr(f"{image.split}/{image.name}{image.image.suffix}")
    element = f'name={name} subset="{image.split}" width="{width}" height="{height}">\n{masks}'
    return WrittenLabels(part=element, lost=lost_ignored(image.labels))


def _mask_element(region: BoxedRegion, name: str, source: str) -> str:
    """Run lengths row by row within the box, the first of pixels outside of the region."""
    left, top, width, height = region.box
    flat = region.pixels.ravel()
    borders = np.concatenate([[0] * (1 + flat[0]), np.flatnonzero(flat[1:] != flat[:-1]) + 1, [len(flat)]])
    runs = str((borders[1:] - borders[:-1]).tolist())[1:-1]
    return (
        f'    <mask label={name} source="{source}" occluded="0" rle="{runs}" '
        f'left="{left}" top="{top}" width="{width}" height="{height}" z_order="0"></mask>\n'
    )


def _content(parts: Mapping[str, Parts], classes: Classes) -> Iterator[bytes]:
    yield b'<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n  <meta><project>\n'
    tasks = "".join(f"<task><subset>{split}</subset></task>" for split in parts)
    yield f"  <tasks>{tasks}</tasks>\n  <labels>\n".encode()
    for index in outlined_classes(classes):
        name, color = quoteattr(classes.names[index])[1:-1], bytes(classes.colors[index]).hex()
        yield f"    <label><name>{name}</name><color>#{color}</color><attributes></attributes></label>\n".encode()
    yield b"  </labels>\n  </project></meta>\n"
    number = 0
    for some in parts.values():
        for _, element in some:
            yield f'  <image id="{number}" {element}  </image>\n'.encode()
            number += 1
    yield b"</annotations>\n"


def _assemble(parts: Mapping[str, Parts], classes: Classes) -> SharedFiles:
    yield FILE, _content(parts, classes)


WRITER = LabelWriter("images/{split}/{name}", _encode, _assemble, read_as=drawn_name)
