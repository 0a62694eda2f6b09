"""Which format a JSON file belongs to, from its first bytes: some files are too large to be read for that."""

import codecs
import json
from pathlib import Path
from typing import Any, Literal

from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import Member, elements, members
from pyramidseg.base.safe_paths import open_regular

_MAX_BYTES = 2**24
"""After this many bytes, a file does not belong to a known format."""

_COCO: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "annotations": ("id", "image_id")}
"""Keys of the elements of COCO's arrays. (Label Studio lists categories in a separate file next to YOLO's labels.)"""

_FIRST_LINE = 2**16


JsonKind = Literal[
    "coco",
    "labelme",
    "label_studio",
    "via",
    "supervisely",
    "labelbox",
    "darwin",
    "scale",
    "encord",
    "sagemaker",
    "damaged",
]

_OF_MEMBER: tuple[tuple[str, JsonKind], ...] = (
    ("_via_settings", "via"),
    ("_via_img_metadata", "via"),
    ("data_row", "labelbox"),
    ("source-ref", "sagemaker"),
    ("schema_ref", "darwin"),
)
"""Members of the top-level object that only one tool writes."""

_OF_ELEMENT: tuple[tuple[tuple[str, ...], JsonKind], ...] = (
    (("data", "annotations"), "label_studio"),
    (("annotation_id", "annotator"), "label_studio"),
    (("DataRow ID",), "labelbox"),
    (("Labeled Data", "Label"), "labelbox"),
    (("data_row",), "labelbox"),
    (("label_hash", "data_units"), "encord"),
    (("task_id", "response"), "scale"),
    (("source-ref",), "sagemaker"),
)
"""Keys that the first element of an array, or the first object of JSON lines, has."""


def json_kind(path: Path) -> JsonKind | None:
    """The format whose distinctive member comes first; a damaged file has the kind that its beginning shows."""
    keys: dict[str, Any] = {}
    try:
        for member in members(path):
            if (kind := _kind_of(member, keys)) is not None:
                return kind
            if member.end > _MAX_BYTES:
                return None
    except DataError:
        return _kind_of_elements(path) if _is_array_or_lines(path) else "damaged"
    return None


def _kind_of(member: Member, keys: dict[str, Any]) -> JsonKind | None:
    """The kind that a member shows; `keys` collects those before it."""
    key, value = member.key, member.value
    keys.setdefault(key, value)
    if key in _COCO and _is_coco(member):
        return "coco"
    if key == "shapes" and (value == [] or _has(value, ("label", "points"))):
        return "labelme"
    if _has(value, ("filename", "regions")) or {"attribute", "metadata", "project"} <= keys.keys():
        return "via"
    if {"objects", "size"} <= keys.keys() and _has(keys["size"], ("height", "width")):
        return "supervisely"
    if {"item", "annotations"} <= keys.keys() and _has(keys["item"], ("slots",)):
        return "darwin"
    return next((kind for name, kind in _OF_MEMBER if key == name), None)


def _kind_of_elements(path: Path) -> JsonKind | None:
    try:
        first = next(elements(path), None)
    except DataError:
        return None
    return None if first is None else next((kind for keys, kind in _OF_ELEMENT if _has(first.value, keys)), None)


def _is_array_or_lines(path: Path) -> bool:
    """Whether a file is an array, such as COCO's results, or JSON lines: annotation files are neither."""
    try:
        with open_regular(path) as stream:
            line = stream.readline(_FIRST_LINE).removeprefix(codecs.BOM_UTF8).strip()
            if line.startswith(b"["):
                return True
            json.loads(line)
            return bool(stream.readline(_FIRST_LINE).strip())
    except (OSError, ValueError, RecursionError):
        return False


def _is_coco(member: Member) -> bool:
    return member.value == [] or _has(member.value, _COCO[member.key])


def _has(value: Any, keys: tuple[str, ...]) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)
