"""SIGTERM and Ctrl-C: the step under way is finished and saved, then training stops."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO = 1.0
"""Seconds in which a signal that follows another is the same request: a scheduler signals a group, and torchrun, which
is in it, passes that on."""


class Interrupted(KeyboardInterrupt):
    """Training was asked to stop and has saved everything; exit status 130."""


class StopRequest:
    """Remembers that a stop was asked for; a second signal, later than an echo, acts at once. A context manager.

    Outside the main thread, where Python allows no handlers, it never asks for anything.
    """

    def __init__(self) -> None:
        self.requested = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested, self._since = True, now
        elif now - self._since > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
