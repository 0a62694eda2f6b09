"""Many files at once, in bounded memory, with somebody watching."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future
from typing import Protocol, TypeVar

from pyramidseg.processors import available_processors
from pyramidseg.threads import thread_pool

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
