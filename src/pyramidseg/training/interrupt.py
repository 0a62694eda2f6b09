"""SIGTERM and Ctrl-C: the current step is finished and saved, then training stops."""

import signal
import threading
import time
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO = 1.0
"""Seconds within which a further signal counts as the same request: schedulers signal a whole process group, and
torchrun, which is part of it, forwards the signal."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted after saving a checkpoint; exit status 130."""


class StopRequest:
    """Context manager that records the first signal; a second one, after `ECHO` seconds, has its usual effect.

    Outside the main thread, where Python does not allow signal handlers, no request is ever recorded.
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
