"""Pools of threads and of processes: many files at once, in bounded memory."""

import multiprocessing
import signal
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TypeVar

from pyramidseg.base.machine import available_processors

T = TypeVar("T")
R = TypeVar("R")

AHEAD_PIXELS = 2**22
"""Most pixels that wait for the next stage of a pipeline; a single item may have more."""

MIN_FORKED = 64
"""Items from which processes are forked for them."""

FLUSHING_THREADS = 4
"""Threads that wait for the disk at the same time: the file system flushes their files together."""


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


def map_in_threads(work: Callable[[T], R], items: Iterable[T], *, threads: int = 0) -> Generator[R, None, None]:
    """`map_in_order` by threads, four results for each ahead: decoding releases the interpreter's lock.

    Args:
        threads: 0 for one for each processor, up to 8.
    """
    threads = threads or min(8, available_processors())
    return map_in_order(work, items, threads=threads, ahead=4 * threads)


def map_in_processes(work: Callable[[T], R], items: Sequence[T]) -> Iterator[R]:
    """Results in any order, by a process for each processor, up to 8: for work that holds the interpreter's lock.

    Processes are forked, so that only results are pickled. Short lists, and those of a process that has other threads,
    is not on Linux or may not fork (one of a `Pool`), are done by its threads. What a process leaves undone, because it
    was killed or had an error, is done by this one, which then raises the error.
    """
    number = 1 if multiprocessing.current_process().daemon else min(8, available_processors())
    if sys.platform != "linux" or number == 1 or len(items) < MIN_FORKED or threading.active_count() > 1:
        return map_in_threads(work, items, threads=FLUSHING_THREADS)
    context = multiprocessing.get_context("fork")
    shares: dict[Connection, tuple[BaseProcess, Iterator[T]]] = {}
    for first in range(number):
        receiver, sender = context.Pipe(duplex=False)
        share, receivers = items[first::number], (*shares, receiver)
        process = context.Process(target=_send_results, args=(work, share, sender, receivers), daemon=True)
        process.start()
        sender.close()
        shares[receiver] = process, iter(share)
    return _received(work, shares)


def _received(work: Callable[[T], R], shares: dict[Connection, tuple[BaseProcess, Iterator[T]]]) -> Iterator[R]:
    """The results of processes; by connection, each process and its items without a result."""
    waiting = set(shares)
    try:
        while waiting:
            for receiver in wait(waiting):
                assert isinstance(receiver, Connection)
                left = shares[receiver][1]
                try:
                    result = receiver.recv()
                except (EOFError, OSError):
                    waiting.remove(receiver)
                    yield from map_in_threads(work, left)
                else:
                    next(left)
                    yield result
    finally:
        for receiver in shares:
            receiver.close()  # which ends its process at the next result
        for process, _ in shares.values():
            process.join()


def _send_results(
    work: Callable[[T], R], items: Sequence[T], sender: Connection, receivers: Iterable[Connection]
) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C, and what is done about SIGTERM, are for the main process
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    import cv2

    cv2.setNumThreads(0)  # its threads are not forked, and it would wait for them
    for receiver in receivers:
        receiver.close()  # or this process would not notice the end of the main one
    with suppress(Exception):
        for result in map_in_threads(work, items, threads=FLUSHING_THREADS):
            sender.send(result)
