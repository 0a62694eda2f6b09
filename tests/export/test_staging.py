import fcntl
import os
import shutil
import tempfile
import threading
import time

import pytest

from pyramidseg.base.errors import OutputError
from pyramidseg.export.staging import staging


def test_nothing_is_left_of_the_place_nor_of_folders_made_for_it(tmp_path):
    target = tmp_path / "deep" / "out" / "best.onnx"
    with staging(target) as staged:
        assert staged.name == "best.onnx"
        staged.write_bytes(b"unchecked")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_export_left_goes_with_the_next_one_of_its_name(tmp_path):
    names = (".best.onnx.a_b4x9qz.part", ".other.onnx.a_b4x9qz.part", ".best.onnx.mine.part")
    for name in names:
        (tmp_path / name).mkdir()
        (tmp_path / name / "best.onnx").write_bytes(b"half")
    with staging(tmp_path / "best.onnx"):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names[1:])


def test_the_place_of_an_export_that_goes_on_stays(tmp_path):
    target = tmp_path / "best.onnx"
    with staging(target) as first:
        first.write_bytes(b"unchecked")
        with staging(target) as second:
            assert second != first
        assert first.read_bytes() == b"unchecked"


def sweep(folder, *, found=None):
    """What another export of the name does to a folder that it finds unlocked."""
    handle = os.open(folder, os.O_RDONLY)
    fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    if found is not None:
        found.set()
        time.sleep(0.05)
    shutil.rmtree(folder)
    os.close(handle)


@pytest.mark.parametrize("meanwhile", [False, True])
def test_a_place_that_is_swept_before_it_is_locked_is_made_again(tmp_path, monkeypatch, meanwhile):
    """Before its lock is asked for, or while that waits."""
    make, made = tempfile.mkdtemp, []

    def make_and_lose(**options):
        made.append(make(**options))
        if len(made) == 1 and meanwhile:
            found = threading.Event()
            threading.Thread(target=sweep, args=(made[0],), kwargs={"found": found}).start()
            found.wait()
        elif len(made) == 1:
            sweep(made[0])
        return made[-1]

    monkeypatch.setattr(tempfile, "mkdtemp", make_and_lose)
    with staging(tmp_path / "best.onnx") as staged:
        staged.write_bytes(b"unchecked")
        assert str(staged.parent) == made[1]
    assert list(tmp_path.iterdir()) == []


def test_a_place_that_cannot_be_made_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match="cannot be written"), staging(tmp_path / "file" / "best.onnx"):
        pass
