"""Output files: written atomically, with one-line errors; and digests of files."""

import contextlib
import errno
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from pyramidseg.base.errors import OutputError

try:
    import fcntl
except ImportError:  # Windows
    fcntl = None  # type: ignore[assignment]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file in a hidden folder next to `path`, flush it to the disk, and move it to `path`.

    If the process is killed, `path` has either its old content or all of the new one; `remove_leftovers` deletes the
    hidden folder.

    Raises:
        OutputError: the disk is full, or the folder is not writable.
    """
    with explained_writes(path):
        make_folder(path.parent)
        with temporary_folder(path) as folder:
            part = folder / _CONTENT
            part.touch()  # unlike a file of tempfile's, it gets the permissions of the user's umask
            mode = stat.S_IMODE(part.stat().st_mode)
            write(part)
            part.chmod(mode)  # safetensors replaces it by a file that only its owner can read
            with part.open("rb+") as stream:  # Windows flushes only what is open for writing
                os.fsync(stream.fileno())
            part.replace(path)
        _flush_folder(path.parent)


@contextlib.contextmanager
def temporary_folder(path: Path) -> Iterator[Path]:
    """A hidden folder next to `path`, deleted at the end of the `with` block; until then, `remove_leftovers` keeps it.

    Writers such as safetensors create files of their own next to the one that they write, which are deleted with it.
    """
    folder = _part_of(path)
    folder.mkdir()
    try:
        with (folder / _HOLD).open("wb") as held:
            _hold(held)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        with contextlib.suppress(OSError):  # rmtree needs a descriptor
            for name in (_CONTENT, _HOLD):
                (folder / name).unlink(missing_ok=True)
            folder.rmdir()


def remove_leftovers(folder: Path, *, name: str = "*") -> None:
    """Delete the temporary files that killed processes left in a folder, except those of living processes.

    Args:
        name: only those of files with this name, which may be a pattern.
    """
    for path in folder.glob(f".{name}.*.part"):
        if not _PART.fullmatch(path.name) or _is_held(path):
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink(missing_ok=True)


def _part_of(path: Path) -> Path:
    """A name for what becomes the file `path`, which `remove_leftovers` knows."""
    short = os.fsdecode(os.fsencode(path.name)[:200])  # names have at most 255 bytes
    return path.with_name(f".{short}.{secrets.token_hex(4)}.part")


def _hold(file: IO[bytes]) -> None:
    """Lock a file until it is closed, if the file system has locks."""
    if fcntl is not None:
        with contextlib.suppress(OSError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)


def _is_held(part: Path) -> bool:
    """Whether the process that made a temporary folder or file lives; unknown counts as yes."""
    held = part / _HOLD if part.is_dir() else part
    try:
        if fcntl is None:
            held.unlink()  # Windows refuses it while the file is open
            return False
        with held.open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:
        return True


def file_sha256(path: Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(parts: Iterable[object]) -> str:
    """SHA-256 (hexadecimal) of the `repr` of the parts."""
    total = hashlib.sha256()
    for part in parts:
        total.update(repr(part).encode() + b"\n")
    return total.hexdigest()


def file_state(path: Path) -> tuple[str, int, int, int]:
    """Path, size, and mtime and ctime in nanoseconds; -1 for a missing file.

    ctime (on Windows the time of creation) also changes where a copy restored mtime.
    """
    try:
        state = path.stat()
    except OSError:
        return str(path), -1, -1, -1
    return str(path), state.st_size, state.st_mtime_ns, state.st_ctime_ns


def write_bytes(path: Path, content: bytes) -> None:
    """`write_atomically` for bytes, by a hidden file without a folder around it."""
    with explained_writes(path):
        make_folder(path.parent)
        part = _part_of(path)
        try:
            with part.open("xb") as file:
                _hold(file)
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
                if fcntl is None:
                    file.close()  # Windows moves no open file
                part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        _flush_folder(path.parent)


def write_text(path: Path, text: str) -> None:
    """`write_atomically` for UTF-8 text, with the line ends as given."""
    write_bytes(path, text.encode())


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """`write_atomically` for JSON; NaN and infinities become null, tuples lists."""
    text = json.dumps(finite(content), indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    write_bytes(path, text.encode(errors="backslashreplace"))  # names that are not UTF-8, as escapes that JSON knows


def make_folder(folder: Path) -> None:
    """Create a folder and its parents, if they do not exist.

    Raises:
        OutputError: it cannot be created.
    """
    with explained_writes(folder):
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except (FileNotFoundError, ValueError):  # in a file system that takes no folders, such as /proc; no valid name
            raise OutputError(f"{folder}: no folder can be created there; choose another path") from None


@contextlib.contextmanager
def folders_created(folder: Path) -> Iterator[None]:
    """Create a folder for the time of the `with` block; it and the parents created for it stay if they are not empty.

    Raises:
        OutputError: it cannot be created.
    """
    created = [place for place in (folder, *folder.parents) if not place.exists()]
    make_folder(folder)
    try:
        yield
    finally:
        for empty in created:  # innermost first
            with contextlib.suppress(OSError):
                empty.rmdir()


def refuse_existing(folder: Path, names: Iterable[str]) -> None:
    """Refuse an output folder that already holds one of the files that are to be written.

    Raises:
        OutputError: it does.
    """
    existing = next((name for name in names if (folder / name).exists()), None)
    if existing is not None:
        raise OutputError(f"{folder}: already holds {existing}, which is not overwritten; choose another `out`")


@contextlib.contextmanager
def explained_writes(path: Path) -> Iterator[None]:
    """Turn the operating system's errors about a failed write into an `OutputError` about `path`."""
    try:
        yield
    except OSError as error:
        if isinstance(error, OutputError) or error.errno not in _REASONS:
            raise
        raise OutputError(f"{path}: cannot be written: {_REASONS[error.errno]}") from error


def explain_write_failure(error: Exception) -> str | None:
    """One line about a failed write that no `explained_writes` caught; None for every other error."""
    if not isinstance(error, OSError) or error.errno not in _REASONS:
        return None
    what = "" if error.errno == errno.ENAMETOOLONG else "cannot be written: "  # reading can fail with it, too
    return f"{error.filename or 'output'}: {what}{_REASONS[error.errno]}"


_PART = re.compile(r"\..*\.[0-9a-f]{8}\.part", re.DOTALL)

_CONTENT = "content.part"

_HOLD = "held"
"""A file that is locked as long as the temporary folder around it is in use."""

_REASONS = {
    errno.ENOSPC: "the disk is full; free some space, or choose another path",
    errno.EDQUOT: "the disk quota is used up; free some space, or choose another path",
    errno.EROFS: "the file system is read-only; choose another path",
    errno.EACCES: "permission denied; choose another path",
    errno.EPERM: "permission denied; choose another path",
    errno.ENOTDIR: "a part of the path is a file, not a folder; choose another path",
    errno.EEXIST: "a file exists where a folder is needed; choose another path",
    errno.EISDIR: "a folder with that name exists; choose another path",
    errno.ENAMETOOLONG: "the path is too long; choose a shorter one",
    errno.EFBIG: "the file would be larger than is allowed here; choose another path",
}


def _flush_folder(folder: Path) -> None:
    """Make a rename durable; Windows cannot open folders, and needs no such flush."""
    if os.name != "posix":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def finite(value: Any) -> Any:
    """A value for JSON: NaN and infinities become None, tuples lists."""
    if isinstance(value, Mapping):
        return {name: finite(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
