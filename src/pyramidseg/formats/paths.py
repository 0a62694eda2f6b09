"""Content of a dataset's folders, and look-ups of folders and files by names, also by names written elsewhere."""

import os
import re
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
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


def counted(folder: Path, named: Callable[[str], bool], *, most: int) -> int:
    """The number of such files and folders in `content`, up to `most`."""
    with _visible(folder) as entries:
        return sum(1 for _ in islice((entry for entry in entries if named(entry.name)), most))


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


# Names of images that lead to no file here: URLs, encoded names, and paths of another machine.


def leads_elsewhere(name: str) -> bool:
    """Whether a name was written for another place: absolute, a URL, encoded, with backslashes or with `..`."""
    return bool(re.search(r"^/|^[A-Za-z]:|\\|%[0-9A-Fa-f]{2}|\?|://|(^|/)\.\.(/|$)", name))


def only_images_named(
    names: Mapping[int, str], root: Path, *, used: Collection[Path], not_in: Collection[str]
) -> dict[int, Path]:
    """The image for each name whose last part only one image of the dataset has. Nothing outside `root` is found.

    Args:
        used: images that belong to other names.
        not_in: names of folders, in lower case, whose images belong to other splits.

    Returns:
        By the keys of `names`; an image that two names could mean is given to none.
    """
    by_name: dict[str, list[Path]] = {}
    for path in list_images(root):
        if not {part.lower() for part in path.relative_to(root).parts[:-1]} & set(not_in):
            by_name.setdefault(path.name, []).append(path)
    found: dict[int, Path] = {}
    for key, name in names.items():
        meant = {path for last in last_parts(name) for path in by_name.get(last, ())}
        if len(meant) == 1:
            found[key] = meant.pop()
    claims = Counter((*found.values(), *used))
    return {key: path for key, path in found.items() if claims[path] == 1}


def without_leading_folders(name: str) -> Iterator[str]:
    """The ends of an absolute path of another machine, the longest first; none for a relative path."""
    parts = [part for part in name.replace("\\", "/").split("/") if part]
    if name.startswith(("/", "\\")) or re.match(r"[A-Za-z]:", name):
        yield from ("/".join(parts[at:]) for at in range(len(parts)))


def last_parts(name: str) -> Iterable[str]:
    """`a b.jpg` for `x/a b.jpg`, `https://host/a%20b.jpg?v=1` and `/local-files/?d=x/a%20b.jpg`."""
    for text in (name, unquote(name)):
        path, _, query = text.partition("?")
        for part in (text, path, query.partition("=")[2].partition("&")[0]):
            yield re.split(r"[/\\]", part)[-1]
