"""JSON that this library stored in the metadata of its files, read back: what does not fit is one `ValueError`.

A checksum shows that a file is unchanged, not that this version can use it: it may be of another version, or made by
other programs.
"""

import json
from dataclasses import fields, is_dataclass
from typing import Any, TypeVar

from pydantic import TypeAdapter

T = TypeVar("T")


def parse_stored(kind: type[T], text: str) -> T:
    """A value of a type that pydantic can check, such as a dataclass or `dict[str, Any]`, from its JSON.

    Raises:
        ValueError: not JSON, nested too deeply, or not of this type; fields that a dataclass does not have.
    """
    try:
        content = json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
    if is_dataclass(kind) and isinstance(content, dict):
        names = {field.name for field in fields(kind)}
        if unknown := sorted(content.keys() - names):
            raise ValueError(f"unknown fields {', '.join(unknown)[:100]} of {kind.__name__}")
    return TypeAdapter(kind).validate_python(content)


def parse_mapping(text: str) -> dict[str, Any]:
    """`parse_stored` of any mapping."""
    return parse_stored(dict[str, Any], text)
