"""Paths that annotation files contain: resolved only inside the dataset."""

import errno
import os
import stat
from pathlib import Path, PureWindowsPath
from typing import IO

from pyramidseg.base.defects import DefectError, DefectKind


def resolve_inside(name: object, *, folder: Path, root: Path, where: Path) -> Path:
    """The file of a name, relative to `folder` or absolute, with slashes of either kind; it must be inside `root`.

    Symbolic links are not followed: a file that was linked into the dataset belongs to it.

    Args:
        where: the file that contains the name.

    Raises:
        DefectError: it is not a file name, or a path outside the dataset.
    """
    if not isinstance(name, str) or not name.strip() or not is_valid_name(name):
        raise DefectError(DefectKind.BAD_ANNOTATION, where, f"{short(name)} is not a file name")
    windows = PureWindowsPath(name)  # accepts both kinds of slashes
    absolute = bool(windows.drive or windows.root)
    inside = _absolute_inside(name, root) if absolute else _inside(folder / Path(*windows.parts), root)
    if inside is None:
        detail = f"{short(name)} is outside the dataset {root}; name files inside it, relative to {folder}"
        raise DefectError(DefectKind.OUTSIDE, where, detail)
    return root / inside


def _inside(path: Path, root: Path) -> Path | None:
    """A path relative to a folder, by name only; None if it is outside."""
    inside = Path(os.path.relpath(path, root))
    return None if ".." in inside.parts else inside


def _absolute_inside(name: str, root: Path) -> Path | None:
    """The same for an absolute path of this operating system, also if either goes through symbolic links."""
    path = Path(name)
    if not path.is_absolute():
        return None
    real = os.path.realpath(root)
    return _inside(path, root) or _inside(path, Path(real)) or _inside(Path(os.path.realpath(path)), Path(real))


def is_file(path: Path) -> bool:
    """Whether a file exists; False also for names that no file system accepts."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def open_regular(path: Path) -> IO[bytes]:
    """Open a file for reading; a FIFO would block for ever, and a device can have side effects.

    Raises:
        OSError: it cannot be opened, or is neither a file nor a link to one.
    """
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # opening a folder has its own error
        raise OSError(errno.EINVAL, "not a regular file, but a FIFO, socket or device")
    return path.open("rb")


def first_bytes(path: Path, most: int) -> bytes:
    """The beginning of a file; empty if it cannot be read."""
    try:
        with open_regular(path) as file:
            return file.read(most)
    except OSError:
        return b""


def is_valid_name(text: str) -> bool:
    """Whether a text can be a name: without control characters and lone surrogates."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return all(character >= " " for character in text)


def usable_name(value: object) -> str:
    """A text without the white space around it; empty for other values, and for what cannot be a name."""
    text = value.strip() if isinstance(value, str) else ""
    return text if is_valid_name(text) else ""


def short(name: object) -> str:
    """A value from a file as messages quote it: one line of at most 80 characters."""
    text = repr(name[:80]) if isinstance(name, str) else " ".join(repr(name).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
