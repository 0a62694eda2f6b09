"""Threads that are gone for the system too, once they are joined: a process forked then inherits no lock of theirs."""

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path


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
