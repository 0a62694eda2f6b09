"""Which format a JSON file belongs to, from its first bytes: some files are too large to be read for that."""

import codecs
import json
from pathlib import Path
from typing import Any, Literal

from pyramidseg.base.errors import DataError
from pyramidseg.base.json_stream import Member, members
from pyramidseg.base.safe_paths import open_regular

_MAX_BYTES = 2**24
"""After this many bytes, a file does not belong to a known format."""

_COCO: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "annotations": ("id", "image_id")}
"""Keys of the elements of COCO's arrays. (Label Studio lists categories in a separate file next to YOLO's labels.)"""

_FIRST_LINE = 2**16


def json_kind(path: Path) -> Literal["coco", "labelme", "damaged"] | None:
    """The format whose distinctive member comes first; a damaged file has the kind that its beginning shows."""
    try:
        for member in members(path):
            if member.key in _COCO and _is_coco(member):
                return "coco"
            if member.key == "shapes" and (member.value == [] or _has(member.value, ("label", "points"))):
                return "labelme"
            if member.end > _MAX_BYTES:
                return None
    except DataError:
        return None if _is_array_or_lines(path) else "damaged"
    return None


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
