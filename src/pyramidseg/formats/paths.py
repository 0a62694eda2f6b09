"""Content of a dataset's folders, and look-ups of folders and files by names, also by names written elsewhere."""

import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import unquote

from pyramidseg.base.errors import DataError
from pyramidseg.images.image_files import is_array_name, is_image_name, list_images, listing_errors, walk

NO_CONTENT = ("__MACOSX", "Thumbs.db", "desktop.ini")
"""Files that operating systems leave in folders, in addition to hidden files."""


def content(folder: Path, named: Callable[[str], bool] = bool) -> list[Path]:
    """Files and folders in a folder, by name, without hidden and system files.

    Args:
        named: whether to list one of this name.
    """
    return [Path(entry.path) for entry in _entries(folder, lambda entry: named(entry.name))]


def first_child(folder: Path) -> Path | None:
    """The first of `content`."""
    with _visible(folder) as entries:
        name = min((entry.name for entry in entries), default=None)
    return folder / name if name else None


def subfolders(folder: Path) -> list[Path]:
    """The folders in a folder, by name."""
    return [Path(entry.path) for entry in _entries(folder, lambda entry: entry.is_dir())]


def child_folder(folder: Path, names: Iterable[str]) -> Path | None:
    """The folder inside `folder` with one of the names (given in lower case), ignoring case.

    Raises:
        DataError: several have, and more than one of them holds images.
    """
    names = tuple(names)
    found = [path for path in subfolders(folder) if path.name.lower() in names]
    if len(found) <= 1:
        return found[0] if found else None
    filled = [path for path in found if holds_images(path)]
    if len(filled) > 1:
        raise DataError(
            f"{folder}: both {filled[0].name} and {filled[1].name} hold images; name the right one in a YAML file "
            "(train: {images: ..., masks: ...})"
        )
    return filled[0] if filled else found[0]


def child_file(folder: Path, name: str) -> Path | None:
    """The file inside `folder` with this name (given in lower case), ignoring case; a dangling link counts."""
    found = _entries(folder, lambda entry: entry.name.lower() == name)
    return next((Path(it.path) for it in found if it.is_file() or (it.is_symlink() and not it.is_dir())), None)


def holds_images(folder: Path) -> bool:
    """Whether a folder or one below it contains an image file."""
    return any(is_image_name(name) for _, _, files in walk(folder) for name in files)


def holds_masks(folder: Path) -> bool:
    """Whether a folder or one below it contains an image file or an array."""
    return any(is_image_name(name) or is_array_name(name) for _, _, files in walk(folder) for name in files)


def _entries(folder: Path, wanted: "Callable[[os.DirEntry[str]], bool]") -> "list[os.DirEntry[str]]":
    with _visible(folder) as entries:
        return sorted(filter(wanted, entries), key=lambda entry: entry.name)


@contextmanager
def _visible(folder: Path) -> "Iterator[Iterator[os.DirEntry[str]]]":
    # not Path.iterdir, which takes seconds where a folder holds a hundred thousand files
    with listing_errors(), os.scandir(folder) as entries:
        yield (entry for entry in entries if not entry.name.startswith(".") and entry.name not in NO_CONTENT)
