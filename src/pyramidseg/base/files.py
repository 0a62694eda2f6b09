"""Writing files so that a reader never sees half of one."""

import contextlib
import errno
import os
import re
import secrets
import stat
from collections.abc import Callable, Iterator
from pathlib import Path

from pyramidseg.base.errors import OutputError


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, flush it to the disk, and move it to `path`.

    Killed at any moment, `path` holds either its old content or the whole new one; what the temporary file held is then
    among the `leftovers` of its folder.

    Raises:
        OutputError: the disk is full, or the folder cannot be written.
    """
    with explained_writes(path):
        make_folder(path.parent)
        part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")
        # Made here, and not as a private file by tempfile: so it has the permissions that the user's umask leaves it.
        part.touch(exist_ok=False)
        mode = stat.S_IMODE(part.stat().st_mode)
        try:
            write(part)
            part.chmod(mode)  # safetensors puts a private file in its place
            _flush(part)
            part.replace(path)
            _flush(path.parent)
        finally:
            part.unlink(missing_ok=True)


def leftovers(folder: Path) -> list[Path]:
    """Temporary files in a folder that `write_atomically` was killed over."""
    return [path for path in folder.glob(".*.part") if _PART.fullmatch(path.name)]


def make_folder(folder: Path) -> None:
    """Make a folder with those above it, where it is not there.

    Raises:
        OutputError: it cannot be made.
    """
    with explained_writes(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except FileNotFoundError:  # in a file system that takes no folders, such as /proc
            raise OutputError(f"{folder}: no folder can be made there; choose another --out") from None


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, as far as that can be told without making it.

    Raises:
        OutputError: the nearest folder that exists takes no files.
    """
    with explained_writes(folder):
        existing = next(place for place in (folder, *folder.absolute().parents) if place.exists())
        if not existing.is_dir():
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
        if not os.access(existing, os.W_OK | os.X_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for UTF-8 text."""
    write_atomically(path, lambda part: part.write_text(text, encoding="utf-8"))


@contextlib.contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a failed write into one line about `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or not is_write_failure(error):
            raise
        raise OutputError(f"{path}: cannot be written: {_REASONS[error.errno or 0]}") from error


def is_write_failure(error: OSError) -> bool:
    """Whether the disk or its permissions are at fault."""
    return error.errno in _REASONS


def explained(error: OSError) -> str:
    """A failed write that no `explained_writes` caught, in one line."""
    if error.errno == errno.ENAMETOOLONG:  # which reading can meet as well
        return f"{error.filename}: {_REASONS[error.errno]}"
    return f"{error.filename or 'output'}: cannot be written: {_REASONS[error.errno or 0]}"


_PART = re.compile(r"\..+\.[0-9a-f]{8}\.part")

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, or choose another --out",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another --out",
    errno.EROFS: "the file system is read-only; choose another --out",
    errno.EACCES: "permission denied; choose another --out",
    errno.EPERM: "permission denied; choose another --out",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another --out",
    errno.EEXIST: "a file stands where a folder is needed; choose another --out",
    errno.EISDIR: "a folder of that name is in the way; choose another --out",
    errno.ENAMETOOLONG: "the path is too long; choose a shorter one",
    errno.EFBIG: "the file would be larger than is allowed here; choose another --out",
}


def _flush(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
