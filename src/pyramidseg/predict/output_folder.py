"""The folder of a prediction's outputs: on this machine, or behind a URL."""

import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyramidseg.base.files import make_folder, remove_leftovers
from pyramidseg.base.ledger import SUFFIX, Ledger
from pyramidseg.base.output_lock import locked
from pyramidseg.base.remote_files import fetch, is_url, list_remote, upload
from pyramidseg.predict.outputs import is_ours
from pyramidseg.predict.outputs.ownership import is_damaged

LEDGER_FOLDER = "ledger"

FileState = Sequence[int | str]
"""Size in bytes, time or tag of the last change, and digest of an output; as JSON in the ledger."""


class OutputFolder:
    """A local folder; `RemoteOutputFolder` overrides what is different behind a URL.

    Attributes:
        name: as the user gave it.
        folder: where files are written.
    """

    def __init__(self, name: str | Path, folder: Path, *, alone: bool) -> None:
        self.name, self.folder = str(name), folder
        self._alone = alone

    def open_ledger(self) -> Ledger:
        """The ledger of the folder; incomplete lines are removed if no other process can be writing them."""
        return Ledger.open(self.folder / LEDGER_FOLDER, repair=self._alone)

    def remove_leftovers(self) -> None:
        """Delete what killed processes left, unless living ones share the folder."""
        for parent, _, _ in os.walk(self.folder) if self._alone else ():
            remove_leftovers(Path(parent))

    def write(self, output: str, write: Callable[[Path], object]) -> FileState:
        """Write a file atomically by a function that takes its path."""
        path = self.folder / output
        write(path)
        state = path.stat()
        return state.st_size, str(state.st_mtime_ns), file_digest(path)

    def is_intact(self, output: str, state: FileState) -> bool:
        """Whether a file is as it was written: size and time of change, or else its content."""
        size, stamp, digest = state
        path = self.folder / output
        try:
            found = path.stat()
            if found.st_size != size:
                return False
            return str(found.st_mtime_ns) == stamp or file_digest(path) == digest
        except OSError:
            return False

    def path(self, output: str) -> str:
        """Path or URL of a file, for messages."""
        return f"{self.name.rstrip('/')}/{output}"

    def exists(self, output: str) -> bool:
        """Whether a file is there."""
        return (self.folder / output).exists()

    def real_name(self, output: str) -> str:
        """A file's name to compare it with inputs: its path without links, or its URL."""
        return os.path.realpath(self.folder / output)

    def is_foreign(self, output: str, *, known: bool) -> bool:
        """Whether a file exists that may not be replaced.

        Args:
            known: the ledger has it, so that a file that cannot be opened is a damaged output.
        """
        path = self.folder / output
        return path.exists() and not is_ours(path) and not (known and is_damaged(path))


class RemoteOutputFolder(OutputFolder):
    """A folder behind a URL. Files are written into a temporary folder and uploaded; `folder` is that folder.

    As nothing can be appended to an object, the ledger is stored in parts of up to 256 lines or 10 seconds.
    """

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder, alone=False)
        self._url = url.rstrip("/")
        start = len(self._url) + 1
        self._found = {file.url[start:]: file for file in list_remote(self._url)}

    def open_ledger(self) -> Ledger:
        ledger = self.folder / LEDGER_FOLDER
        make_folder(ledger)
        for name, file in self._found.items():
            if name.startswith(f"{LEDGER_FOLDER}/") and name.endswith(SUFFIX):
                fetch(file.url, ledger)
        return Ledger.open(ledger, publish=lambda part: upload(part, f"{self._url}/{LEDGER_FOLDER}/{part.name}"))

    def write(self, output: str, write: Callable[[Path], object]) -> FileState:
        path = self.folder / output
        write(path)
        uploaded, digest = upload(path, f"{self._url}/{output}"), file_digest(path)
        path.unlink()
        return uploaded.size, uploaded.stamp, digest

    def is_intact(self, output: str, state: FileState) -> bool:
        found = self._found.get(output)
        return found is not None and [found.size, found.stamp] == list(state[:2])

    def exists(self, output: str) -> bool:
        return output in self._found

    def real_name(self, output: str) -> str:
        return f"{self._url}/{output}"

    def is_foreign(self, output: str, *, known: bool) -> bool:
        if (found := self._found.get(output)) is None or known:
            return False
        copy = fetch(found.url, self.folder, name=f"existing{Path(output).suffix}")
        try:
            return not is_ours(copy)
        finally:
            copy.unlink()


@contextmanager
def open_output_folder(out: str | Path, *, shard: str = "") -> Iterator[OutputFolder]:
    """The folder at a path, locked against other processes, or behind a URL, which cannot be locked.

    Args:
        shard: name of one of several processes that share the folder.

    Raises:
        OutputError: another process uses the folder, or it cannot be written.
        DataError: the URL cannot be listed.
    """
    if is_url(out):
        with tempfile.TemporaryDirectory() as folder:
            yield RemoteOutputFolder(str(out), Path(folder))
        return
    with locked(Path(out), shard=shard):
        yield OutputFolder(out, Path(out), alone=not shard)


def file_digest(path: Path) -> str:
    """The first half of the SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:32]


def source_state(location: str) -> tuple[int, str]:
    """Size and time of the last change of a local file; -1 if it does not exist."""
    try:
        state = Path(location).stat()
    except OSError:
        return -1, ""
    return state.st_size, str(state.st_mtime_ns)
