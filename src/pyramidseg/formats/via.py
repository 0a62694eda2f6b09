"""VGG Image Annotator: JSON of VIA 2 and 3, CSV of VIA 2, and the images.

    via_region_data.json    a.jpg    b.jpg    or a file in each of train/ and val/

VIA 2 has an entry for each image, in a project below `_via_img_metadata`; the CSV has a row for each region:
    {"a.jpg71410": {"filename": "a.jpg", "regions": [
      {"shape_attributes": {"name": "polygon", "all_points_x": [...], "all_points_y": [...]},
       "region_attributes": {"insect": "kudzu"}}]}}
VIA 3 has numbers for shapes, attributes and their options:
    {"attribute": {"1": {"aname": "insect", "options": {"0": "kudzu"}}}, "file": {"1": {"fid": "1", "fname": "a.jpg"}},
     "metadata": {"1_x": {"vid": "1", "xy": [7, x, y, ...], "av": {"1": "0"}}}, "view": {"1": {"fid_list": ["1"]}}}
"""

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pyramidseg.annotations.polygons import Location, parse_ring
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.json_stream import members, parse_again
from pyramidseg.base.safe_paths import first_bytes, open_regular, short, usable_name
from pyramidseg.base.text import first_few
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.region_masks import ONE_CLASS, Region, Size, ellipse, finite_number, numbered
from pyramidseg.formats.regions import Entry, Listing, ToolExport, export_files, region_dataset
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError

_COLUMNS = (
    *("filename", "file_size", "file_attributes", "region_count", "region_id"),
    *("region_shape_attributes", "region_attributes"),
)
_NESTED = ("_via_img_metadata", "metadata")
_WITHOUT_AREA = ("point", "line", "polyline")
_KEYS = {"rect": ("x", "y", "width", "height"), "circle": ("cx", "cy", "r"), "ellipse": ("cx", "cy", "rx", "ry")}
_SHAPES = (
    *("", "point", "rect", "circle", "ellipse", "line", "polyline", "polygon"),
    *("extreme rectangle", "extreme circle"),
)
"""Names by the numbers of VIA 3."""

_IMAGE = 2
"""The type of a file in VIA 3 that is an image."""

_SHOWN = 3

Json = Mapping[str, Any]

Options = Mapping[str, tuple[str, Mapping[str, str]]]
"""Names of the attributes of VIA 3 and of their options, by number."""


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find JSON and CSV files that begin as VIA's do, in the folder or below it, and damaged JSON next to them."""
    kinds = {path: json_kind(path) for path in export_files(folder, ".json")}
    headers = {path: first_bytes(path, 2**12).partition(b"\n")[0] for path in export_files(folder, ".csv")}
    kinds |= {path: "via" for path, header in headers.items() if b"region_shape_attributes" in header}
    if "via" not in kinds.values():
        return None
    return ToolExport(folder, splits, tuple(path for path, kind in kinds.items() if kind in ("via", "damaged")))


def read(found: ToolExport, config: LabelConfig) -> ParsedDataset:
    """List the images of all files.

    Raises:
        AmbiguousReadingError: a region has several attributes of different values, and none was chosen.
    """
    listing, chosen = Listing(), config.class_property
    options: dict[str, Options] = {}
    names: dict[str, None] = {}
    several: dict[str, None] = {}
    for file in found.files:
        with listing.defects.collect():
            by_image, own = _by_image(file)
            options[str(file)] = own
            for image, entries in by_image.items():
                found_in = [pair for _, entry in entries for pair in _shapes_in(entry, own)]
                without_area = (shape["name"] for shape, _ in found_in if shape.get("name") in _WITHOUT_AREA)
                listing.without_area.update(without_area)
                drawn = [attributes for shape, attributes in found_in if shape.get("name") not in _WITHOUT_AREA]
                names.update((name, None) for attributes in drawn for name in attributes)
                if any(len(set(attributes.values())) > 1 for attributes in drawn):
                    several[image] = None
                labels = dict.fromkeys(_label(attributes, chosen) or ONE_CLASS for attributes in drawn)
                spans = tuple(span for span, _ in entries)
                listing.entries.append(Entry(image, file, spans, labels=tuple(labels)))
    if several and chosen is None:
        raise AmbiguousReadingError(
            f"regions have several attributes ({first_few(list(several), limit=_SHOWN)}); choose the one that names "
            "their class",
            [Alternative(f"classes are the values of {name!r}", {"class_property": name}) for name in names],
        )
    if chosen is not None and names and chosen not in names:
        known = first_few(list(names), limit=_SHOWN)
        detail = f"no region has the attribute {short(chosen)} (data.class_property); known: {known}"
        listing.defects.add(Location(found.files[0]).error(detail).defect)
    parse = partial(_objects, options=options)
    regions = partial(_regions, chosen=chosen)
    overlap = "the later one is on top"
    return region_dataset("VIA", found, listing, regions=regions, parse=parse, overlap=overlap)


FORMAT = DatasetFormat(
    "via", "JSON or CSV of VGG Image Annotator, and the images", detect, read, settings=("class_property",)
)


def _by_image(file: Path) -> tuple[dict[str, list[tuple[tuple[int, int], Json]]], Options]:
    """Spans and values of the entries, rows or regions of each image, and the options of VIA 3."""
    found: dict[str, list[tuple[tuple[int, int], Json]]] = {}
    if file.suffix.lower() == ".csv":
        with open_regular(file) as stream:
            end = len(stream.readline())
            for number, line in enumerate(stream, start=2):
                if line.strip():
                    row = _row(line, Location(file, f"line {number}"))
                    found.setdefault(row["filename"], []).append(((end, end + len(line)), row))
                end += len(line)
        return found, {}
    tables: dict[str, Json] = {"file": {}, "view": {}, "attribute": {}}
    regions: list[tuple[tuple[int, int], Json]] = []
    for member in members(file, inside=_NESTED):
        value, span = member.value, (member.start, member.end)
        if not isinstance(value, dict):
            continue
        if member.key in tables:
            tables[member.key] = value
        elif "regions" in value:
            found.setdefault(_name(value.get("filename"), file), []).append((span, value))
        elif "xy" in value:
            regions.append((span, value))
    images = {view: _image_of_view(entry, tables["file"], file) for view, entry in tables["view"].items()}
    found.update({image: [] for image in images.values()})
    for span, value in regions:
        found[_name(images.get(str(value.get("vid"))), file)].append((span, value))
    return found, _options(tables["attribute"])


def _image_of_view(view: object, files: Json, file: Path) -> str:
    """The file of a view of VIA 3."""
    listed = view.get("fid_list") if isinstance(view, dict) else None
    entry = files.get(str(listed[0])) if isinstance(listed, list) and len(listed) == 1 else None
    if not isinstance(entry, dict) or entry.get("type", _IMAGE) != _IMAGE:
        raise Location(file).error("has views of videos or of several files; annotate single images, or extract frames")
    return _name(entry.get("fname"), file)


def _name(value: object, file: Path) -> str:
    if not usable_name(value):
        raise Location(file).error(f"an entry names no image ({short(value)}); export it again")
    return str(value)


def _row(line: bytes, where: Location) -> Json:
    """A row of the CSV, as an entry of the JSON."""
    try:
        cells = dict(zip(_COLUMNS, next(csv.reader([line.decode("utf-8-sig").rstrip()])), strict=True))
        shape, attributes = (json.loads(cells[name]) for name in _COLUMNS[-2:])
    except (csv.Error, ValueError, RecursionError) as error:
        raise where.error(f"not readable as a row of VIA 2: {' '.join(str(error).split())[:80]}") from None
    regions = [{"shape_attributes": shape, "region_attributes": attributes}] if shape else []
    return {"filename": _name(cells["filename"], where.file), "regions": regions}


def _options(table: Json) -> Options:
    attributes = {key: value for key, value in table.items() if isinstance(value, dict)}
    options = {key: value.get("options") for key, value in attributes.items()}
    return {
        key: (str(value.get("aname", key)), own if isinstance(own := options[key], dict) else {})
        for key, value in attributes.items()
    }


def _shapes_in(entry: Json, options: Options) -> Iterator[tuple[Json, Mapping[str, str]]]:
    """Shape and attributes, without empty ones, of each region of an entry."""
    if "xy" in entry:
        numbers, given = entry["xy"], entry.get("av")
        values = given.items() if isinstance(given, dict) else ()
        known = [(options.get(str(key), (str(key), {})), value) for key, value in values]
        attributes = {name: choices.get(str(value), value) for (name, choices), value in known}
        yield _shape(numbers if isinstance(numbers, list) else []), _texts(attributes)
        return
    regions = entry.get("regions")
    for region in regions.values() if isinstance(regions, dict) else regions if isinstance(regions, list) else [None]:
        shape, attributes = (
            part if isinstance(region, dict) and isinstance(part := region.get(f"{name}_attributes"), dict) else {}
            for name in ("shape", "region")
        )
        yield shape, _texts(attributes)


def _texts(attributes: Json) -> dict[str, str]:
    """The values of attributes; of several choices, those that are made."""
    chosen = {
        key: ", ".join(sorted(str(name) for name, made in value.items() if made)) if isinstance(value, dict) else value
        for key, value in attributes.items()
    }
    return {str(key): text for key, value in chosen.items() if (text := usable_name(str(value)))}


def _shape(numbers: Sequence[Any]) -> Json:
    """A shape of VIA 3 as VIA 2 has it."""
    kind = numbers[0] if numbers else None
    name = _SHAPES[kind] if type(kind) is int and 0 < kind < len(_SHAPES) else short(kind)
    if name == "extreme rectangle":
        return {"name": "rect", **_box_around(numbers[1:])}
    if name == "extreme circle":
        return {"name": "circle", **_circle_through(numbers[1:])}
    if name in _KEYS:
        return {"name": name, **dict(zip(_KEYS[name], numbers[1:], strict=False))}
    return {"name": name, "all_points_x": numbers[1::2], "all_points_y": numbers[2::2]}


def _box_around(numbers: Sequence[Any]) -> Json:
    """The rectangle around points of its sides; empty if they are not numbers."""
    try:
        points = np.array(numbers, np.float64).reshape(-1, 2)
        (left, top), (right, bottom) = points.min(0).tolist(), points.max(0).tolist()
    except (TypeError, ValueError, OverflowError):
        return {}
    return {"x": left, "y": top, "width": right - left, "height": bottom - top}


def _circle_through(numbers: Sequence[Any]) -> Json:
    """The circle through three points; empty if they are on a line, or not numbers."""
    try:
        with np.errstate(all="ignore"):
            first, *others = np.array(numbers, np.float64).reshape(-1, 2)
            edges = np.array(others) - first
            x, y = np.linalg.solve(2 * edges, (edges**2).sum(1)).tolist()  # the centre, from the first point
    except (TypeError, ValueError, OverflowError, np.linalg.LinAlgError):
        return {}
    return {"cx": first[0] + x, "cy": first[1] + y, "r": math.hypot(x, y)}


def _label(attributes: Mapping[str, str], chosen: str | None) -> str | None:
    values = set(attributes.values()) if chosen is None else {attributes.get(chosen)} - {None}
    return values.pop() if len(values) == 1 else None


def _objects(data: Sequence[bytes], where: Location, options: Mapping[str, Options]) -> Iterable[tuple[str, Any]]:
    """The regions of an image that have an area, in their order."""
    is_json = where.file.suffix.lower() != ".csv"
    entries = [parse_again(part, where.file) if is_json else _row(part, where) for part in data]
    shapes = [pair for entry in entries for pair in _shapes_in(entry, options[str(where.file)])]
    return numbered(enumerate(pair for pair in shapes if pair[0].get("name") not in _WITHOUT_AREA))


def _regions(
    placed: tuple[int, tuple[Json, Json]], size: Size, where: Location, chosen: str | None
) -> Iterator[Region]:
    layer, (shape, attributes) = placed
    name = shape.get("name")
    name = name if isinstance(name, str) else None
    if name == "polygon":
        xs, ys = shape.get("all_points_x"), shape.get("all_points_y")
        if not isinstance(xs, list) or not isinstance(ys, list) or len(xs) != len(ys):
            raise where.error("needs as many all_points_x as all_points_y; draw it again")
        ring = parse_ring([list(point) for point in zip(xs, ys, strict=True)], where=where)
    elif name in _KEYS:
        numbers = [finite_number(shape.get(key)) for key in _KEYS[name]]
        if any(map(math.isnan, numbers)):
            raise where.error(f"a {name} needs the numbers {', '.join(_KEYS[name])}; draw it again")
        if name == "rect":
            x, y, width, height = numbers
            ring = np.array([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], np.float64)
        else:
            x, y, rx, ry = numbers if name == "ellipse" else (*numbers, numbers[-1])
            degrees = math.degrees(finite_number(shape.get("theta", 0)))
            ring = ellipse(x, y, rx, ry, degrees=degrees, size=size, where=where)
    else:
        allowed = ", ".join(("polygon", *_KEYS, *_WITHOUT_AREA))
        raise where.error(f"has the shape {short(name)}; allowed are {allowed}; draw it as a polygon")
    yield Region(_label(attributes, chosen) or ONE_CLASS, [[ring]], layer)
