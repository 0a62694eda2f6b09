"""Read JSON files of any size value by value, in bounded memory, with the byte offset of each value.

Memory is bounded by `MAX_VALUE` whatever the file holds, and every kind of damage is a `DefectError`. ijson offers no
byte offsets, which random access to single annotations needs, and takes 2.4 times the CPU time.
"""

import json
import os
import re
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.defects import DefectError, DefectKind
from pyramidseg.base.safe_paths import open_regular
from pyramidseg.base.text_files import LFS_DETAIL, LFS_POINTER, likely_encoding, unreadable

MAX_VALUE = 2**24
"""Bytes of the longest single value, such as an annotation; Python objects may take twenty times as much memory."""

MAX_TOGETHER = 2**25
"""Bytes of all values that are read at once: the annotations of one image."""

_CHUNK = 2**20
_NO_SPACE = re.compile(r"[^ \t\n\r]")
_AFTER = (" ", "\t", "\n", "\r", ",", ":", "]", "}")
_UTF16 = ("\xff\xfe", "\xfe\xff", "{\0", "\0{")  # with a byte order mark, and without
_QUOTE = re.compile(r'\\.|"', re.DOTALL)


class Member(NamedTuple):
    """A value in the top-level object of a file.

    Attributes:
        key: in the object; the elements of an array are separate members with its key.
        value: None for a string longer than `MAX_VALUE`, such as an embedded image. An empty array is `[]`.
        start, end: byte offsets in the file.
    """

    key: str
    value: Any
    start: int
    end: int


def members(path: Path, inside: Collection[str] = ()) -> Iterator[Member]:
    """Iterate over the members of a file's top-level object in order, and over arrays element by element.

    Args:
        inside: keys of objects whose values are separate members, too, with the key of the object.

    Raises:
        DefectError: the file is unreadable, not JSON in UTF-8, not an object, damaged, nested too deeply, or holds a
            value longer than `MAX_VALUE`.
    """
    return _parsed(path, lambda text: _members(text, inside))


def elements(path: Path) -> Iterator[Member]:
    """Iterate over the elements of a file whose top level is an array, with an empty key.

    Raises:
        DefectError: as `members`.
    """
    return _parsed(path, lambda text: _elements(text, ""))


def _parsed(path: Path, parse: Callable[["_Text"], Iterator[Member]]) -> Iterator[Member]:
    try:
        with open_regular(path) as file:
            text = _Text(path, file)
            yield from parse(text)
            text.expect_end()
    except OSError as error:
        raise unreadable(path, error) from None


@dataclass(frozen=True, eq=False)
class JsonSlices:
    """Values that stay in their file and are read when needed.

    Attributes:
        size, modified_ns: of the file when it was parsed.
        starts, ends: byte offsets of each value.
    """

    path: Path
    size: int
    modified_ns: int
    starts: NDArray[np.int64]
    ends: NDArray[np.int64]

    @classmethod
    def of(cls, path: Path, starts: Iterable[int], ends: Iterable[int]) -> "JsonSlices":
        """Values of a file in its present state."""
        status = path.stat()
        return cls(path, status.st_size, status.st_mtime_ns, np.array(starts, np.int64), np.array(ends, np.int64))

    def read(self, indices: Sequence[int]) -> list[bytes]:
        """Read some of the values.

        Raises:
            DefectError: the file has changed, or the values have more than `MAX_TOGETHER` bytes.
        """
        if sum(int(self.ends[index] - self.starts[index]) for index in indices) > MAX_TOGETHER:
            raise _flaw(self.path, f"more than {MAX_TOGETHER // 2**20} MB of annotations for one image; simplify them")
        try:
            with open_regular(self.path) as file:
                status = os.fstat(file.fileno())
                if (status.st_size, status.st_mtime_ns) != (self.size, self.modified_ns):
                    raise _flaw(self.path, "has changed since the dataset was opened; start again")
                values = []
                for index in indices:
                    file.seek(self.starts[index])
                    values.append(file.read(self.ends[index] - self.starts[index]))
                return values
        except OSError as error:
            raise unreadable(self.path, error) from None


def parse_again(data: str | bytes, file: Path) -> Any:
    """The value of JSON that could be read before.

    Raises:
        DefectError: it cannot be read any more.
    """
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        raise _flaw(file, "no longer readable as JSON; start again") from None


def _members(text: "_Text", inside: Collection[str]) -> Iterator[Member]:
    text.expect("{", "a JSON object is needed")
    while text.next() != "}":
        if text.next() != '"':
            raise text.error("a key is missing")
        key = text.value("").value
        text.expect(":")
        if text.next() == "[":
            yield from _elements(text, key)
        elif key in inside and text.next() == "{":
            yield from (member._replace(key=key) for member in _members(text, ()))
        else:
            yield text.value(key)
        if text.next() != "}":
            text.expect(",")
            if text.next() == "}":
                raise text.error("a key is missing")
    text.expect("}")


def _elements(text: "_Text", key: str) -> Iterator[Member]:
    start = text.offset
    text.expect("[")
    if text.next() == "]":
        text.expect("]")
        yield Member(key, [], start, text.offset)
        return
    while True:
        yield text.value(key)
        if text.next() == "]":
            text.expect("]")
            return
        text.expect(",")


class _Text:
    """A moving window on the file.

    Bytes are decoded as Latin-1, one character each, so that text offsets are byte offsets; JSON's own syntax is ASCII.
    Values with other characters are decoded again as UTF-8.
    """

    def __init__(self, path: Path, file: IO[bytes]) -> None:
        self.path, self.file = path, file
        self.buffer, self.place = "", 0
        self.before = 0  # bytes of the file that come before the buffer
        self.ended = False
        self.decode = json.JSONDecoder().raw_decode
        self._more()
        if self.buffer.startswith("\xef\xbb\xbf"):  # the byte order mark of some Windows programs
            self.place = 3
        elif self.buffer.startswith(LFS_POINTER.decode()):
            raise DefectError(DefectKind.FOREIGN, path, LFS_DETAIL)
        elif self.buffer.startswith(_UTF16):
            raise self.error("text in UTF-16, and UTF-8 is needed", "save it in that encoding")

    @property
    def offset(self) -> int:
        return self.before + self.place

    def next(self) -> str:
        """The next character that is not white space, without moving past it; empty at the end."""
        while True:
            found = _NO_SPACE.search(self.buffer, self.place)
            self.place = found.start() if found else len(self.buffer)
            if found or self.ended:
                return found[0] if found else ""
            self._more()

    def expect(self, character: str, otherwise: str = "") -> None:
        """Move past a character."""
        if self.next() != character:
            raise self.error(otherwise or f"{character!r} is missing")
        self.place += 1

    def expect_end(self) -> None:
        if self.next():
            raise self.error("something follows the end")

    def value(self, key: str) -> Member:
        """Read the next value, whatever its type."""
        self.next()
        while True:
            start = self.offset
            try:
                value, end = self.decode(self.buffer, self.place)
                if self.ended or self.buffer[end : end + 1] in _AFTER:  # else a number may continue
                    raw = self.buffer[self.place : end]
                    self.place = end
                    value = value if raw.isascii() else json.loads(raw.encode("latin-1").decode("utf-8"))
                    return Member(key, value, start, self.offset)
            except RecursionError:
                raise self.error("values nested too deeply") from None
            except UnicodeDecodeError as error:
                what = f"text that is not UTF-8 (probably {likely_encoding(error.object)})"
                raise self.error(what, "save it as UTF-8") from None
            except ValueError as error:
                if self.ended:
                    raise self._malformed(error) from None
            if len(self.buffer) - self.place > MAX_VALUE:
                if self.buffer[self.place] == '"':
                    return self._skip_string(key)
                raise self.error(f"damaged here, or one value of more than {MAX_VALUE // 2**20} MB")
            self._more()

    def error(self, what: str, step: str = "export it again") -> DefectError:
        what = "the file ends too early" if self.ended and self.place >= len(self.buffer) else what
        return _flaw(self.path, f"not readable as JSON: {what} (byte {self.offset}); {step}")

    def _malformed(self, error: ValueError) -> DefectError:
        if isinstance(error, json.JSONDecodeError):
            self.place = min(error.pos, len(self.buffer))
            return self.error(error.msg)
        return self.error("a number of too many digits")

    def _skip_string(self, key: str) -> Member:
        """Move past a string without keeping it."""
        start = self.offset
        self.place += 1
        while True:
            mark = _QUOTE.search(self.buffer, self.place)
            if mark is not None:
                self.place = mark.end()
                if mark[0] == '"':
                    return Member(key, None, start, self.offset)
            elif self.ended:
                self.place = len(self.buffer)
                raise self.error("")
            else:
                self.place = len(self.buffer) - self.buffer.endswith("\\", self.place)
                self._more()

    def _more(self) -> None:
        """Read more: at least as much as is unread, so that a long value is not parsed too often."""
        kept = self.buffer[self.place :]
        data = self.file.read(max(_CHUNK, len(kept)))
        self.before += self.place
        self.buffer, self.place = kept + data.decode("latin-1"), 0
        self.ended = not data


def _flaw(path: Path, detail: str) -> DefectError:
    return DefectError(DefectKind.BAD_ANNOTATION, path, detail)
