"""Sources: files, folders and patterns to the images in them, each with the place of its output."""

import glob
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from pyramidseg.base.errors import DataError
from pyramidseg.images.open_image import list_images


@dataclass(frozen=True)
class Source:
    """An image to predict.

    Attributes:
        stem: of its outputs, relative to the output folder, without an extension: `street/0001`.
    """

    path: Path
    stem: str


def find_images(sources: Iterable[str | Path], *, outside: Path | None = None) -> tuple[Source, ...]:
    """All images of files, folders (with the folders in them) and patterns (`**` goes through folders), each once.

    A folder's own folders are mirrored in the stems; so are those after the fixed part of a pattern.

    Args:
        outside: the output folder. What lies in it is no source where it was only come across within a folder or a
            pattern, so that predicting a second time does not take the first time's masks for images.

    Raises:
        DataError: nothing was named, or something named matches nothing.
    """
    named = [str(source) for source in sources]
    if not named:
        raise DataError("no images were named: give files, folders or patterns such as 'images/*.jpg'")
    found: dict[str, Source] = {}
    for name in named:
        for source in _images_of(name, outside):
            found.setdefault(os.path.abspath(source.path), source)
    return tuple(found.values())


def _images_of(name: str, outside: Path | None) -> Iterator[Source]:
    """Images of one source. A name that exists is taken as it is, even where it looks like a pattern."""
    path = Path(name)
    if path.is_file():
        yield Source(path, path.stem)
        return
    base = path if path.is_dir() else _fixed_part(name)
    images = list(list_images(path) if path.is_dir() else _matches(name))
    if outside is not None and _is_within(outside, base):
        images = [image for image in images if not _is_within(image, outside)]
    if not images:
        raise DataError(_nothing(name, path))
    for image in images:
        yield Source(image, image.relative_to(base).with_suffix("").as_posix())


def _matches(pattern: str) -> Iterator[Path]:
    if not glob.has_magic(pattern):
        return
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if path.is_file():
            yield path
        elif path.is_dir() and "**" not in pattern:
            yield from list_images(path)


def _fixed_part(pattern: str) -> Path:
    """The folder that a pattern starts from: all parts before the first one with a wildcard."""
    fixed: list[str] = []
    for part in Path(pattern).parts[:-1]:
        if glob.has_magic(part):
            break
        fixed.append(part)
    return Path(*fixed)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path lies below a folder and is not the folder itself."""
    return folder.resolve() in path.resolve().parents


def _nothing(name: str, path: Path) -> str:
    if path.is_dir():
        return f"{name}: no images in this folder or the folders in it"
    if glob.has_magic(name):
        return f"{name}: no file matches this pattern"
    return f"{name}: no such file or folder"
