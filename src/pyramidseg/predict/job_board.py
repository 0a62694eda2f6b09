"""What the workers of a distributed prediction are doing: which images are in flight, done or given up."""

import time
from collections import Counter
from collections.abc import Callable, Iterable
from typing import NamedTuple

TRIES = 3
"""How often an image, or a worker that loads the model, may end its process."""

_DONE = 255


class BoardStatus(NamedTuple):
    """State of a `JobBoard`: `in_flight` has numbers of images, `events` changes with everything that happens."""

    finished: int
    in_flight: list[int]
    workers: int
    events: int
    failure: str


class JobBoard:
    """Numbered images and the workers that predict them; in a process of its own, which outlives those of the workers.

    A worker calls `start`, `ready` when it has loaded the model, then `claim` for each batch, and `begin` and `finish`
    for each image. An image that was in flight when its process ended is tried again alone: so none is given up because
    of another one.
    """

    def __init__(self, images: int) -> None:
        self._tries = bytearray(images)
        self._in_flight: dict[int, None] = {}
        self._starts: Counter[str] = Counter()
        self._finished = self._workers = self._events = 0
        self._failure, self._reason = "", "its process ended while it loaded the model"

    def start(self, worker: str) -> str:
        """Returns why the worker should not start."""
        self._events += 1
        self._starts[worker] += 1
        if self._starts[worker] > TRIES:
            self.fail(f"a worker cannot be started, tried {TRIES} times: {self._reason}")
        return self._failure

    def explain(self, reason: str) -> None:
        """Why the process of a worker is about to end."""
        self._reason = reason

    def ready(self, worker: str) -> None:
        self._events += 1
        self._workers += 1
        self._starts[worker] = 0

    def claim(self, numbers: Iterable[int]) -> tuple[list[int], list[int], list[int]]:
        """Of images that no living worker has: those to predict, to predict alone, and to give up."""
        groups: tuple[list[int], list[int], list[int]] = ([], [], [])
        self._events += 1
        for number in numbers:
            self._in_flight.pop(number, None)
            if (tries := self._tries[number]) != _DONE:
                groups[2 if tries >= TRIES else 1 if tries else 0].append(number)
        return groups

    def begin(self, number: int) -> None:
        self._events += 1
        self._tries[number] += number not in self._in_flight
        self._in_flight[number] = None

    def touch(self) -> None:
        """Something happens."""
        self._events += 1

    def finish(self, number: int) -> None:
        self._events += 1
        self._finished += self._tries[number] != _DONE
        self._tries[number] = _DONE
        self._in_flight.pop(number, None)

    def fail(self, reason: str) -> None:
        """The prediction has to end; the first reason counts."""
        self._failure = self._failure or reason

    def status(self) -> BoardStatus:
        return BoardStatus(self._finished, list(self._in_flight), self._workers, self._events, self._failure)


class Watchdog:
    """Tells whether a prediction hangs: nothing has happened for `patience_s` seconds."""

    def __init__(self, patience_s: float, *, now: Callable[[], float] = time.monotonic) -> None:
        self._patience_s, self._now, self._events, self._since = patience_s, now, -1, 0.0

    def is_hung(self, status: BoardStatus) -> bool:
        if status.events != self._events:
            self._events, self._since = status.events, self._now()
        return self._now() - self._since > self._patience_s
