"""Many files at once, in bounded memory, with somebody watching."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol, TypeVar

from pyramidseg.base.machine import available_processors

# Threads that are gone for the system too, once they are joined: a process forked then inherits no lock of theirs.


@contextmanager
def thread_pool(number: int, *, name: str = "") -> Iterator[ThreadPoolExecutor]:
    """A pool of threads; at the end, work that has not begun is dropped, and all of them have gone.

    Until 3.12 Python's `join` returns when a thread has left the interpreter, and so before C libraries give back what
    they hold for it. OpenCV takes a global lock for that: a process forked just then, such as a worker of a loader,
    would wait for it forever at its first image.
    """
    begun: set[int] = set()
    pool = ThreadPoolExecutor(number, thread_name_prefix=name, initializer=lambda: begun.add(threading.get_native_id()))
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        while any(_is_alive(native_id) for native_id in begun):
            time.sleep(0.0001)


def _is_alive(native_id: int) -> bool:
    """Whether the system still has a thread of this process; beyond Linux, where it cannot say, no worker is forked."""
    return Path(f"/proc/self/task/{native_id}").exists()


T = TypeVar("T")
R = TypeVar("R")


class Track(Protocol):
    """Hands items through, one by one, and shows how far it is."""

    def __call__(self, items: Iterable[T], *, total: int, what: str) -> Iterable[T]:
        """The same items; `what` says in words what is being done."""
        ...


def untracked(items: Iterable[T], *, total: int, what: str) -> Iterable[T]:
    """A `Track` that shows nothing."""
    return items


def in_threads(work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None) -> Generator[R, None, None]:
    """`work` of every item, in their order, by threads: decoding pixels releases the interpreter's lock.

    Only a few results wait at any time, however many items there are. The first exception ends it.
    """
    workers = workers or min(8, available_processors())
    waiting: deque[Future[R]] = deque()
    with thread_pool(workers) as pool:
        for item in items:
            waiting.append(pool.submit(work, item))
            if len(waiting) > 4 * workers:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
