"""Logging and progress.

Every module logs through a child of the logger `pyramidseg`, and every long loop reports its progress to one callback.
A library user sees neither until asked: `configure_logging()` shows both on the console, as the command line does.

    pyramidseg.configure_logging()                # messages and a progress bar
    with pyramidseg.report_progress(callback):    # progress to your own callback
        pyramidseg.train("dataset", out="run")
"""

import logging
import os
import sys
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import TypeVar

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TimeRemainingColumn
from rich.progress import Progress as RichProgress

from pyramidseg.base.text import show

T = TypeVar("T")

ROOT = "pyramidseg"
"""Name of the library's logger."""

PLAIN_SECONDS = 30.0
"""Time between two plain lines of progress where standard error is not a terminal."""


@dataclass(frozen=True)
class Progress:
    """State of one task.

    Attributes:
        task: what is being done, as text.
        done: finished items of `total`.
        note: a few words on the latest items, such as the loss.
        finished: the task has ended, completed or not; no further report of it follows.
    """

    task: str
    done: int
    total: int
    note: str = ""
    finished: bool = False


ProgressCallback = Callable[[Progress], object]

_callback: ContextVar[ProgressCallback | None] = ContextVar("pyramidseg_progress", default=None)


@contextmanager
def report_progress(callback: ProgressCallback | None) -> Iterator[None]:
    """Call `callback` with a `Progress` for each finished item within the `with` block; None reports nothing."""
    token = _callback.set(callback)
    try:
        yield
    finally:
        _callback.reset(token)


class ProgressTask:
    """Reports the progress of `total` equal items to the current callback; a context manager."""

    def __init__(self, task: str, *, total: int, done: int = 0) -> None:
        self._task, self._total, self._done = task, total, done
        self._callback = _callback.get()

    def __enter__(self) -> "ProgressTask":
        self._report()
        return self

    def __exit__(self, *_: BaseException | type[BaseException] | TracebackType | None) -> None:
        self._report(finished=True)

    def advance(self, items: int = 1, *, note: str = "") -> None:
        """Report further finished items."""
        self._done += items
        self._report(note=note)

    def _report(self, *, note: str = "", finished: bool = False) -> None:
        if self._callback is not None:
            self._callback(Progress(self._task, self._done, self._total, note, finished))


def track(items: Iterable[T], *, total: int, task: str) -> Iterator[T]:
    """Yield the items and report each as done once the next one is asked for."""
    with ProgressTask(task, total=total) as progress:
        for item in items:
            yield item
            progress.advance()


def configure_logging(level: int = logging.INFO, *, progress: bool = True, serving: bool = False) -> None:
    """Show the library's messages on the console: up to INFO on standard output, warnings and errors on standard error.

    Calling it again replaces the earlier configuration. Ranks other than 0 of a distributed run show only warnings.

    Args:
        level: lowest level that is shown.
        progress: also show progress, as a bar on a terminal and otherwise as a line every 30 s.
        serving: go on when the reader of the messages has gone, where other programs end (`| head`).
    """
    logger = logging.getLogger(ROOT)
    for handler in [handler for handler in logger.handlers if isinstance(handler, _ConsoleHandler)]:
        logger.removeHandler(handler)
    logger.addHandler(_ConsoleHandler(serving))
    first_rank = os.environ.get("RANK", "0") == "0"
    logger.setLevel(level if first_rank else max(level, logging.WARNING))
    logger.propagate = False
    _callback.set(ConsoleProgress() if progress and first_rank else None)


@contextmanager
def only_warnings() -> Iterator[None]:
    """Neither messages below WARNING nor progress within the `with` block."""
    logger = logging.getLogger(ROOT)
    level = logger.level
    logger.setLevel(max(level, logging.WARNING))
    try:
        with report_progress(None):
            yield
    finally:
        logger.setLevel(level)


@contextmanager
def quiet_libraries() -> Iterator[None]:
    """Suppress what libraries print and warn of, also from C++; exceptions are raised as usual."""
    with warnings.catch_warnings(action="ignore"), Path(os.devnull).open("w") as nowhere, ExitStack() as restoring:
        for number in (1, 2):
            kept = restoring.enter_context(os.fdopen(os.dup(number), "wb"))
            restoring.callback(os.dup2, kept.fileno(), number)
            os.dup2(nowhere.fileno(), number)
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield


class _ConsoleHandler(logging.Handler):
    """Writes to whatever `sys.stdout` and `sys.stderr` are at the time."""

    def __init__(self, serving: bool) -> None:
        super().__init__()
        self._serving = serving

    def emit(self, record: logging.LogRecord) -> None:
        try:
            is_warning = record.levelno >= logging.WARNING
            text = f"{record.levelname.lower()}: {self.format(record)}" if is_warning else self.format(record)
            show(text, file=sys.stderr if is_warning else sys.stdout)
        except Exception as error:
            if isinstance(error, BrokenPipeError) and not self._serving:
                raise
            self.handleError(record)


class ConsoleProgress:
    """A `ProgressCallback` that draws a bar on a terminal, and otherwise prints a line every `PLAIN_SECONDS`."""

    def __init__(self) -> None:
        self._console = Console(file=sys.stderr, highlight=False)
        self._bar: RichProgress | None = None
        self._bar_task = TaskID(0)
        self._task = ""
        self._started = self._last_line = 0.0
        self._start_done = 0

    def __call__(self, progress: Progress) -> None:
        """Show the progress of a task; a new task replaces the one before it."""
        if progress.finished:
            self._stop()
            return
        if progress.task != self._task:
            self._stop()
            self._start(progress)
        now = time.monotonic()
        rate = (progress.done - self._start_done) / max(now - self._started, 1e-9)
        note = f"{rate:.1f}/s {progress.note}".rstrip()
        if self._bar is not None:
            self._bar.update(self._bar_task, completed=progress.done, note=note)
        elif now - self._last_line > PLAIN_SECONDS:
            self._last_line = now
            left = duration((progress.total - progress.done) / max(rate, 1e-9))
            line = f"{progress.task}: {progress.done}/{progress.total}, {note}, {left} left"
            show(line, file=sys.stderr)

    def _start(self, progress: Progress) -> None:
        self._task, self._start_done = progress.task, progress.done
        self._started = self._last_line = time.monotonic()
        if self._console.is_terminal:
            columns = ("{task.description}", BarColumn(30), MofNCompleteColumn(), "{task.fields[note]}")
            self._bar = RichProgress(*columns, TimeRemainingColumn(), console=self._console, transient=True)
            self._bar.start()
            self._bar_task = self._bar.add_task(
                progress.task, total=progress.total, completed=progress.done, note=progress.note
            )

    def _stop(self) -> None:
        self._task = ""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def duration(seconds: float) -> str:
    """Format seconds as `1:02:03`, `4:05` or `6 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
