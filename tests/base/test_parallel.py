"""Work in threads: order, number, and what is taken ahead."""

import threading
from collections.abc import Iterator

import pytest

from pyramidseg.base.parallel import map_in_threads


class TestInThreads:
    def test_keeps_the_order(self) -> None:
        assert list(map_in_threads(lambda number: number**2, range(50))) == [number**2 for number in range(50)]

    def test_starts_no_more_threads_than_there_are_processors(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyramidseg.base.parallel.available_processors", lambda: 2)
        before = threading.active_count()
        assert max(map_in_threads(lambda _: threading.active_count() - before, range(50))) <= 2

    def test_takes_only_a_few_items_ahead(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("pyramidseg.base.parallel.available_processors", lambda: 2)
        taken = 0

        def endless() -> Iterator[int]:
            nonlocal taken
            while True:
                taken += 1
                yield taken

        results = map_in_threads(lambda number: number, endless())
        assert [next(results) for _ in range(3)] == [1, 2, 3]
        results.close()
        assert taken < 20

    def test_leaves_no_thread_behind_after_an_error(self) -> None:
        before = threading.active_count()
        with pytest.raises(ZeroDivisionError):
            list(map_in_threads(lambda number: 1 // number, range(9)))
        assert threading.active_count() == before
