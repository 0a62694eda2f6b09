"""The folder of a prediction's outputs: on this machine, or behind a URL."""

import errno
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from pyramidseg.base.errors import OutputError, PyramidSegError
from pyramidseg.base.files import file_sha256, make_folder, remove_leftovers
from pyramidseg.base.ledger import SUFFIX, Ledger
from pyramidseg.base.output_lock import locked
from pyramidseg.base.remote_files import fetch, is_url, list_remote, upload
from pyramidseg.predict.outputs.ownership import is_ours

LEDGER_FOLDER = "ledger"

FileState = Sequence[int | str]
"""Size in bytes, time or tag of the last change, and digest of an output; as JSON in the ledger."""


class OutputFolder:
    """A local folder; `RemoteOutputFolder` overrides what is different behind a URL.

    Attributes:
        name: as the user gave it.
        folder: where files are written.
        publish: for its ledger; see `Ledger.open`.
    """

    publish: Callable[[Path], object] | None = None

    def __init__(self, name: str | Path, folder: Path, *, alone: bool) -> None:
        self.name, self.folder = str(name).rstrip("/"), folder
        self._alone = alone

    def open_ledger(self) -> Ledger:
        """The ledger of the folder; incomplete lines are removed if no other process can be writing them."""
        return Ledger.open(self.folder / LEDGER_FOLDER, repair=self._alone, publish=self.publish)

    def remove_leftovers(self) -> None:
        """Delete what killed processes left, unless living ones share the folder."""
        for parent, _, _ in os.walk(self.folder) if self._alone else ():
            remove_leftovers(Path(parent))

    def write(self, output: str, write: Callable[[Path], object]) -> FileState:
        """Write a file atomically by a function that takes its path."""
        path = self.folder / output
        write(path)
        state = path.stat()
        return state.st_size, str(state.st_mtime_ns), _digest(path)

    def state(self, output: str) -> tuple[int, str] | None:
        """Size and time or tag of the last change of a file; None if it does not exist."""
        try:
            state = (self.folder / output).stat()
        except OSError:
            return None
        return state.st_size, str(state.st_mtime_ns)

    def is_too_long(self, output: str) -> bool:
        """Whether the file system refuses the name of an output for its length."""
        try:
            os.lstat(self.folder / output)
        except OSError as error:
            return error.errno == errno.ENAMETOOLONG
        return False

    def local_copy(self, output: str) -> Path:
        """The file, or a copy that lives until the next one."""
        return self.folder / output

    def real_name(self, output: str) -> str:
        """A file's name to compare it with inputs: its path without links, or its URL."""
        return os.path.realpath(self.folder / output)

    def is_intact(self, output: str, written: FileState) -> bool:
        """Whether a file is as it was written: size and time of change, or else its content."""
        size, stamp, digest = written
        found = self.state(output)
        if found is None or found[0] != size:
            return False
        return found[1] == stamp or _digest(self.local_copy(output)) == digest

    def refuse_foreign(self, output: str, *, kind: type[PyramidSegError] = OutputError) -> None:
        """Refuse, by an error of this kind, to replace a file that pyramidseg did not write."""
        if self.state(output) is not None and not is_ours(self.local_copy(output)):
            raise kind(f"{self.name}/{output}: exists and was not written by pyramidseg; choose another `out`")


class RemoteOutputFolder(OutputFolder):
    """A folder behind a URL. Files are written into a temporary folder and uploaded; `folder` is that folder.

    As nothing can be appended to an object, the ledger is stored in parts of up to 256 lines or 10 seconds.
    """

    def __init__(self, url: str, folder: Path) -> None:
        super().__init__(url, folder, alone=False)
        self.publish = lambda part: upload(part, self.real_name(f"{LEDGER_FOLDER}/{part.name}"))
        self._found = {file.url.removeprefix(f"{self.name}/"): file for file in list_remote(self.name)}

    def open_ledger(self) -> Ledger:
        make_folder(self.folder / LEDGER_FOLDER)
        for file in list_remote(self.real_name(LEDGER_FOLDER)):
            if file.url.endswith(SUFFIX):
                fetch(file.url, self.folder / file.url.removeprefix(f"{self.name}/"))
        return super().open_ledger()

    def write(self, output: str, write: Callable[[Path], object]) -> FileState:
        path = self.folder / output
        write(path)
        uploaded, digest = upload(path, self.real_name(output)), _digest(path)
        path.unlink()
        return uploaded.size, uploaded.stamp, digest

    def state(self, output: str) -> tuple[int, str] | None:
        found = self._found.get(output)
        return None if found is None else (found.size, found.stamp)

    def local_copy(self, output: str) -> Path:
        return fetch(self.real_name(output), self.folder / f"copy{Path(output).suffix}")

    def real_name(self, output: str) -> str:
        return f"{self.name}/{output}"


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


def _digest(path: Path) -> str:
    return file_sha256(path)[:32]
