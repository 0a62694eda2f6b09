import threading
import time

import pytest

from pyramidseg.base.parallel import map_in_order
from pyramidseg.predict import pipeline
from pyramidseg.predict.pipeline import batch_by_key, restore_order


def squares(items, **options):
    options = {"threads": 3, "ahead": 4, "name": "test"} | options
    return map_in_order(lambda item: item**2, items, **options)


def test_results_keep_the_order_of_the_items():
    def work(item):
        time.sleep(0.002 * (item % 3 == 0))
        return item

    assert list(map_in_order(work, range(30), threads=4, ahead=6, name="test")) == list(range(30))


def test_at_most_ahead_items_are_taken_before_results_are_requested():
    taken = []
    stage = squares((taken.append(index) or index for index in range(100)), ahead=4)
    for done in range(1, 21):
        next(stage)
        assert len(taken) <= done + 4 + 1
    stage.close()
    assert len(taken) <= 25


def test_large_items_wait_alone_and_one_is_always_ahead():
    started = []
    stage = map_in_order(
        lambda item: started.append(item) or item, range(9), threads=1, ahead=8, pixels=lambda _: 10**9, name="test"
    )
    for item in range(8):
        assert next(stage) == item
        assert len(started) <= item + 2
    stage.close()
    assert len(started) == 9


def test_work_overlaps_with_the_caller():
    started = threading.Event()
    stage = map_in_order(lambda item: item == 1 and started.set(), range(3), threads=1, ahead=2, name="test")
    next(stage)
    assert started.wait(timeout=30)  # the second item is worked on although it was not requested yet
    stage.close()


def test_an_error_is_raised_where_its_result_would_have_been_yielded():
    stage = map_in_order(lambda item: 1 / (item - 2), range(9), threads=2, ahead=4, name="test")
    assert [next(stage), next(stage)] == [-0.5, -1.0]
    with pytest.raises(ZeroDivisionError):
        next(stage)
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("test")]


def batches_of(items, *, batch_size, pixels=lambda _: 1):
    """Batches of words of equal length; the empty word has the key None."""
    return list(batch_by_key(items, key=lambda word: len(word) or None, pixels=pixels, batch_size=batch_size))


def test_equal_items_share_batches_across_others():
    assert batches_of(["a", "bb", "c", "dd", "e"], batch_size=2) == [
        [(0, "a"), (2, "c")],
        [(1, "bb"), (3, "dd")],
        [(4, "e")],
    ]


def test_an_item_without_a_key_is_yielded_alone_and_at_once():
    assert batches_of(["a", "", "b"], batch_size=2) == [[(1, "")], [(0, "a"), (2, "b")]]


def test_a_single_item_of_its_key_does_not_wait_forever():
    batches = batches_of(["odd"] + ["a"] * 40, batch_size=2)
    assert batches.index([(0, "odd")]) <= pipeline.WINDOW_BATCHES


def test_a_single_item_of_its_key_waits_for_a_bounded_number_of_pixels():
    sizes = {"odd": 1, "a": pipeline.BATCH_PIXELS}
    batches = batches_of(["odd"] + ["a"] * 40, batch_size=50, pixels=sizes.get)
    assert batches.index([(0, "odd")]) == pipeline.WINDOW_BATCHES


def test_batches_are_bounded_in_pixels():
    batches = batches_of(["a"] * 7, batch_size=5, pixels=lambda _: pipeline.BATCH_PIXELS // 3)
    assert [len(batch) for batch in batches] == [3, 3, 1]


def test_restore_order_yields_each_result_once_its_predecessors_are_there():
    early = restore_order(iter([[(1, "b"), (2, "c")], [(0, "a")], [(3, "d")]]))
    assert list(early) == ["a", "b", "c", "d"]
