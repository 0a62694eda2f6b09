"""Which format a JSON file is of, from its first bytes: some are too large to be read for that."""

import codecs
import json
from pathlib import Path
from typing import Any, Literal

from pyramidseg.data.json_files import Member, members
from pyramidseg.errors import DataError

_LOOKED_AT = 2**24
"""Bytes after which a file is of no known kind."""

_COCO: dict[str, tuple[str, ...]] = {"images": ("id", "file_name"), "annotations": ("id", "image_id")}
"""What the elements of COCO's arrays have. Label Studio lists categories in a file of its own, beside YOLO's labels."""

_FIRST_LINE = 2**16


def json_kind(path: Path) -> Literal["coco", "labelme", "damaged"] | None:
    """The first member that one format alone has decides; damaged files are of the kind that they begin as."""
    try:
        for member in members(path):
            if member.key in _COCO and _is_coco(member):
                return "coco"
            if member.key == "shapes" and (member.value == [] or _has(member.value, ("label", "points"))):
                return "labelme"
            if member.end > _LOOKED_AT:
                return None
    except DataError:
        return None if _is_array_or_lines(path) else "damaged"
    return None


def _is_array_or_lines(path: Path) -> bool:
    """Whether it is an array, such as COCO's results, or an object in each line: no annotation file is."""
    try:
        with path.open("rb") as stream:
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
