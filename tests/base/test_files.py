"""Files that are whole or absent, with the permissions that the user gives."""

import errno
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from pyramidseg.base import files
from pyramidseg.base.errors import OutputError
from pyramidseg.base.files import digest, file_state, make_folder, remove_leftovers, write_atomically, write_text


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
            make_folder(tmp_path / place)


def test_a_failed_write_leaves_the_old_content_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError):
        write_atomically(path, lambda part: 1 / 0)
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_what_killed_writers_left_is_deleted_and_nothing_else(tmp_path: Path) -> None:
    killed = [tmp_path / name for name in (".file.0123abcd.part", ".odd\nname.0123abcd.part", "..0123abcd.part")]
    for folder in killed:
        folder.mkdir()
        (folder / "held").touch()
        (folder / ".tmpAbCdEf").write_text("what safetensors leaves when it is killed")
    (tmp_path / ".earlier version.89abcdef.part").touch()
    kept = [tmp_path / name for name in (".hidden", ".part", ".file.part", "file.0123abcd.part", "notes.txt")]
    for path in kept:
        path.touch()

    def write(part: Path) -> None:
        remove_leftovers(tmp_path)  # another process that starts now
        part.write_text("whole")

    write_atomically(tmp_path / "file", write)
    assert sorted(tmp_path.iterdir()) == sorted([*kept, tmp_path / "file"])
    assert (tmp_path / "file").read_text() == "whole"
    remove_leftovers(tmp_path / "absent")


def test_only_leftovers_of_one_file_are_deleted_where_others_may_be_written(tmp_path: Path) -> None:
    for name in (".best.onnx.0123abcd.part", ".other.onnx.0123abcd.part"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path, name="best.onnx")
    assert [path.name for path in tmp_path.iterdir()] == [".other.onnx.0123abcd.part"]


def test_nothing_is_left_where_a_folder_cannot_be_listed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`rmtree` needs a file descriptor, and gives up where a process has no more of them."""
    monkeypatch.setattr(files.shutil, "rmtree", lambda folder, ignore_errors: None)
    write_text(tmp_path / "file", "text")
    with pytest.raises(OutputError, match="disk is full"):
        write_atomically(tmp_path / "full", fill_the_disk)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def fill_the_disk(part: Path) -> None:
    part.write_text("half")
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("name", ["x" * 255, "é" * 127, "x" * 240 + ".png"], ids=["255", "accents", "png"])
def test_a_name_as_long_as_the_file_system_allows_can_be_written(tmp_path: Path, name: str) -> None:
    write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_living_writer_on_a_file_system_without_locks_keeps_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr(files.fcntl, "flock", refused)
    write_atomically(tmp_path / "file", lambda part: (remove_leftovers(tmp_path), part.write_text("whole")))
    assert (tmp_path / "file").read_text() == "whole"


def test_state_of_a_file_changes_with_its_size_and_its_time(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = file_state(file)
    assert file_state(file) == first
    os.utime(file, ns=(first[2], first[2] + 1))
    second = file_state(file)
    file.write_text("12")
    os.utime(file, ns=(first[2], first[2]))
    assert len({first, second, file_state(file), file_state(tmp_path / "absent")}) == 4


@pytest.mark.skipif(os.name == "nt", reason="Windows has no time of the last change to a file's entry")
def test_state_of_a_file_changes_though_size_and_time_are_put_back(tmp_path: Path) -> None:
    file = tmp_path / "a"
    file.write_text("1")
    first = file_state(file)
    while file_state(file)[3] == first[3]:  # clocks of file systems are coarse
        file.write_text("2")
        os.utime(file, ns=(first[2], first[2]))
    assert file_state(file)[:3] == first[:3]


def test_digest_tells_parts_apart() -> None:
    assert digest(["ab", "c"]) != digest(["a", "bc"]) != digest(["abc"])
    assert digest([1]) != digest(["1"])
