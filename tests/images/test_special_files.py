"""Folders that may not be listed, FIFOs and links to themselves are named; nothing hangs."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from made_files import opened, pairs
from pyramidseg.base.errors import DataError
from pyramidseg.base.text_files import read_text, read_yaml
from pyramidseg.formats.json_kind import json_kind
from pyramidseg.formats.paths import content, holds_images
from pyramidseg.images.decode import read_image
from pyramidseg.images.image_files import list_images

pytestmark = pytest.mark.skipif(os.name != "posix", reason="FIFOs and permissions of POSIX")


@pytest.fixture
def closed_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in `tmp_path` that cannot be listed, by root either."""
    closed = tmp_path / "closed"
    closed.mkdir()
    Image.fromarray(np.zeros((4, 4, 3), np.uint8)).save(tmp_path / "a.png")
    scandir = os.scandir

    def refuse(path: Any = ".") -> Iterator[os.DirEntry[str]]:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    return closed


@pytest.mark.parametrize("walk", [list_images, lambda folder: content(folder / "closed"), holds_images])
def test_a_folder_that_may_not_be_listed_is_named(closed_folder: Path, walk: Callable[[Path], object]) -> None:
    (closed_folder.parent / "a.png").rename(closed_folder.parent / "a.txt")  # holds_images stops at the first image
    with pytest.raises(DataError, match=r"closed: cannot be listed: Permission denied; make the folder readable"):
        walk(closed_folder.parent)


@pytest.mark.parametrize("place", ["images", "masks/part"])
def test_a_dataset_with_such_a_folder_is_refused_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Not as a dataset of several possible formats, each of which could not list it."""
    pairs(tmp_path / "images", tmp_path / "masks", ["a", "b"], 0, 1)
    closed, scandir = tmp_path / place / "closed", os.scandir
    closed.mkdir(parents=True)

    def refuse(path: Any = ".") -> Iterator[os.DirEntry[str]]:
        if Path(path) == closed:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError) as caught:
        opened(tmp_path)
    assert (
        str(caught.value) == f"{closed}: cannot be listed: Permission denied; make the folder readable, or move it away"
    )


def test_an_absent_folder_holds_no_images(tmp_path: Path) -> None:
    assert list_images(tmp_path / "absent") == []


@pytest.mark.parametrize("read", [lambda path: read_image(path, channels=3), read_text, read_yaml])
def test_a_fifo_is_refused_without_waiting(tmp_path: Path, read: Callable[[Path], object]) -> None:
    os.mkfifo(tmp_path / "b.png")
    assert list_images(tmp_path) == [tmp_path / "b.png"]
    for path in (tmp_path / "b.png", Path("/dev/null")):
        with pytest.raises(DataError, match=r"not a regular file, but a FIFO, socket or device"):
            read(path)


def test_a_fifo_is_no_annotation_file(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.json")
    assert json_kind(tmp_path / "a.json") == "damaged"


def test_a_link_to_itself_is_refused(tmp_path: Path) -> None:
    (tmp_path / "c.png").symlink_to("c.png")
    assert list_images(tmp_path) == [tmp_path / "c.png"]
    with pytest.raises(DataError, match=r"c\.png: cannot be read as an image: .*symbolic links"):
        read_image(tmp_path / "c.png", channels=3)
