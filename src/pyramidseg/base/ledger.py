"""Ledger of finished items: what was made from what, so that a job that was killed continues where it stopped.

A ledger is a folder of text files with one line of JSON for each finished item. Lines are only appended, and every
process appends to a file of its own, so that many can share a folder. The last line of an item counts; files are in
the order of their names, which begin with the time. An incomplete last line, left by a killed process, is removed or
ignored.
"""

import json
import logging
import os
import secrets
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from pyramidseg.base.files import explained_writes, make_folder

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"

_MAX_OPEN = 64
_BY_FOLDER = {ord("/"): "\0", 0: "/"}
"""Sorts the files of a folder before those whose names go on after its name."""

_PART_LINES, _PART_SECONDS = 256, 10.0


class Ledger:
    """The finished items in a folder, by their keys; a context manager. Open it with `Ledger.open`.

    Lines stay on the disk, and so do the keys: SQLite keeps a table of up to 2 MB in memory, and a larger one in a
    temporary file, which it deletes.
    """

    def __init__(self, folder: Path, *, publish: Callable[[Path], object] | None = None) -> None:
        self.folder = folder
        self._publish = publish
        self._files: list[Path] = []
        self._opened: dict[int, BinaryIO] = {}
        self._places = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        columns = "key BLOB PRIMARY KEY, file INTEGER, start INTEGER"  # the number of the file, and where the line is
        self._places.execute(f"CREATE TABLE places ({columns}) WITHOUT ROWID")
        self._own: int | None = None  # file descriptor of this process's file
        self._end = self._lines = 0
        self._started = 0.0

    @classmethod
    def open(cls, folder: Path, *, repair: bool = False, publish: Callable[[Path], object] | None = None) -> "Ledger":
        """Read the keys in a folder, which need not exist; it is created by the first `append`.

        Args:
            repair: delete incomplete last lines; only if no other process uses the folder.
            publish: called with every file of this process once it is complete; a new file is then begun every 256
                lines or 10 seconds. For folders that are copies of an object store, where nothing can be appended.
        """
        ledger = cls(folder, publish=publish)
        unreadable = sum(ledger._index(path, repair=repair) for path in sorted(folder.glob(f"*{SUFFIX}")))
        if unreadable:
            logger.warning(f"{folder}: lines that cannot be read: {unreadable}; their items are done again")
        return ledger

    def __len__(self) -> int:
        count: int = self._places.execute("SELECT count(*) FROM places").fetchone()[0]
        return count

    def __contains__(self, key: str) -> bool:
        return self._place(key) is not None

    def find(self, key: str) -> dict[str, Any] | None:
        """The last entry of an item; None if the item was not done."""
        place = self._place(key)
        return None if place is None else self._read(*place)

    def done(self, key: str, fingerprint: str) -> bool:
        """Whether the last entry of an item has this fingerprint and no `error`."""
        entry = self.find(key)
        return entry is not None and entry.get("fingerprint") == fingerprint and entry.get("error") is None

    def append(self, entry: Mapping[str, Any]) -> None:
        """Add an entry with at least a `key` and a `fingerprint`; call it after the item's files are written.

        Raises:
            OutputError: the disk is full, or the folder cannot be written; the ledger is as before.
        """
        line = json.dumps({"key": entry["key"], **entry}, allow_nan=False).encode() + b"\n"
        if self._own is None:
            self._begin_file()
        assert self._own is not None
        with explained_writes(self._files[-1]):
            try:
                written = os.write(self._own, line)
                if written < len(line):  # the disk is full: a second attempt says so
                    os.write(self._own, line[written:])
            except OSError:
                os.ftruncate(self._own, self._end)
                raise
        self._add(entry["key"], len(self._files) - 1, self._end)
        self._end += len(line)
        self._lines += 1
        if self._publish and (self._lines >= _PART_LINES or time.monotonic() - self._started >= _PART_SECONDS):
            self._end_file()

    def entries(self, *, below: str = "") -> Iterator[dict[str, Any]]:
        """The last entry of every item whose key begins with `below`, in the order of the keys, folder by folder."""
        query = "SELECT file, start FROM places WHERE key >= ? AND key < ? ORDER BY key"
        for place in self._places.execute(query, (_stored(below), _stored(below) + b"\xff")):
            if (entry := self._read(*place)) is not None:
                yield entry

    def close(self) -> None:
        """Flush this process's file to the disk and close all files."""
        self._end_file()
        self._close_files()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()
        self._places.close()

    def _place(self, key: str) -> tuple[int, int] | None:
        query = "SELECT file, start FROM places WHERE key = ?"
        found: tuple[int, int] | None = self._places.execute(query, (_stored(key),)).fetchone()
        return found

    def _add(self, key: str, file: int, start: int) -> None:
        self._places.execute("INSERT OR REPLACE INTO places VALUES (?, ?, ?)", (_stored(key), file, start))

    def _read(self, file: int, start: int) -> dict[str, Any] | None:
        if file not in self._opened:
            if len(self._opened) >= _MAX_OPEN:
                self._close_files()
            self._opened[file] = self._files[file].open("rb")
        self._opened[file].seek(start)
        return _entry(self._opened[file].readline())

    def _close_files(self) -> None:
        for file in self._opened.values():
            file.close()
        self._opened.clear()

    def _begin_file(self) -> None:
        make_folder(self.folder)
        path = self.folder / f"{time.time_ns():019}-{os.getpid()}-{secrets.token_hex(4)}{SUFFIX}"
        with explained_writes(path):
            self._own = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL, 0o666)
        self._files.append(path)
        self._end = self._lines = 0
        self._started = time.monotonic()

    def _end_file(self) -> None:
        if self._own is None:
            return
        os.fsync(self._own)
        os.close(self._own)
        self._own = None
        if self._publish:
            self._publish(self._files[-1])

    def _index(self, path: Path, *, repair: bool) -> int:
        """Note where the lines of a file are; returns the number of those that cannot be read."""
        unreadable = offset = 0
        line = b""
        with path.open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    if (entry := _entry(line)) is None:
                        unreadable += 1
                    else:
                        self._add(entry["key"], len(self._files), offset)
                    offset += len(line)
        if repair and not line.endswith(b"\n"):
            os.truncate(path, offset)
        self._files.append(path)
        return unreadable


def _stored(key: str) -> bytes:
    return key.translate(_BY_FOLDER).encode("utf-8", "surrogatepass")


def _entry(line: bytes) -> dict[str, Any] | None:
    """The entry of a line; None if it is not one."""
    try:
        entry = json.loads(line)
    except ValueError:
        return None
    return entry if isinstance(entry, dict) and isinstance(entry.get("key"), str) else None
