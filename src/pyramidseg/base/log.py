"""What a person sees while something runs: bars on a terminal, plain lines where there is none."""

import sys
import time
from collections.abc import Iterable, Iterator
from typing import TypeVar

from rich.console import Console as RichConsole
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn

T = TypeVar("T")

PLAIN_SECONDS = 30.0
"""Time between two plain lines of progress."""


class Console:
    """Lines and progress of one process; `quiet` silences it, as on all ranks but the first."""

    def __init__(self, *, quiet: bool = False) -> None:
        self.quiet = quiet
        self._rich = RichConsole(file=sys.stderr, highlight=False)

    def say(self, text: str) -> None:
        """One line on standard output, at once."""
        if not self.quiet:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """One line on standard error, whatever `quiet` says."""
        print(f"warning: {text}", file=sys.stderr, flush=True)

    def track(self, items: Iterable[T], *, total: int, what: str) -> Iterator[T]:
        """Hand on the items while showing how many are done, their rate and the time left."""
        with self.bar(total=total, title=what) as bar:
            for item in items:
                yield item
                bar.advance()

    def bar(self, *, total: int, title: str, done: int = 0) -> "Bar":
        """A bar that the caller advances."""
        return Bar(self._rich, total=total, title=title, done=done, quiet=self.quiet)


class Bar:
    """Progress of `total` equal pieces; a context manager."""

    def __init__(self, console: RichConsole, *, total: int, title: str, done: int, quiet: bool) -> None:
        self._total = total
        self._title = title
        self._done = self._start_done = done
        self._started = self._last_line = time.monotonic()
        self._quiet = quiet
        self._task: TaskID | None = None
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TextColumn("{task.fields[note]}"),
            TimeRemainingColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )

    def __enter__(self) -> "Bar":
        self._progress.start()
        if not self._progress.disable:
            self._task = self._progress.add_task(self._title, total=self._total, completed=self._done, note="")
        return self

    def __exit__(self, *_: object) -> None:
        self._progress.stop()

    def advance(self, pieces: int = 1, *, note: str = "") -> None:
        """So many pieces more; `note` stands beside the rate."""
        self._done += pieces
        elapsed = time.monotonic() - self._started
        rate = (self._done - self._start_done) / max(elapsed, 1e-9)
        note = f"{rate:.1f}/s {note}".rstrip()
        if self._task is not None:
            self._progress.update(self._task, completed=self._done, note=note)
        elif not self._quiet and time.monotonic() - self._last_line > PLAIN_SECONDS:
            self._last_line = time.monotonic()
            left = (self._total - self._done) / max(rate, 1e-9)
            print(
                f"{self._title}: {self._done}/{self._total}, {note}, {duration(left)} left", file=sys.stderr, flush=True
            )


def duration(seconds: float) -> str:
    """`1:02:03`, `4:05` or `6 s`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    minutes, rest = divmod(whole, 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
