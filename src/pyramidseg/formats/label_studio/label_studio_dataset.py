"""The datasets of Label Studio's JSON: tasks, their images and their regions."""

import json
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple
from xml.etree import ElementTree

import numpy as np

from pyramidseg.annotations.brush_rle import decode_brush
from pyramidseg.annotations.polygons import Location, parse_ring, runs_of_pixels
from pyramidseg.base.classes import Color, hex_color
from pyramidseg.base.config import LabelConfig
from pyramidseg.base.defects import Defect, DefectKind
from pyramidseg.base.json_stream import elements, parse_again
from pyramidseg.base.safe_paths import is_valid_name, short, usable_name
from pyramidseg.base.text import first_few
from pyramidseg.base.text_files import read_text
from pyramidseg.formats.dataset_format import DatasetFormat, ParsedDataset, SplitNames
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.label_studio.label_studio_brushes import BrushFiles, brush_names, find_brush_files
from pyramidseg.formats.label_studio.label_studio_tasks import image_name, task_images
from pyramidseg.formats.paths import child_file
from pyramidseg.formats.region_masks import Region, Size, ellipse, finite_number, mask_pixels, numbered, stated_size
from pyramidseg.formats.regions import Entry, Listing, ToolExport, export_files, region_dataset
from pyramidseg.formats.yaml_proposal import Alternative, AmbiguousReadingError

_LABELS = re.compile(r"(?:polygon|brush|ellipse|rectangle|keypoint|bitmask)?labels")

LABEL_CONFIG = "label_config.xml"
"""A project's labelling configuration, which exports lack; `label_studio_writer` writes it."""

_CONTROLS = ("BrushLabels", "PolygonLabels", "EllipseLabels", "Labels")
_WITH_AREA = ("polygon", "brush", "ellipse", "bitmask")
_SHOWN = 3

Result = Mapping[str, Any]


class Annotation(NamedTuple):
    """What one annotator drew on a task's image."""

    number: str
    annotator: str
    results: list[Result]


def detect(folder: Path, splits: SplitNames) -> ToolExport | None:
    """Find JSON files of tasks in the folder or in those below it; damaged ones too, for their defects."""
    kinds = {path: json_kind(path) for path in export_files(folder, ".json")}
    if "label_studio" not in kinds.values():
        return None
    found = tuple(path for path, kind in kinds.items() if kind in ("label_studio", "damaged"))
    return ToolExport(folder, splits, found)


def read(found: ToolExport, config: LabelConfig) -> ParsedDataset:
    """List the annotated tasks of all files.

    Raises:
        AmbiguousReadingError: a task has several annotations, and no annotator was chosen.
    """
    listing = Listing()
    brushes = find_brush_files(found.root, listing.defects)
    listing.masks = {file for own in brushes.values() for file in own.values()}
    for folder in dict.fromkeys([found.root, *(file.parent for file in found.files)]):
        with listing.defects.collect():
            listing.declared |= _declared_labels(folder)
    tasks = _Tasks(found, listing, config.annotator)
    for file in found.files:
        with listing.defects.collect():
            tasks.add_file(file)
    tasks.finish()
    if alone := [file for number in brushes.keys() - tasks.numbers for file in brushes[number].values()]:
        detail = f"{len(alone)} masks, such as this one, are of annotations that no JSON file has; export JSON again"
        listing.defects.add(Defect(DefectKind.MISSING_IMAGE, min(alone), detail))
    if listing.masks:
        listing.notes.append(f"brushes are read from {len(listing.masks)} masks, such as {min(listing.masks).name}")
    parse = partial(_objects, annotator=config.annotator, brushes=brushes)
    overlap = "the smaller one is on top"
    return region_dataset("Label Studio", found, listing, regions=_regions, parse=parse, overlap=overlap)


FORMAT = DatasetFormat(
    "label_studio", "JSON or JSON_MIN of Label Studio, and the images", detect, read, settings=("annotator",)
)


def _declared_labels(folder: Path) -> dict[str, Color | None]:
    """Labels and colours in the labelling configuration in a folder, in their order; empty if there is none."""
    file = child_file(folder, LABEL_CONFIG)
    if file is None:
        return {}
    text = read_text(file)
    if "<!DOCTYPE" in text.upper():
        raise Location(file).error("has a document type (<!DOCTYPE>), which can define entities; remove it")
    try:
        controls = [tag for tag in ElementTree.fromstring(text).iter() if tag.tag in _CONTROLS]  # noqa: S314
    except ElementTree.ParseError as error:
        raise Location(file).error(f"not readable as XML: {error}; save the labelling configuration again") from None
    labels = [label for control in controls for label in control.iter("Label")]
    named = {(label.get("alias") or label.get("value") or "").strip(): label.get("background") for label in labels}
    return {name: hex_color(color) for name, color in named.items() if name and is_valid_name(name)}


class _Tasks:
    """Lists tasks file by file, and counts what is not read."""

    def __init__(self, found: ToolExport, listing: Listing, annotator: str | None) -> None:
        self.found, self.listing, self.annotator = found, listing, annotator
        self.annotators: Counter[str] = Counter()
        self.numbers: set[str] = set()
        self.several: list[str] = []
        self.without_annotation: list[str] = []
        self.seen: set[tuple[Path, str]] = set()
        self.unnamed: list[tuple[Entry, Location, dict[str, str], set[str]]] = []

    def add_file(self, file: Path) -> None:
        for number, member in enumerate(elements(file)):
            task = member.value
            id = task.get("id", number) if isinstance(task, dict) else number
            where = Location(file, f"task {str(id)[:40]}")
            with self.listing.defects.collect():
                self._add(task, where, member.start, member.end)

    def _add(self, task: Any, where: Location, start: int, end: int) -> None:
        if not isinstance(task, dict):
            raise where.error("is not an object; export the project again")
        annotations = _annotations(task, where)
        self.annotators.update({annotation.annotator for annotation in annotations})
        self.numbers.update(annotation.number for annotation in annotations)
        if self.annotator is not None:
            annotations = [annotation for annotation in annotations if annotation.annotator == self.annotator]
        if not annotations:
            self.without_annotation.append(where.item)
            return
        if len(annotations) > 1:
            self.several.append(where.item)
        key = where.file, where.item
        if "annotations" not in task and key in self.seen:  # JSON_MIN: a row for each annotation
            self.several.append(where.item)
            return
        self.seen.add(key)
        results = annotations[0].results
        size = next((size for result in results if (size := _size(result))), None)
        named = (_labels(result) for result in results if _kind(result) in _WITH_AREA)
        labels = dict.fromkeys(some[0] for some in named if len(some) == 1)
        kinds = map(_kind, results)
        self.listing.without_area.update(kind for kind in kinds if kind in ("box", "keypoint", "empty brush"))
        entry = Entry("", where.file, ((start, end),), size, tuple(labels))
        drawn_on = {str(result["to_name"]) for result in results if _kind(result) and "to_name" in result}
        self.unnamed.append((entry, where, task_images(task), drawn_on))

    def finish(self) -> None:
        """List the entries, refuse several annotations of a task, and note tasks that have none."""
        tags = {tag for _, _, _, some in self.unnamed for tag in some}
        for entry, where, images, drawn_on in self.unnamed:
            with self.listing.defects.collect():
                name, other = image_name(images, drawn_on or tags, where)
                self.listing.entries.append(replace(entry, name=name, other_name=other))
        names, annotator = sorted(self.annotators), self.annotator
        if self.several and annotator is None and len(names) > 1:
            detail = (
                f"{len(self.several)} tasks, such as {self.several[0]}, have annotations by several annotators "
                f"({first_few(names, limit=8)}); choose one"
            )
            raise AmbiguousReadingError(
                detail, [Alternative(f"{self.annotators[name]} tasks by {name}", {"annotator": name}) for name in names]
            )
        if self.several:
            detail = (
                f"{first_few(self.several, limit=_SHOWN)}: several annotations by one annotator; delete all but one in "
                "Label Studio and export again"
            )
            self.listing.defects.add(Defect(DefectKind.REPEATED_ID, self.found.files[0], detail))
        if annotator is not None and annotator not in names and names:
            detail = f"no task has annotations by {annotator} (data.annotator); known: {first_few(names, limit=8)}"
            raise Location(self.found.files[0]).error(detail)
        if self.without_annotation:
            by = f" by {annotator}" if annotator is not None else ""
            some = first_few(self.without_annotation, limit=_SHOWN)
            self.listing.notes.append(f"tasks without an annotation{by} were left out ({some})")


def _annotations(task: Result, where: Location) -> list[Annotation]:
    """The annotations that were not cancelled."""
    if "annotations" not in task and "annotation_id" in task:
        named = ((key, value) for key, value in task.items() if isinstance(value, list))
        results = ({"from_name": key, **result} for key, some in named for result in some if isinstance(result, dict))
        return [Annotation(str(task["annotation_id"]), _annotator(task.get("annotator")), [*results])]
    found = task.get("annotations", [])
    if not isinstance(found, list):
        raise where.error("its annotations have to be a list")
    kept = [entry for entry in found if isinstance(entry, dict) and not entry.get("was_cancelled")]
    if any(not isinstance(entry.get("result", []), list) for entry in kept):
        raise where.error("the result of an annotation has to be a list")
    return [
        Annotation(
            str(entry.get("id")),
            _annotator(entry.get("completed_by")),
            [result for result in entry.get("result", []) if isinstance(result, dict)],
        )
        for entry in kept
    ]


def _annotator(value: object) -> str:
    """The number or the e-mail address of an annotator."""
    if isinstance(value, dict):
        value = value.get("email") or value.get("id")
    return str(value)[:80]


def _value(result: Result) -> Result:
    """The geometry and the labels of a result: in `value`, or in JSON_MIN the result itself."""
    value = result.get("value", result)
    return value if isinstance(value, dict) else {}


def _labels(result: Result) -> list[str]:
    lists = [value for key, value in _value(result).items() if _LABELS.fullmatch(key) and isinstance(value, list)]
    return list(dict.fromkeys(filter(None, (usable_name(name) for some in lists for name in some))))


def _size(result: Result) -> Size | None:
    return stated_size(result.get("original_height"), result.get("original_width"))


def _kind(result: Result) -> str | None:
    """What a result outlines; None for choices, texts and other results that are not regions."""
    value = _value(result)
    if "points" in value:
        return "polygon"
    if "rle" in value:
        return "empty brush" if value["rle"] == [] else "brush"
    if "radiusX" in value:
        return "ellipse"
    if "imageDataURL" in value or "bitmask" in str(result.get("type", "")):
        return "bitmask"
    if "x" in value and "y" in value:
        return "box" if "height" in value else "keypoint"
    return None


def _objects(
    data: Sequence[bytes], where: Location, annotator: str | None, brushes: BrushFiles
) -> Iterable[tuple[str, tuple[Result, Path | None]]]:
    """The regions that have an area, but for repetitions without the label, and the masks of brushes that have one."""
    found = _annotations(parse_again(data[0], where.file), where)
    chosen = next((some for some in found if annotator in (None, some.annotator)), Annotation("", "", []))
    results = [result for result in chosen.results if _kind(result) in _WITH_AREA]
    labels: dict[str, Result] = {}
    for result in results:
        if _labels(result):
            labels.setdefault(_identity(result), result)
    labelled = set(map(id, labels.values()))
    results = [result for result in results if id(result) in labelled or _identity(result) not in labels]
    own = dict(brushes.get(chosen.number, {}))
    drawn = [result for result in results if _kind(result) == "brush" and _labels(result)]
    names = brush_names((result.get("from_name"), _labels(result)) for result in drawn)
    files = {id(result): own.pop(name, None) for result, name in zip(drawn, names, strict=True)}
    if own:
        raise where.error(f"has no brush for the mask {min(own.values())}; export both again, or remove the mask")
    return numbered((result, files.get(id(result))) for result in results)


def _identity(result: Result) -> str:
    """Two controls of one region share it: its id, or its geometry in JSON_MIN."""
    value = _value(result)
    geometry = {key: value[key] for key in ("points", "rle", "x", "y", "radiusX", "radiusY") if key in value}
    return str(result.get("id") or json.dumps(geometry))


def _regions(drawn: tuple[Result, Path | None], size: Size, where: Location) -> Iterator[Region]:
    (result, file), (height, width) = drawn, size
    labels, value, kind = _labels(result), _value(result), _kind(result)
    if len(labels) != 1:
        raise where.error(f"needs one label, but has {first_few(labels, limit=_SHOWN) if labels else 'none'}")
    if result.get("image_rotation"):
        raise where.error("was drawn on a rotated image (image_rotation); turn it back in Label Studio")
    if _size(result) not in (None, size):
        raise where.error(f"was drawn on an image of {short(_size(result))} pixels (height, width), not of {size}")
    if kind == "brush":
        if file is not None:
            pixels = np.asarray(mask_pixels(file, size) > 0)
        else:
            pixels = decode_brush(value["rle"], height=height, width=width, where=where)
        yield Region(labels[0], runs_of_pixels(pixels, height=height))
    elif kind == "polygon":
        ring = parse_ring(value["points"], where=where)
        yield Region(labels[0], [[ring * (width / 100, height / 100)]])
    elif kind == "ellipse":
        sides = {"x": width, "y": height, "radiusX": width, "radiusY": height}
        numbers = (finite_number(value.get(key)) * side / 100 for key, side in sides.items())
        degrees = finite_number(value.get("rotation", 0))
        ring = ellipse(*numbers, degrees=degrees, size=size, where=where)
        yield Region(labels[0], [[ring]])
    else:
        raise where.error("is a bitmask, which is not read; label with the brush, or export PNG masks as pairs")
