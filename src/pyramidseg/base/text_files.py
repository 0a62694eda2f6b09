"""Reading the text files of datasets (lists, annotations, YAML), with limits against hostile files."""

import codecs
import re
from itertools import accumulate
from pathlib import Path

import yaml

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.safe_paths import open_regular

MAX_BYTES = 2**23
"""Largest annotation file: some hundred thousand points."""

MAX_YAML_BYTES = 2**19
"""Largest YAML file: PyYAML reads a few hundred KB per second."""

MAX_YAML_DEPTH = 50
"""Deepest nesting of brackets: PyYAML's time grows with its square."""

LFS_POINTER = b"version https://git-lfs"
LFS_DETAIL = "is a Git LFS pointer, not the file itself; fetch the content with: git lfs pull"
"""Start of a pointer that git leaves where the content was not downloaded, and what to do about it."""


def read_text(file: Path, *, most: int = MAX_BYTES) -> str:
    """Read a UTF-8 text file of limited size.

    Raises:
        DefectError: it cannot be read, has more than `most` bytes, or is not UTF-8.
    """
    try:
        with open_regular(file) as stream:
            data = stream.read(most + 1)
    except OSError as error:
        raise unreadable(file, error) from None
    if len(data) > most:
        raise DefectError(DefectKind.BAD_ANNOTATION, file, f"is larger than {most / 2**20:g} MB, the limit")
    if data.startswith(LFS_POINTER):
        raise DefectError(DefectKind.FOREIGN, file, LFS_DETAIL)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        detail = f"is not UTF-8 text (probably {likely_encoding(data)}); save it as UTF-8"
        raise DefectError(DefectKind.BAD_ANNOTATION, file, detail) from None


def unreadable(file: Path, error: OSError) -> DefectError:
    """The error about a file that the operating system does not open or read."""
    if isinstance(error, FileNotFoundError):
        return DefectError(DefectKind.ABSENT, file, "does not exist; restore it, or correct its name where it is given")
    detail = f"cannot be read: {error.strerror or error}; make it readable, or delete it"
    return DefectError(DefectKind.BAD_ANNOTATION, file, detail)


def likely_encoding(data: bytes) -> str:
    """The most likely name of the encoding of text that is not UTF-8."""
    if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return "UTF-16"
    runs = re.findall(rb"[\x80-\xff]+", data)
    is_paired = sum(len(run) % 2 == 0 for run in runs) > len(runs) / 2  # letters with accents are single bytes
    return "GB18030" if is_paired else "Windows-1252"


def is_number(text: str, *, most: int) -> bool:
    """Whether a text is an integer from 0 to `most` in digits; safe for texts of any length."""
    return text.isascii() and text.isdecimal() and len(text) <= len(str(most)) and int(text) <= most


def read_yaml(file: Path) -> object:
    """Read a small YAML file.

    Raises:
        DefectError: it cannot be read, is too large, nested too deeply, not YAML, or has aliases.
    """
    try:
        return parse_yaml(read_text(file, most=MAX_YAML_BYTES))
    except ValueError as error:
        if isinstance(error, DefectError):
            raise
        raise DefectError(DefectKind.BAD_ANNOTATION, file, str(error)) from None


def parse_yaml(text: str) -> object:
    """The content of a YAML text; the only place that parses YAML from others.

    Raises:
        ValueError: in one line: not YAML, nested too deeply, or with aliases.
    """
    if max(accumulate((character in "[{") - (character in "]}") for character in text), default=0) > MAX_YAML_DEPTH:
        raise ValueError("brackets are nested too deeply to be read as YAML")
    try:
        grows = any(isinstance(token, yaml.AliasToken) for token in yaml.scan(text))
        content: object = None if grows else yaml.safe_load(text)
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        raise ValueError(f"not readable as YAML: {' '.join(str(error).split())}") from None
    if grows:
        raise ValueError("contains an alias (*name), which could expand it without limit; write the value out")
    return content
