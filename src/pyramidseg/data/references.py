"""Files that are named inside other files: never outside the dataset, whoever wrote the name."""

import os
from pathlib import Path, PureWindowsPath

from pyramidseg.data.defect_kinds import DefectError, Kind


def named_file(name: object, *, folder: Path, root: Path, where: Path) -> Path:
    """The path that a name means: relative to `folder`, inside `root`, with slashes of either kind.

    Links are not followed: what somebody has linked into the dataset is meant to be in it.

    Args:
        where: the file that says so.

    Raises:
        DataError: no name, an absolute one, or one that leads out of the dataset.
    """
    if not isinstance(name, str) or not name.strip() or not is_plain(name):
        raise DefectError(Kind.BAD_ANNOTATION, where, f"{short(name)} is no name of a file")
    windows = PureWindowsPath(name)  # which takes both kinds of slashes
    inside = Path(os.path.relpath(folder / Path(*windows.parts), root))
    if windows.drive or windows.root:
        raise DefectError(
            Kind.OUTSIDE, where, f"{short(name)} leads out of the dataset, or says so: name files relative to {folder}"
        )
    if ".." in inside.parts:
        detail = f"{short(name)} leads out of the dataset {root}; name files relative to {folder}, and inside it"
        raise DefectError(Kind.OUTSIDE, where, detail)
    return root / inside


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
