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


def map_in_threads(
    work: Callable[[T], R], items: Iterable[T], *, workers: int | None = None
) -> Generator[R, None, None]:
    """Yield `work(item)` of every item, in order, computed by threads: decoding images releases the interpreter's lock.

    At most four results for each thread are kept waiting. The first exception ends it.
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
