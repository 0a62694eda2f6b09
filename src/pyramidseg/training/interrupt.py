"""SIGTERM and Ctrl-C: the current step is finished and saved, then training stops; between steps at once."""

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from types import FrameType
from typing import Any

SIGNALS = (signal.SIGINT, signal.SIGTERM)

ECHO = 1.0
"""Seconds within which a further signal counts as the same request: schedulers signal a whole process group, and
torchrun, which is part of it, forwards the signal."""


class Interrupted(KeyboardInterrupt):
    """Training was interrupted; what was trained is saved. Exit status 130."""


class StopRequest:
    """Context manager in which a signal raises `Interrupted`, except within `deferred`, where it is only recorded.

    A second signal, after `ECHO` seconds, has its usual effect. Outside the main thread, where Python does not allow
    signal handlers, no request is ever recorded.
    """

    def __init__(self) -> None:
        self.requested = False
        self._deferred = False
        self._since = 0.0
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "StopRequest":
        if threading.current_thread() is threading.main_thread():
            self._before = {number: signal.signal(number, self._note) for number in SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._restore()

    @contextlib.contextmanager
    def deferred(self, deferred: bool = True) -> Iterator[None]:
        """Only record signals; with False, raise `Interrupted` for an earlier or a new one, also inside `deferred`."""
        before, self._deferred = self._deferred, deferred
        try:
            if self.requested and not deferred:
                raise Interrupted("interrupted")
            yield
        finally:
            self._deferred = before

    def _note(self, number: int, frame: FrameType | None) -> None:
        now = time.monotonic()
        if not self.requested:
            self.requested, self._since = True, now
            if not self._deferred:
                raise Interrupted("interrupted")
        elif now - self._since > ECHO:
            self._restore()
            signal.raise_signal(number)

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}
