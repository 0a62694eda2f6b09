"""Workers that are spawned, scripts without a guard, and runs that are ended while they check, wait or validate."""

import multiprocessing
import pickle
import re
import resource
import signal
import subprocess
import threading
import time
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import pytest
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter

import pyramidseg as ps
from forks import PythonProcess, run_python
from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import TrainingLoader, TrainingSamples, _FileHandover, worker_failures_explained
from pyramidseg.data.pairs import FilePairs
from pyramidseg.data.transforms import Augmentation
from pyramidseg.formats.open_dataset import open_dataset
from support import TINY, TINY_SETTINGS, assert_same_bits

SCRIPT = """
import multiprocessing, sys
method, data, out = sys.argv[1:4]
multiprocessing.set_start_method(method, force=True)
import pyramidseg as ps

def main():
    from support import without_figures
    settings = dict(encoder="test_resnet", encoder_weights="none", pyramid_channels=32, segmentation_channels=32)
    with without_figures():
        ps.train(data, out=out, epochs=2, workers=1, crop=64, device="cpu", cache="memory", **settings)

{guard}main()
"""


def run_script(folder: Path, text: str, *arguments: object) -> "subprocess.CompletedProcess[str]":
    script = folder / "script.py"
    script.write_text(text)
    return run_python(script, *arguments)


@pytest.fixture(scope="module")
def reference(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two epochs in one process, never interrupted."""
    out = tmp_path_factory.mktemp("reference") / "run"
    ps.train(scenes, out=out, epochs=2, workers=0, **TINY_SETTINGS)
    return out


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_with_a_guard_trains_the_same_with_every_kind_of_worker(
    scenes: Path, tmp_path: Path, reference: Path, method: str
) -> None:
    text = SCRIPT.replace("{guard}", 'if __name__ == "__main__":\n    ')
    done = run_script(tmp_path, text, method, scenes, tmp_path / "run")
    assert done.returncode == 0, done.stderr
    assert_same_bits(tmp_path / "run", reference)


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_a_script_without_a_guard_ends_with_a_line_that_shows_it(scenes: Path, tmp_path: Path, method: str) -> None:
    done = run_script(tmp_path, SCRIPT.replace("{guard}", ""), method, scenes, tmp_path / "run")
    assert done.returncode == 1
    child, parent = (line for line in done.stderr.splitlines() if line.startswith("pyramidseg.base.errors."))
    assert 'if __name__ == "__main__":' in child
    assert 'if __name__ == "__main__":' in parent and "data.workers=0" in parent
    assert done.stderr.count("Traceback") == 1  # of the script; its workers print their line alone
    assert not (tmp_path / "run" / "last.safetensors").exists()


def test_decoded_images_and_long_lists_do_not_go_through_the_pipe_of_a_starting_worker(scenes: Path) -> None:
    dataset = open_dataset(scenes, DataConfig())
    pairs = FilePairs(dataset.split("train") * 200, dataset.masks, 3, cached=True)
    pairs.preload()
    samples = TrainingSamples(pairs, augmentation=Augmentation(AugmentationConfig(crop=(64, 64))), seed=0)
    handover = _FileHandover(samples)
    sent = bytes(ForkingPickler.dumps(handover))
    assert len(sent) < 1000
    received = pickle.loads(sent)
    assert not received.pairs._decoded
    for index in (0, 7, 3999):
        assert all((mine == theirs).all() for mine, theirs in zip(pairs[index], received.pairs[index], strict=True))
        assert received.pairs[index] is received.pairs[index]  # decoded once
    handover.close()


def first_batch(samples_type: type[TrainingSamples], scenes: Path) -> None:
    """The error of a worker whose samples do something."""
    dataset = open_dataset(scenes, DataConfig())
    pairs = FilePairs(dataset.split("train"), dataset.masks, 3)
    samples = samples_type(pairs, augmentation=Augmentation(AugmentationConfig(crop=(64, 64))), seed=0)
    loader = TrainingLoader(samples, EpochPlan(samples=20, batch_size=4), rank=0, workers=1, pin=False)
    message = r"a loading worker ended; the usual reason is that it ran out of memory or threads \(ulimit -u\): lower"
    with pytest.raises(ps.TrainingError, match=message), worker_failures_explained():
        next(loader.steps(0))
    loader.close()


def test_a_killed_worker_is_named_with_what_to_lower(scenes: Path) -> None:
    class Killed(TrainingSamples):
        def __getitem__(self, key: tuple[int, int]) -> object:  # type: ignore[override]
            signal.raise_signal(signal.SIGKILL)

    first_batch(Killed, scenes)


@pytest.mark.parametrize("threads", [0, 1])
def test_a_worker_that_gets_no_thread_is_named_too(
    scenes: Path, threads: int, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It needs two to send a batch. Python would drop the batch, with a traceback, and training wait for ever."""
    monkeypatch.setattr(_MultiProcessingDataLoaderIter._try_get_data, "__defaults__", (0.2,))  # seconds between looks

    class Starved(TrainingSamples):
        def __getitem__(self, key: tuple[int, int]) -> object:  # type: ignore[override]
            threading.Thread.start = start  # type: ignore[method-assign]  # only in the worker
            return super().__getitem__(key)

    started, real = [], threading.Thread.start

    def start(thread: threading.Thread) -> None:
        if len(started) == threads:
            raise RuntimeError("can't start new thread")
        started.append(thread)
        real(thread)

    first_batch(Starved, scenes)
    assert "Traceback" not in capfd.readouterr().err


def test_workers_are_not_begun_without_files_for_all_of_them(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dataset = open_dataset(scenes, DataConfig())
    pairs = FilePairs(dataset.split("train"), dataset.masks, 3)
    samples = TrainingSamples(pairs, augmentation=Augmentation(AugmentationConfig(crop=(64, 64))), seed=0)
    loader = TrainingLoader(samples, EpochPlan(samples=20, batch_size=4), rank=0, workers=2, pin=False)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    opened, taken = len(list(Path("/proc/self/fd").iterdir())), multiprocessing.active_children()
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + 6, hard))
    try:
        with pytest.raises(OSError, match="Too many open files"):
            next(loader.steps(0))
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    assert multiprocessing.active_children() == taken
    next(loader.steps(0))
    loader.close()


@pytest.mark.parametrize("workers", [None, 2])
def test_a_daemonic_process_is_told_to_train_without_workers(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int | None
) -> None:
    monkeypatch.setitem(multiprocessing.current_process()._config, "daemon", True)  # type: ignore[attr-defined]
    settings = {**TINY_SETTINGS, "workers": workers}
    with pytest.raises(ps.ConfigError, match="cannot start loading workers; give `workers=0`"):
        ps.train(scenes, out=tmp_path / "run", **settings)
    assert not (tmp_path / "run").exists()
    ps.train(scenes, out=tmp_path / "run", epochs=1, **{**settings, "workers": 0})


WAITING = """
import sys, time
from torch.utils.data import _utils
from pyramidseg.cli.main import main
from pyramidseg.data.loading import TrainingSamples
from pyramidseg.inspection import prepare_data
from pyramidseg.training.segmentation_task import SegmentationTask

def wait(*arguments, **options):
    print("here", flush=True)
    time.sleep(60)

def third_batch(samples, key, load=TrainingSamples.__getitem__):
    if calls.append(key) or len(calls) > 8:
        wait()
    return load(samples, key)

_utils.MP_STATUS_CHECK_INTERVAL = 0.2  # seconds that are waited for a busy worker, twice
calls = []
phase = sys.argv.pop(1)
if phase == "checking":
    prepare_data.check_dataset = wait
elif phase == "validating":
    SegmentationTask.validate = wait
else:
    TrainingSamples.__getitem__ = third_batch
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.parametrize(
    ("phase", "workers", "saved"),
    [
        ("checking", 0, None),
        ("waiting", 1, "epoch 1, step [0-2]"),
        ("validating", 0, "epoch 1, step 5"),
    ],
)
def test_a_sigterm_ends_a_run_that_is_not_within_a_step(
    scenes: Path, tmp_path: Path, reference: Path, phase: str, workers: int, saved: str | None
) -> None:
    out = tmp_path / "run"
    settings = (*TINY, "train.epochs=2", "train.device=cpu", f"data.workers={workers}")
    with PythonProcess("-c", WAITING, phase, "train", scenes, "--out", out, *settings) as process:
        while "here\n" not in process.output() and not process.has_ended():
            time.sleep(0.01)
        process.send(signal.SIGTERM, workers=False)
        status, message = process.wait(timeout=30), process.errors()
    assert status == 130
    assert message.strip().splitlines()[-1].startswith("interrupted"), message
    if saved is None:
        assert not list(tmp_path.rglob("step-*"))
        return
    assert re.search(f"everything up to {saved} is saved: --resume continues", message)
    ps.train(scenes, out=out, resume=True, workers=0)
    assert_same_bits(out, reference)
