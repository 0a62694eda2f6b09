"""Which format a JSON file belongs to, from its first bytes: some files are too large to be read for that."""

import codecs
import json
from pathlib import Path
from typing import Any, Literal

from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import elements, members
from pyramidseg.base.safe_paths import open_regular

_MAX_BYTES = 2**24
"""After this many bytes, a file does not belong to a known format."""

_COCO: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "annotations": ("id", "image_id")}
"""Keys of the elements of COCO's arrays. (Label Studio lists categories in a separate file next to YOLO's labels.)"""

_TASK = (("data", "annotations"), ("annotation_id", "annotator"))
"""Keys of a task of Label Studio in JSON, and in JSON_MIN."""

_FIRST_LINE = 2**16

JsonKind = Literal["coco", "labelme", "label_studio", "supervisely", "via", "damaged"]


def json_kind(path: Path) -> JsonKind | None:
    """The format whose distinctive member comes first; a damaged file has the kind that its beginning shows."""
    size: Any = None
    objects = False
    try:
        for member in members(path):
            key, value = member.key, member.value
            if key in _COCO and (_has(value, *_COCO[key]) or (key == "images" and value == [])):
                return "coco"
            if key == "shapes" and (value == [] or _has(value, "label", "points")):
                return "labelme"
            if (
                key.startswith("_via_")
                or _has(value, "filename", "regions")
                or (key == "file" and isinstance(value, dict) and any(_has(v, "fid", "fname") for v in value.values()))
            ):
                return "via"
            size = value if key == "size" else size
            objects |= key == "objects"
            if objects and _has(size, "height", "width"):
                return "supervisely"
            if member.end > _MAX_BYTES:
                return None
    except DataError:
        return _kind_of_array(path) if _is_array_or_lines(path) else "damaged"
    return None


def _kind_of_array(path: Path) -> JsonKind | None:
    """Label Studio's JSON and JSON_MIN are arrays of tasks."""
    try:
        first = next(elements(path), None)
    except DataError:
        return None
    is_task = first is not None and any(_has(first.value, *keys) for keys in _TASK)
    return "label_studio" if is_task else None


def _is_array_or_lines(path: Path) -> bool:
    """Whether a file is an array, such as COCO's results, or JSON lines."""
    try:
        with open_regular(path) as stream:
            line = stream.readline(_FIRST_LINE).removeprefix(codecs.BOM_UTF8).strip()
            if line.startswith(b"["):
                return True
            json.loads(line)
            return bool(stream.readline(_FIRST_LINE).strip())
    except (OSError, ValueError, RecursionError):
        return False


def _has(value: Any, *keys: str) -> bool:
    return isinstance(value, dict) and all(key in value for key in keys)
