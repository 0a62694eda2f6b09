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
import time
from array import array
from collections.abc import Callable, Iterator, Mapping
from json.decoder import scanstring  # type: ignore[attr-defined]
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from pyramidseg.base.files import explained_writes, make_folder

logger = logging.getLogger(__name__)

SUFFIX = ".jsonl"

_START = b'{"key": "'
_OFFSET_BITS = 40
_MOST_RECENT = 2**16
_MOST_OPEN = 64
_PART_LINES, _PART_SECONDS = 256, 10.0


class Ledger:
    """The finished items in a folder, by their keys; a context manager. Open it with `Ledger.open`.

    Lines stay on the disk. Memory holds 16 bytes for each line that was there at the start, and up to 65,536 keys.
    """

    def __init__(self, folder: Path, *, publish: Callable[[Path], object] | None = None) -> None:
        self.folder = folder
        self._publish = publish
        self._files: list[Path] = []
        self._opened: dict[int, BinaryIO] = {}
        self._hashes, self._places = array("q"), array("q")
        self._sorted_hashes: NDArray[np.int64] = np.empty(0, np.int64)
        self._sorted_places: NDArray[np.int64] = np.empty(0, np.int64)
        self._recent: dict[str, int] = {}
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
        unreadable = 0
        for path in sorted(folder.glob(f"*{SUFFIX}")):
            if repair:
                _remove_incomplete_line(path)
            ledger._files.append(path)
            unreadable += ledger._index(len(ledger._files) - 1)
        if unreadable:
            logger.warning(f"{folder}: lines that cannot be read: {unreadable}; their items are done again")
        ledger._sort()
        return ledger

    def find(self, key: str) -> dict[str, Any] | None:
        """The last entry of an item; None if the item was not done."""
        place = self._place(key)
        return None if place is None else self._read(place)

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
        self._recent[entry["key"]] = (len(self._files) - 1) << _OFFSET_BITS | self._end
        self._end += len(line)
        self._lines += 1
        if len(self._recent) >= _MOST_RECENT:
            self._sort()
        if self._publish and (self._lines >= _PART_LINES or time.monotonic() - self._started >= _PART_SECONDS):
            self._end_file()

    def entries(self) -> Iterator[dict[str, Any]]:
        """The last entry of every item, in the order of the keys, folder by folder.

        All keys are in memory, about 200 bytes for each.
        """
        self._sort()
        keyed = []
        for file in range(len(self._files)):
            for key, offset in self._keys(file):
                place = file << _OFFSET_BITS | offset
                if key is not None and self._place(key) == place:
                    keyed.append((key.replace("/", "\0"), place))
        for _, place in sorted(keyed):
            if (entry := self._read(place)) is not None:
                yield entry

    def close(self) -> None:
        """Flush this process's file to the disk and close all files."""
        self._end_file()
        for file in self._opened.values():
            file.close()
        self._opened.clear()

    def __enter__(self) -> "Ledger":
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

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

    def _index(self, file: int) -> int:
        """Add the lines of a file to the index; returns the number of those that cannot be read."""
        unreadable = 0
        for key, offset in self._keys(file):
            if key is None:
                unreadable += 1
            else:
                self._hashes.append(hash(key))
                self._places.append(file << _OFFSET_BITS | offset)
        return unreadable

    def _keys(self, file: int) -> Iterator[tuple[str | None, int]]:
        """Key and offset of each complete line of a file; the key is None if the line is not an entry."""
        offset = 0
        with self._files[file].open("rb") as lines:
            for line in lines:
                if line.endswith(b"\n"):
                    yield _key_of(line), offset
                offset += len(line)

    def _sort(self) -> None:
        """Move recent keys to the index, and sort it by hash; later lines of equal hash come last."""
        for key, place in self._recent.items():
            self._hashes.append(hash(key))
            self._places.append(place)
        self._recent.clear()
        if len(self._hashes) == len(self._sorted_hashes):
            return
        hashes = np.array(self._hashes, np.int64)
        order = np.argsort(hashes, kind="stable")
        self._sorted_hashes = hashes[order]
        self._sorted_places = np.array(self._places, np.int64)[order]

    def _place(self, key: str) -> int | None:
        """File and offset of an item's last line."""
        if (recent := self._recent.get(key)) is not None:
            return recent
        last = int(np.searchsorted(self._sorted_hashes, hash(key), side="right")) - 1
        while last >= 0 and self._sorted_hashes[last] == hash(key):
            place = int(self._sorted_places[last])
            if _key_of(self._line(place)) == key:
                return place
            last -= 1  # another key with the same hash
        return None

    def _line(self, place: int) -> bytes:
        file, offset = place >> _OFFSET_BITS, place & (1 << _OFFSET_BITS) - 1
        if file not in self._opened:
            if len(self._opened) >= _MOST_OPEN:
                for other in self._opened.values():
                    other.close()
                self._opened.clear()
            self._opened[file] = self._files[file].open("rb")
        self._opened[file].seek(offset)
        return self._opened[file].readline()

    def _read(self, place: int) -> dict[str, Any] | None:
        try:
            entry = json.loads(self._line(place))
        except ValueError:  # damaged after its key
            return None
        return entry if isinstance(entry, dict) else None


def _key_of(line: bytes) -> str | None:
    """The key at the beginning of a line; None if the line is not an entry."""
    if not (line.startswith(_START) and line.endswith(b"}\n")):
        return None
    try:
        key: str = scanstring(line.decode("ascii"), len(_START), True)[0]
    except ValueError:
        return None
    return key


def _remove_incomplete_line(path: Path) -> None:
    with path.open("rb+") as file:
        end = size = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - 2**16)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        if end < size:
            file.truncate(end)
