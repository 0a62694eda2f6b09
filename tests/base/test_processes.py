"""Work in forked processes: every item once, the error of an item, and the end of either side."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from forks import PythonProcess, run_python
from made_conversions import contents, random_labels
from pyramidseg.base.ledger import SUFFIX
from pyramidseg.formats.convert_dataset import convert_dataset

pytestmark = pytest.mark.skipif(os.name == "nt" or not hasattr(os, "sched_getaffinity"), reason="forks on Linux only")

PROGRAM = """
import os, signal, threading, time
from pyramidseg.base import parallel
parallel.available_processors = lambda: 3
main = os.getpid()
{work}
print(sorted(parallel.map_in_processes(work, range(100))) == [number**2 for number in range(100)])
"""


def done(work: str) -> tuple[int, str, str]:
    ended = run_python("-c", PROGRAM.format(work=work))
    return ended.returncode, ended.stdout, ended.stderr


def test_every_item_is_done_once_and_in_other_processes() -> None:
    work = "def work(number): print('here' if os.getpid() == main else '', end=''); return number**2"
    assert done(work) == (0, "True\n", "")


def test_an_error_that_cannot_be_pickled_is_raised_as_it_is() -> None:
    work = """
from pyramidseg.base.errors import MissingExtra
def work(number):
    if number == 50:
        raise MissingExtra("zarr", extra="zarr", purpose="reading it")
    return number**2
"""
    status, _, errors = done(work)
    assert status == 1
    assert errors.endswith("reading it needs zarr, which is not installed: pip install 'pyramidseg[zarr]'\n")


@pytest.mark.parametrize("at", [0, 50, 99])
def test_what_a_killed_process_left_is_done_by_the_main_one(at: int) -> None:
    work = f"""
def work(number):
    if number == {at} and os.getpid() != main:
        os.kill(os.getpid(), signal.SIGKILL)
    return number**2
"""
    assert done(work) == (0, "True\n", "")


def test_a_process_with_threads_is_not_forked() -> None:
    work = """
def work(number):
    assert os.getpid() == main
    return number**2
threading.Thread(target=time.sleep, args=(1,), daemon=True).start()
"""
    assert done(work) == (0, "True\n", "")


def test_a_process_of_a_pool_which_may_not_fork_works_in_threads() -> None:
    work = """
import multiprocessing
def work(number):
    assert os.getpid() == main
    return number**2
multiprocessing.current_process()._config["daemon"] = True
"""
    assert done(work) == (0, "True\n", "")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("source")
    for kind in ("images", "masks"):
        (folder / "train" / kind).mkdir(parents=True)
    for number in range(90):
        labels = random_labels(12, 16, seed=number)
        Image.fromarray(labels).convert("RGB").save(folder / "train" / "images" / f"{number:02}.png")
        Image.fromarray(labels).save(folder / "train" / "masks" / f"{number:02}.png")
    return folder


@pytest.mark.parametrize("to", ["masks", "coco-polygons"])
def test_processes_write_what_threads_write(
    to: str, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramidseg.base.parallel.MIN_FORKED", 1000)
    convert_dataset(source, to=to, out=tmp_path / "threads")
    ended = run_python("-m", "pyramidseg", "convert", source, "--to", to, "--out", tmp_path / "processes")
    assert ended.returncode == 0, ended.stderr
    assert contents(tmp_path / "processes") == {
        **contents(tmp_path / "threads"),
        ".conversion/complete.json": (tmp_path / "processes" / ".conversion" / "complete.json").read_bytes(),
    }


SLOWLY = """
import sys, time
from pyramidseg.cli.main import main
from pyramidseg.formats import convert_dataset as converting
read = converting.read_labels
converting.read_labels = lambda *given: (time.sleep(0.05), read(*given))[1]
sys.exit(main(sys.argv[1:]))
"""


def test_a_conversion_whose_main_process_is_killed_ends_and_continues(source: Path, tmp_path: Path) -> None:
    words = ("convert", source, "--to", "masks", "--out", tmp_path / "out")
    with PythonProcess("-c", SLOWLY, *words) as process:
        wait_for(lambda: any(len(file.read_text().splitlines()) > 9 for file in ledger(tmp_path / "out")))
        process.send(signal.SIGKILL, workers=False)
        process.wait()
        wait_for(lambda: not is_group_alive(process.pid))
    ended = run_python("-m", "pyramidseg", *words)
    assert ended.returncode == 0, ended.stderr
    assert "of 90 images are finished; the others follow" in ended.stdout
    assert not list((tmp_path / "out").rglob("*.part"))
    written = sorted(path.name for path in (tmp_path / "out" / "train" / "masks").iterdir())
    assert len(written) == 90
    for name in written:
        with Image.open(tmp_path / "out" / "train" / "masks" / name) as mask:
            assert np.array_equal(mask, random_labels(12, 16, seed=int(name[:2]))), name


def ledger(out: Path) -> list[Path]:
    return [*(out / ".conversion").glob(f"*{SUFFIX}")]


def is_group_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)
