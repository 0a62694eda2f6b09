"""Finds the images of files, folders, patterns, lists and URLs, each with the path of its outputs."""

import glob
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from pyramidseg.base.errors import DataError
from pyramidseg.base.remote_files import is_url
from pyramidseg.images.image_files import (
    IMAGE_EXTENSIONS,
    UNREAD_EXTENSIONS,
    count_extensions,
    is_image_name,
    list_files,
    list_images,
)
from pyramidseg.predict.source_lists import Source, listed_sources


def find_images(
    sources: Iterable[str | Path], *, outside: str | Path | None = None, skipped: list[Path] | None = None
) -> tuple[Source, ...]:
    """All images of files, folders (recursively), glob patterns (`**` matches folders), lists and URLs, each once.

    Stems mirror the subfolders of a folder, and those below the fixed part of a pattern; `source_lists` has the others.

    Args:
        outside: the output folder. Images in it are skipped if a folder or pattern around it matches them, so that a
            second run does not take the masks of the first for images.
        skipped: gets the images, rasters and videos in folders whose types are not read.

    Raises:
        DataError: no sources, or a source matches no image.
    """
    names = [str(source) for source in sources]
    if not names:
        raise DataError("no images given; pass files, folders or patterns such as 'images/*.jpg'")
    found: dict[str, Source] = {}
    for name in names:
        for source in _images_of(name, outside, [] if skipped is None else skipped):
            own = source.location if is_url(source.location) else os.path.abspath(source.location)
            found.setdefault(own, source)
    return tuple(found.values())


def _images_of(name: str, outside: str | Path | None, skipped: list[Path]) -> Iterator[Source]:
    """Images of one source. An existing file or folder is never taken as a pattern."""
    if (listed := listed_sources(name, outside=str(outside or ""))) is not None:
        yield from listed
        return
    path = Path(name)
    if path.is_file():
        yield Source(name, path.stem)
        return
    base = path if path.is_dir() else _fixed_part(name)
    images = list(list_files(path, IMAGE_EXTENSIONS + UNREAD_EXTENSIONS) if path.is_dir() else _matches(name))
    if outside is not None and not is_url(outside) and _is_within(Path(outside), base):
        images = [image for image in images if not _is_within(image, Path(outside))]
    if path.is_dir():
        skipped += [image for image in images if not is_image_name(image.name)]
        images = [image for image in images if is_image_name(image.name)]
    if not images:
        raise DataError(_no_images_message(name, path, skipped))
    for image in images:
        yield Source(str(image), image.relative_to(base).with_suffix("").as_posix())


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
    """Whether a path is below a folder, and not the folder itself."""
    return folder.resolve() in path.resolve().parents


def _no_images_message(name: str, path: Path, skipped: list[Path]) -> str:
    if path.is_dir():
        found = f", only files of types that are not read: {count_extensions(skipped)}" if skipped else ""
        return f"{name}: no images in this folder or its subfolders{found}"
    if glob.has_magic(name):
        return f"{name}: no file matches this pattern"
    return f"{name}: no such file or folder"
