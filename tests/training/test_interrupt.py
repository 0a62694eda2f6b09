"""A stop that is asked for once, in echo, and twice."""

import signal
import time

import pytest

from pyramidseg.training.interrupt import ECHO, StopRequest


def test_the_first_signal_is_noted_and_its_echo_changes_nothing() -> None:
    with StopRequest() as stop:
        assert not stop.requested
        for _ in range(3):
            signal.raise_signal(signal.SIGINT)
        assert stop.requested


def test_a_later_signal_acts_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with StopRequest():
        signal.raise_signal(signal.SIGINT)
        later = time.monotonic() + 2 * ECHO
        monkeypatch.setattr(time, "monotonic", lambda: later)
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)


def test_afterwards_signals_are_what_they_were() -> None:
    before = signal.getsignal(signal.SIGTERM)
    with StopRequest():
        assert signal.getsignal(signal.SIGTERM) != before
    assert signal.getsignal(signal.SIGTERM) == before
