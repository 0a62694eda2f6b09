"""One process at a time for each output folder, whatever became of the others."""

import errno
import multiprocessing
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.base.output_lock import locked, locks_out
from support import process_environment

HOLDING = """
import os, sys, time
from pathlib import Path
from pyramidseg.base.output_lock import locked

with locked(Path(sys.argv[1]), **dict(word.split("=") for word in sys.argv[2:])):
    if os.fork() == 0:  # as a worker, which outlives a killed process for seconds
        print("locked", flush=True)
        time.sleep(5)
        os._exit(0)
    time.sleep(60)
"""


@contextmanager
def another_process(*arguments: object) -> Iterator["subprocess.Popen[str]"]:
    """A process that holds a lock; killed at the end."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDING, *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "locked\n"
        try:
            yield process
        finally:
            process.kill()


def test_a_second_process_is_refused_until_the_first_has_ended(tmp_path: Path) -> None:
    out = tmp_path / "new" / "run"
    with another_process(out) as first:
        message = r"run: is in use by another pyramidseg process; wait until it has ended, or choose another `out`"
        with pytest.raises(OutputError, match=message), locked(out):
            raise AssertionError
        first.kill()
        first.wait()
        with locked(out):  # its orphan lives, and blocks nobody
            assert [path.name for path in out.iterdir()] == [".pyramidseg.lock"]
    assert list(out.iterdir()) == []


def test_nothing_stays_where_nothing_was_written(tmp_path: Path) -> None:
    with locked(tmp_path / "new" / "run"):
        pass
    assert list(tmp_path.iterdir()) == []
    with locked(tmp_path / "new" / "run"):
        (tmp_path / "new" / "run" / "file").touch()
    assert [path.name for path in (tmp_path / "new" / "run").iterdir()] == ["file"]


def test_a_lock_counts_within_a_process_too(tmp_path: Path) -> None:
    with locked(tmp_path), pytest.raises(OutputError, match="in use"), locked(tmp_path):
        raise AssertionError


@pytest.mark.parametrize(
    ("first", "second", "both"),
    [
        ({"shard": "1-of-4"}, {"shard": "2-of-4"}, True),
        ({"shard": "1-of-4"}, {"shard": "1-of-4"}, False),
        ({"shard": "1-of-4"}, {}, False),
        ({}, {"shard": "1-of-4"}, False),
        ({"file": "best.onnx"}, {"file": "best.xml"}, True),
        ({"file": "best.onnx"}, {"file": "best.onnx"}, False),
        ({}, {"file": "best.onnx"}, True),  # a bundle can be exported while its run goes on
    ],
)
def test_who_may_work_side_by_side(tmp_path: Path, first: dict[str, str], second: dict[str, str], both: bool) -> None:
    with locked(tmp_path, **first):
        if both:
            with locked(tmp_path, **second):
                pass
        else:
            with pytest.raises(OutputError, match="in use"), locked(tmp_path, **second):
                raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_the_locks_of_killed_shards_block_nobody_and_disappear(tmp_path: Path) -> None:
    for name in (".shard-1-of-2.pyramidseg.lock", ".shard-2-of-2.pyramidseg.lock", ".pyramidseg.lock"):
        (tmp_path / name).touch()
    with locked(tmp_path, shard="1-of-2"):
        pass
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_many_processes_that_start_together_give_one_winner_at_a_time(tmp_path: Path) -> None:
    """The folder is removed by those who write nothing, while others are about to lock it."""
    program = """
import sys, time
from pathlib import Path
from pyramidseg.base.errors import OutputError
from pyramidseg.base.output_lock import locked
out = Path(sys.argv[1]) / "run"
won = 0
for _ in range(300):
    try:
        with locked(out):
            Path(sys.argv[1], "owner").touch(exist_ok=False)
            Path(sys.argv[1], "owner").unlink()
            won += 1
    except OutputError:
        pass
print(won)
"""
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)], stdout=subprocess.PIPE, env=process_environment(), text=True
        )
        for _ in range(3)
    ]
    won = [int(process.communicate()[0]) for process in processes]
    assert [process.returncode for process in processes] == [0, 0, 0]
    assert all(won)
    assert not [path for path in tmp_path.rglob("*") if path.is_file()]


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.EROFS, "the file system is read-only"),
        (errno.EACCES, "permission denied"),
        (errno.ENOSPC, "the disk is full"),
    ],
)
def test_a_folder_that_cannot_be_written_is_refused_at_the_start_with_its_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, said: str
) -> None:
    def refused(path: object, *arguments: object, **options: object) -> int:
        raise OSError(number, os.strerror(number), str(path))

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(OutputError, match=f"out: cannot be written: {said}"), locked(tmp_path / "out"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_an_error_inside_is_not_taken_for_one_of_the_folder(tmp_path: Path) -> None:
    with pytest.raises(PermissionError, match="an image"), locked(tmp_path):
        raise PermissionError(errno.EACCES, "permission denied", "an image")


def test_a_file_is_not_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="is a file, but a folder is needed"), locked(tmp_path / "file"):
        raise AssertionError


def test_a_decorated_function_locks_the_folder_that_it_is_given(tmp_path: Path) -> None:
    @locks_out
    def work(source: str, out: Path | str | None = None) -> list[str]:
        return [path.name for path in tmp_path.iterdir()]

    assert work("a", tmp_path) == work("a", out=str(tmp_path)) == [".pyramidseg.lock"]
    assert work("a") == work("a", None) == []


def test_a_process_that_still_imports_the_script_of_its_parent_touches_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    monkeypatch.setattr(sys, "tracebacklimit", 1000, raising=False)  # it is changed, and restored here
    with pytest.raises(ConfigError, match='if __name__ == "__main__":'), locked(tmp_path / "out"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_a_killed_writer_is_cleared_at_the_next_start(tmp_path: Path) -> None:
    program = """
import sys, time
from pathlib import Path
from pyramidseg.base.files import write_atomically
def write(part):
    part.write_text("half")
    print("writing", flush=True)
    time.sleep(60)
write_atomically(Path(sys.argv[1]), write)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "file")],
        stdout=subprocess.PIPE,
        text=True,
        env=process_environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "writing\n"
        with locked(tmp_path):
            (part,) = (path for path in tmp_path.iterdir() if path.suffix == ".part")
        assert part.is_dir()  # its process lives
        process.send_signal(signal.SIGKILL)
    with locked(tmp_path):
        pass
    assert list(tmp_path.iterdir()) == []


def test_a_folder_whose_name_has_a_nul_character_is_refused(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="no folder can be created there"), locked(tmp_path / "a\0b"):
        pass
