"""Stages that overlap: threads work ahead and behind while the model computes, within bounds, and keep the order.

A stage is a generator: whoever asks it for the next result also hands it the next work. So an error rises where the
result would have come, and closing the last stage ends them all, without a thread left behind.
"""

from collections import deque
from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from concurrent.futures import Future
from typing import TypeVar

import torch

from pyramidseg.base.machine import available_processors
from pyramidseg.base.parallel import thread_pool

# How model and pipeline share the processors that there are.


def use_available_processors() -> None:
    """Let torch, and the runtimes that ask it, start no more threads than there are processors for them.

    torch counts the machine's; in a container with a share of them, its threads would wait for each other.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_processors()))


def stage_threads() -> int:
    """Threads of a stage of the pipeline: half of the processors, as the model needs them too, and 8 at most."""
    return max(1, min(8, available_processors() // 2))


T = TypeVar("T")
R = TypeVar("R")

BATCH_PIXELS = 2**21
"""Pixels in a batch at most, unless a single image has more: what bounds the memory of a batch."""

AHEAD_PIXELS = 2 * BATCH_PIXELS
"""Pixels that may wait between two stages; beyond that, one item may."""

WINDOW_BATCHES = 4
"""How many batches far the members of a batch may lie apart."""


def in_order(
    work: Callable[[T], R],
    items: Iterable[T],
    *,
    threads: int,
    ahead: int,
    pixels: Callable[[T], int] = lambda item: 0,
    name: str,
) -> Generator[R, None, None]:
    """`work` of every item by threads, the results in the order of the items.

    At most `ahead` items, or `AHEAD_PIXELS` by the `pixels` of each, are in work or wait at any time; one always may,
    so that something happens while the caller is busy with the one before.
    """
    waiting: deque[tuple[Future[R], int]] = deque()
    held = 0
    with thread_pool(threads, name=name) as pool:
        for item in items:
            size = pixels(item)
            while len(waiting) > 1 and (len(waiting) >= ahead or held + size > AHEAD_PIXELS):
                future, released = waiting.popleft()
                held -= released
                yield future.result()
                del future  # or the result would live on while the next item is waited for
            waiting.append((pool.submit(work, item), size))
            held += size
            del item
        while waiting:
            yield waiting.popleft()[0].result()


def in_equal_batches(
    items: Iterable[T], *, kind: Callable[[T], Hashable | None], pixels: Callable[[T], int], batch_size: int
) -> Iterator[list[tuple[int, T]]]:
    """Items of one kind in batches of at most `batch_size` and `BATCH_PIXELS`, each with its position.

    What is of no kind (None) goes alone, at once.

    A batch goes as soon as it is full. Others wait for more of their kind, but no longer than until `WINDOW_BATCHES`
    full batches of items, or as many pixels, have come after their first.
    """
    waiting: dict[Hashable, list[tuple[int, T]]] = {}  # in the order of their first items
    began: dict[Hashable, tuple[int, int]] = {}
    position = seen = 0
    for item in items:
        key, size = kind(item), pixels(item)
        began.setdefault(key, (position, seen))
        waiting.setdefault(key, []).append((position, item))
        position, seen = position + 1, seen + size
        del item  # or it would live on while the next one is waited for
        if key is None or len(waiting[key]) >= min(batch_size, BATCH_PIXELS // max(size, 1)):
            del began[key]
            yield waiting.pop(key)
        while began:
            oldest, (first, seen_before) = next(iter(began.items()))
            if position - first <= WINDOW_BATCHES * batch_size and seen - seen_before <= WINDOW_BATCHES * BATCH_PIXELS:
                break
            del began[oldest]
            yield waiting.pop(oldest)
    for key in began:
        yield waiting.pop(key)


def restored(batches: Iterable[Iterable[tuple[int, R]]]) -> Iterator[R]:
    """Results of batches in the order of their positions, each as soon as those before it are there."""
    early: dict[int, R] = {}
    due = 0
    for batch in batches:
        early.update(batch)
        while due in early:
            yield early.pop(due)
            due += 1
