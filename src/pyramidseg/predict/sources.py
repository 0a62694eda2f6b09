"""Finds the images of files, folders, patterns, lists and URLs, each with the path of its outputs.

A list is a text file, a column of a CSV file, or standard input.
"""

import csv
import glob
import io
import logging
import os
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import chain, takewhile
from pathlib import Path, PurePath, PurePosixPath
from typing import TextIO

from pyramidseg.base.errors import DataError, nearest
from pyramidseg.base.remote_files import RemoteFile, is_url, list_remote, remote_info, url_name
from pyramidseg.base.safe_paths import open_regular
from pyramidseg.base.text import first_line
from pyramidseg.images.image_files import (
    IMAGE_EXTENSIONS,
    UNREAD_EXTENSIONS,
    count_extensions,
    is_image_name,
    list_files,
    list_images,
)
from pyramidseg.images.open_scene import SLIDE_EXTENSIONS, ZARR, is_zarr

logger = logging.getLogger(__name__)

STDIN = "-"


@dataclass(frozen=True, slots=True)
class Source:
    """An image file, a video, or a folder of frames to predict.

    Attributes:
        location: path, or URL.
        stem: path of its outputs relative to the output folder, without an extension: `street/0001`.
        remote: size and tag of the file if it is behind a URL and was listed.
        opened: URL of a live stream with user and password, which the location does not have.
    """

    location: str
    stem: str
    remote: RemoteFile | None = None
    opened: str = ""

    @property
    def path(self) -> Path:
        """The location as a path."""
        return Path(self.location)

    @property
    def key(self) -> str:
        """Name relative to its source, with extension: `street/0001.jpg`; the same wherever the source is."""
        name = url_name(self.location) if is_url(self.location) else self.location
        return self.stem + PurePath(name).suffix


def images_of(name: str, *, outside: str | Path, skipped: list[Path]) -> Iterator[Source]:
    """The images of a file, folder (recursively), glob pattern (`**` matches folders), list or URL.

    Stems mirror the subfolders of a folder, and those below the fixed part of a pattern; `Source` has the others. An
    existing file or folder is never taken as a pattern.

    Args:
        outside: the output folder. Images in it are skipped if a folder or pattern around it matches them, so that a
            second run does not take the masks of the first for images.
        skipped: gets the images, rasters and videos in folders whose types are not read.

    Raises:
        DataError: it matches no image.
    """
    if not name:
        raise DataError(
            "an empty name stands for no image; give a file, folder, pattern or list (. is the current folder)"
        )
    if (listed := _listed(name, outside=str(outside))) is not None:
        yield from listed
        return
    path = Path(name)
    if path.is_file() or (path.is_dir() and is_zarr(path)):
        yield Source(name, path.stem)
        return
    fixed = takewhile(lambda part: not glob.has_magic(part), path.parts[:-1])  # before the first part with a wildcard
    base = path if path.is_dir() else Path(*fixed)
    scenes = (*SLIDE_EXTENSIONS, ZARR)
    known = IMAGE_EXTENSIONS + UNREAD_EXTENSIONS + scenes
    images = list(list_files(path, known) if path.is_dir() else _matches(name))
    if not is_url(outside) and _is_within(Path(outside), base):
        images = [image for image in images if not _is_within(image, Path(outside))]
    if path.is_dir():
        read = [image for image in images if is_image_name(image.name) or image.suffix.lower() in scenes]
        skipped += sorted({*images} - {*read})
        images = read
    if not images:
        reason = "no file matches this pattern" if glob.has_magic(name) else "no such file or folder"
        if path.is_dir():
            unread = f", only files of types that are not read: {count_extensions(skipped)}" if skipped else ""
            reason = f"no images in this folder or its subfolders{unread}"
        raise DataError(f"{name}: {reason}")
    for image in images:
        yield Source(str(image), image.relative_to(base).with_suffix("").as_posix())


def _matches(pattern: str) -> Iterator[Path]:
    if not glob.has_magic(pattern):
        return
    for match in sorted(glob.glob(pattern, recursive=True)):
        path = Path(match)
        if path.is_file() or path.suffix.lower() == ZARR:
            yield path
        elif path.is_dir() and "**" not in pattern:
            yield from list_images(path)


def _is_within(path: Path, folder: Path) -> bool:
    """Whether a path is below a folder, and not the folder itself."""
    return folder.resolve() in path.resolve().parents


def _listed(name: str, *, outside: str) -> Iterator[Source] | None:
    """The images of a source that is a list or a URL; None for files, folders and patterns on this machine.

    Args:
        outside: the output folder; images below it are left out of a listing.

    Raises:
        DataError: a list cannot be read, has no entries, or can be read in two ways.
    """
    if is_url(name):
        return _remote_sources(name, outside)
    if name == STDIN:
        if sys.stdin is None or sys.stdin.isatty():
            raise DataError("-: reads paths from standard input, one a line, but nothing is piped into it")
        text = sys.stdin.buffer.read().decode(sys.stdin.encoding, "surrogateescape")
        lines = text.split("\0") if "\0" in text else (line.rstrip("\r") for line in text.split("\n"))
        return _sources(lines, "standard input", Path())
    path, column = Path(name), None
    if not path.exists() and ".csv:" in name.lower():
        split = name.lower().rindex(".csv:") + len(".csv")
        path, column = Path(name[:split]), name[split + 1 :]
        if not path.is_file():
            raise DataError(f"{path}: no such file")
    if not path.is_file() or path.suffix.lower() not in (".txt", ".csv"):
        return None
    return _sources(_rows(path, column), str(path), path.parent)


def _sources(rows: Iterable[str], origin: str, folder: Path) -> Iterator[Source]:
    """Sources of the paths and URLs of a list; empty lines are skipped.

    Relative paths are mirrored, absolute ones and URLs with all of their folders.
    """
    entries = (row for row in rows if row.strip())
    first = next(entries, None)
    if first is None:
        raise DataError(f"{origin}: names no images; it needs a path or URL on each line")
    base = _base(first, origin, folder)
    for entry in chain((first,), entries):
        if is_url(entry):
            yield Source(entry, PurePosixPath(url_name(entry)).with_suffix("").as_posix())
            continue
        path = Path(os.path.normpath(base / entry))
        relative = Path(os.path.normpath(entry))
        if relative.is_absolute() or ".." in relative.parts:
            absolute = path.absolute()
            relative = absolute.relative_to(absolute.anchor)
        if not relative.name:
            raise DataError(f"{origin}: {entry!r} is not the path of an image")
        yield Source(str(path), relative.with_suffix("").as_posix())


def _base(first: str, origin: str, folder: Path) -> Path:
    """The folder that the paths of a list are relative to: the current one or that of the list, by its first path.

    Raises:
        DataError: the first path exists in both, or in neither.
    """
    if folder.resolve() == Path.cwd() or is_url(first) or Path(first).is_absolute():
        return Path()
    here, there = Path(first).is_file(), (folder / first).is_file()
    if here and there:
        raise DataError(
            f"{origin}: its first path, {first}, exists both in the current folder and in {folder}; write absolute "
            f"paths, or start in {folder}"
        )
    if not here and not there:
        raise DataError(f"{origin}: its first path, {first}, exists neither in the current folder nor in {folder}")
    logger.info(f"{origin}: paths are relative to {folder if there else 'the current folder'}")
    return folder if there else Path()


def _rows(path: Path, column: str | None) -> Iterator[str]:
    """The lines of a text file, or the values of a column of a CSV file with a header."""
    try:
        with open_regular(path) as raw, io.TextIOWrapper(raw, "utf-8-sig", newline="") as file:
            is_table = path.suffix.lower() == ".csv"
            for row in _column(file, path, column) if is_table else (line.rstrip("\r\n") for line in file):
                if "\0" in row:  # UTF-16
                    raise UnicodeError
                yield row
    except (OSError, UnicodeError, csv.Error) as error:
        reason = "is not UTF-8 text" if isinstance(error, UnicodeError) else f"cannot be read: {first_line(error)}"
        raise DataError(f"{path}: {reason}; a list of images is a UTF-8 text or CSV file") from None


def _column(file: TextIO, path: Path, column: str | None) -> Iterator[str]:
    delimiter = max(",;\t", key=file.readline(2**16).count)
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter)
    header = [name.strip() for name in next(reader, [])]
    if column is None and len(header) != 1:
        example = f"{path}:{header[0]}" if header else "a header"
        raise DataError(f"{path}: which column holds the images? ({', '.join(header)}) write {example}"[:400])
    column = column or header[0]
    if header.count(column) != 1:
        problem = "occurs twice" if column in header else f"does not exist; {nearest(column, header)}"
        raise DataError(f"{path}: the column {column!r} {problem}")
    place = header.index(column)
    for row in reader:
        yield row[place] if place < len(row) else ""


def _remote_sources(url: str, outside: str) -> Iterator[Source]:
    """A remote file, or the images below a remote folder or of a pattern; relative names are kept."""
    if "*" not in url and (file := remote_info(url)) is not None:
        yield Source(url, PurePosixPath(url_name(url)).stem, file._replace(url=url))
        return
    fixed = url.partition("*")[0].rpartition("/")[0] if "*" in url else url.rstrip("/")
    files = [file for file in list_remote(url) if is_image_name(file.url.rpartition("/")[2])]
    own = f"{outside.rstrip('/')}/"
    if own.startswith(f"{fixed}/"):
        files = [file for file in files if not file.url.startswith(own)]
    if not files:
        raise DataError(f"{url}: no images there")
    for file in files:
        relative = file.url.removeprefix(f"{fixed}/")
        yield Source(file.url, PurePosixPath(relative).with_suffix("").as_posix(), file)
