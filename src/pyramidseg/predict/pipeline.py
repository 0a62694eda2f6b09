"""Pipeline stages that run in threads while the model computes, with bounded memory and in order.

Each stage is a generator: asking it for the next result also feeds it the next items. So an error is raised where its
result would have been yielded, and closing the last stage ends all of them, without leaving a thread behind.
"""

from collections.abc import Callable, Generator, Hashable, Iterable, Iterator
from contextlib import closing
from operator import itemgetter
from typing import TypeVar

import torch

from pyramidseg.base.machine import available_processors
from pyramidseg.base.parallel import map_in_order

T = TypeVar("T")
R = TypeVar("R")

BATCH_PIXELS = 2**21
"""Most pixels in a batch, unless a single image has more; bounds the memory of a batch."""

WINDOW_BATCHES = 4
"""How many batches apart the members of a batch may be in the input."""


def use_available_processors() -> None:
    """Limit the threads of torch, and of the runtimes that ask it, to the processors available to this process.

    torch counts all processors of the machine; in a container with a share of them, its threads would compete.
    """
    torch.set_num_threads(min(torch.get_num_threads(), available_processors()))


def stage_threads() -> int:
    """Number of threads of a stage: half of the processors, as the model needs them too, and at most 8."""
    return max(1, min(8, available_processors() // 2))


def decode_ahead(
    decode: Callable[[T], R], items: Iterable[T], *, pixels: Callable[[T], int], threads: int, ahead: int
) -> Generator[R, None, None]:
    """`map_in_order` for image files: a thread of its own reads the number of pixels of each before it is decoded."""
    measured = map_in_order(lambda item: (item, pixels(item)), items, threads=1, ahead=ahead, name="measure")
    decoded = map_in_order(
        lambda pair: decode(pair[0]), measured, threads=threads, ahead=ahead, pixels=itemgetter(1), name="decode"
    )
    with closing(measured), closing(decoded):
        yield from decoded


def batch_by_key(
    items: Iterable[T], *, key: Callable[[T], Hashable | None], pixels: Callable[[T], int], batch_size: int
) -> Iterator[list[tuple[int, T]]]:
    """Group items of equal key into batches of at most `batch_size` items and `BATCH_PIXELS`, each with its position.

    An item whose key is None is yielded alone, at once. A batch is yielded as soon as it is full. Other batches wait
    for more items, but at most until `WINDOW_BATCHES` full batches of items, or as many pixels, came after their first.
    """
    waiting: dict[Hashable, list[tuple[int, T]]] = {}  # in the order of their first items
    started: dict[Hashable, tuple[int, int]] = {}
    position = seen = 0
    for item in items:
        item_key, size = key(item), pixels(item)
        started.setdefault(item_key, (position, seen))
        waiting.setdefault(item_key, []).append((position, item))
        position, seen = position + 1, seen + size
        del item  # or it would stay alive while the next one is awaited
        if item_key is None or len(waiting[item_key]) >= min(batch_size, BATCH_PIXELS // max(size, 1)):
            del started[item_key]
            yield waiting.pop(item_key)
        while started:
            oldest, (first, seen_before) = next(iter(started.items()))
            if position - first <= WINDOW_BATCHES * batch_size and seen - seen_before <= WINDOW_BATCHES * BATCH_PIXELS:
                break
            del started[oldest]
            yield waiting.pop(oldest)
    for item_key in started:
        yield waiting.pop(item_key)


def restore_order(batches: Iterable[Iterable[tuple[int, R]]]) -> Iterator[R]:
    """Yield the results of batches in the order of their positions, each once those before it are there."""
    early: dict[int, R] = {}
    due = 0
    for batch in batches:
        early.update(batch)
        while due in early:
            yield early.pop(due)
            due += 1
