"""Text files that come with datasets: lists, annotations, YAML; read within limits, whatever they hold."""

from itertools import accumulate
from pathlib import Path

import yaml

from pyramidseg.base.defects import DefectError, DefectKind

MAX_BYTES = 2**23
"""Of an annotation file: some hundred thousand points."""

MAX_YAML_BYTES = 2**19
"""PyYAML reads some hundred KB a second."""

MAX_YAML_DEPTH = 50
"""Brackets within brackets; PyYAML's time grows with their square."""


def read_text(file: Path, *, most: int = MAX_BYTES) -> str:
    """A text file of bearable size.

    Raises:
        DataError: unreadable, of more than `most` bytes, or no UTF-8.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(most + 1)
    except OSError as error:
        kind = DefectKind.ABSENT if isinstance(error, FileNotFoundError) else DefectKind.BAD_ANNOTATION
        detail = f"cannot be read: {error.strerror or error}; put a readable file there, or take this one away"
        raise DefectError(kind, file, detail) from None
    if len(data) > most:
        raise DefectError(DefectKind.BAD_ANNOTATION, file, f"is larger than {most / 2**20:g} MB, as no such file is")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DefectError(DefectKind.BAD_ANNOTATION, file, "is no text (UTF-8); save it in that encoding") from None


def is_number(text: str, *, most: int) -> bool:
    """Whether this is a whole number in digits, from 0 to `most`; also of text that no program should convert."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most


def read_yaml(file: Path) -> object:
    """What a small YAML file holds.

    Raises:
        DataError: unreadable, too large, nested too deeply, no YAML, or with references that could make it grow.
    """
    text = read_text(file, most=MAX_YAML_BYTES)
    if max(accumulate((character in "[{") - (character in "]}") for character in text), default=0) > MAX_YAML_DEPTH:
        raise DefectError(DefectKind.BAD_ANNOTATION, file, "brackets nested too deeply to be read as YAML")
    try:
        grows = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        content: object = None if grows else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        detail = f"not readable as YAML: {' '.join(str(error).split())}"
        raise DefectError(DefectKind.BAD_ANNOTATION, file, detail) from None
    if grows:
        detail = "refers to itself (*name), which can make it grow without end; write it out"
        raise DefectError(DefectKind.BAD_ANNOTATION, file, detail)
    return content
