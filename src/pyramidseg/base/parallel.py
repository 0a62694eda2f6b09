"""Thread pools: many files at once, in bounded memory."""

import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from pyramidseg.base.machine import available_processors

T = TypeVar("T")
R = TypeVar("R")

AHEAD_PIXELS = 2**22
"""Most pixels that wait for the next stage of a pipeline; a single item may have more."""


@contextmanager
def thread_pool(number: int, *, name: str = "") -> Iterator[ThreadPoolExecutor]:
    """A thread pool whose OS threads have exited at the end of the `with` block; tasks not yet started are cancelled.

    Up to Python 3.12, `join` returns when a thread has left the interpreter, before C libraries free their thread-local
    data. OpenCV takes a global lock for that: a process forked at this moment, such as a data loader's worker, would
    wait forever at its first image.
    """
    started: set[int] = set()
    pool = ThreadPoolExecutor(
        number, thread_name_prefix=name, initializer=lambda: started.add(threading.get_native_id())
    )
    try:
        yield pool
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
        while any(_is_alive(native_id) for native_id in started):
            time.sleep(0.0001)


def _is_alive(native_id: int) -> bool:
    """Whether a thread of this process still exists; False except on Linux, where alone workers are forked."""
    return Path(f"/proc/self/task/{native_id}").exists()


def map_in_order(
    function: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    pixels: Callable[[T], int] = lambda item: 0,
    name: str = "",
) -> Generator[R, None, None]:
    """Apply a function to every item in threads; yields the results in the order of the items.

    At most `ahead` items, or `AHEAD_PIXELS` by the `pixels` of each, are in progress or waiting at any time. At least
    one always may be, so that work goes on while the caller uses the result before it.
    """
    waiting: deque[tuple[Future[R], int]] = deque()
    waiting_pixels = 0
    with thread_pool(threads, name=name) as pool:
        for item in items:
            size = pixels(item)
            while len(waiting) > 1 and (len(waiting) >= ahead or waiting_pixels + size > AHEAD_PIXELS):
                future, released = waiting.popleft()
                waiting_pixels -= released
                yield future.result()
                del future  # or the result would stay alive while the next item is awaited
            waiting.append((pool.submit(function, item), size))
            waiting_pixels += size
            del item
        while waiting:
            yield waiting.popleft()[0].result()


def map_in_threads(work: Callable[[T], R], items: Iterable[T]) -> Generator[R, None, None]:
    """`map_in_order` by up to 8 threads, four results for each ahead: decoding releases the interpreter's lock."""
    threads = min(8, available_processors())
    return map_in_order(work, items, threads=threads, ahead=4 * threads)
