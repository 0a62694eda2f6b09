"""A stop that is asked for once, in echo, and twice; and processes that end when they have to."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

import pyramidseg as ps
from pyramidseg.training.interrupt import ECHO, Interrupted, StopRequest
from pyramidseg.training.segmentation_task import SegmentationTask
from support import TINY_SETTINGS, process_environment


def test_the_first_signal_is_noted_and_its_echo_changes_nothing() -> None:
    with StopRequest() as stop, stop.deferred():
        assert not stop.requested
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested


def test_a_signal_acts_at_once_where_it_is_not_deferred() -> None:
    with StopRequest() as stop:
        with pytest.raises(Interrupted):
            signal.raise_signal(signal.SIGTERM)
        assert stop.requested
    with StopRequest() as stop, stop.deferred():
        with pytest.raises(Interrupted), stop.deferred(False):
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # an echo
        with pytest.raises(Interrupted), stop.deferred(False):  # an earlier request is not forgotten
            raise AssertionError


def test_a_later_signal_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores it for jobs in the background
    try:
        signal_twice(monkeypatch)
    finally:
        signal.signal(signal.SIGINT, before)


def signal_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest() as stop, stop.deferred():
        signal.raise_signal(signal.SIGINT)
        while not stop.requested:  # Python 3.11 may run the handler a few instructions later
            time.sleep(0.001)
        later = time.monotonic() + 2 * ECHO
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            interrupt()


def interrupt() -> None:
    signal.raise_signal(signal.SIGINT)
    time.sleep(0.1)


def test_afterwards_signals_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before


def test_a_stop_during_the_last_validation_is_not_forgotten(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    description = SegmentationTask.training_columns

    def stopping(task: SegmentationTask, tally):  # type: ignore[no-untyped-def]
        signal.raise_signal(signal.SIGTERM)
        return description(task, tally)

    monkeypatch.setattr(SegmentationTask, "training_columns", stopping)
    with pytest.raises(Interrupted, match="is complete"):
        ps.train(scenes, out=tmp_path / "run", epochs=1, workers=0, **TINY_SETTINGS)
    assert (tmp_path / "run" / "report.html").exists()


FAILING = """
import sys
import pyramidseg as ps
from pyramidseg.training import loop

def fail(*arguments):
    raise ZeroDivisionError

loop.gradient_norm = fail
settings = dict(encoder="test_resnet", encoder_weights="none", pyramid_channels=32, segmentation_channels=32, crop=64)
ps.train(sys.argv[1], out=sys.argv[2], epochs=1, workers=1, device="cpu", **settings)
"""


def test_an_error_that_nobody_expected_ends_the_process_and_its_workers(scenes: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FAILING, str(scenes), str(tmp_path / "run")],
        env=process_environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert "ZeroDivisionError" in done.stderr
