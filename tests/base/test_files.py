"""Files that are whole or absent, with the permissions that the user gives."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyramidseg.base.errors import OutputError
from pyramidseg.base.files import check_writable, leftovers, write_atomically


@pytest.fixture(params=[0o022, 0o027, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def test_a_file_has_the_permissions_that_the_umask_leaves_it(tmp_path: Path, umask: int) -> None:
    def replaced(part: Path) -> None:
        private = part.with_suffix(".other")
        private.touch(0o600)
        private.replace(part)

    for name, write in (("plain", Path.touch), ("replaced", replaced)):
        write_atomically(tmp_path / name, write)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o666 & ~umask, name


def test_a_place_below_a_file_or_of_too_long_a_name_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for place, said in (("file/run", "a part of the path is a file"), ("x" * 300, "the path is too long")):
        with pytest.raises(OutputError, match=f"cannot be written: {said}"):
            check_writable(tmp_path / place)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda part: 1 / 0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_leftovers_are_the_temporary_files_of_killed_writes(tmp_path: Path) -> None:
    seen = []
    write_atomically(tmp_path / "file", lambda part: seen.extend(leftovers(tmp_path)))
    assert len(seen) == 1
    seen[0].touch()  # as if killed
    for name in (".hidden", ".part", ".file.part", "file.0123abcd.part", "notes.txt"):
        (tmp_path / name).touch()
    assert leftovers(tmp_path) == seen
    assert leftovers(tmp_path / "absent") == []
