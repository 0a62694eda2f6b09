"""Files that are named inside other files: never outside the dataset, whoever wrote the name."""

import os
from pathlib import Path, PureWindowsPath

from pyramidseg.base.defects import DefectError, DefectKind


def named_file(name: object, *, folder: Path, root: Path, where: Path) -> Path:
    """The path that a name means: relative to `folder` or absolute, inside `root`, with slashes of either kind.

    Links are not followed: what somebody has linked into the dataset is meant to be in it.

    Args:
        where: the file that says so.

    Raises:
        DataError: no name, or one that leads out of the dataset.
    """
    if not isinstance(name, str) or not name.strip() or not is_plain(name):
        raise DefectError(DefectKind.BAD_ANNOTATION, where, f"{short(name)} is no name of a file")
    windows = PureWindowsPath(name)  # which takes both kinds of slashes
    absolute = bool(windows.drive or windows.root)
    inside = _absolute_inside(name, root) if absolute else _inside(folder / Path(*windows.parts), root)
    if inside is None:
        detail = f"{short(name)} leads out of the dataset {root}; name files relative to {folder}, and inside it"
        raise DefectError(DefectKind.OUTSIDE, where, detail)
    return root / inside


def _inside(path: Path, root: Path) -> Path | None:
    """A path relative to a folder, by their names alone; None where it leads out of it."""
    inside = Path(os.path.relpath(path, root))
    return None if ".." in inside.parts else inside


def _absolute_inside(name: str, root: Path) -> Path | None:
    """The same of an absolute path, of this system alone; also where links lead to one of both."""
    path = Path(name)
    if not path.is_absolute():
        return None
    real = os.path.realpath(root)
    return _inside(path, root) or _inside(path, Path(real)) or _inside(Path(os.path.realpath(path)), Path(real))


def is_file(path: Path) -> bool:
    """Whether there is such a file, also for names that no file system takes."""
    try:
        return path.is_file()
    except (OSError, ValueError):
        return False


def is_plain(text: str) -> bool:
    """Whether a name can be one at all: no control characters, and no half of a surrogate pair."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return all(character >= " " for character in text)


def short(name: object) -> str:
    """What a file holds, as a message quotes it: never more than 80 characters, and on one line."""
    text = repr(name[:80] if isinstance(name, str) else name)
    return text if len(text) <= 80 else f"{text[:77]}..."
