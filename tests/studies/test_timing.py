import gc

import pytest

from pyramidseg.base import timing
from pyramidseg.base.timing import Timing, alternate


def test_contestants_take_turns_in_an_order_that_turns_by_one():
    calls = []
    timings = alternate({name: lambda name=name: calls.append(name) for name in "abc"}, rounds=2, warmup=1)
    assert "".join(calls) == "abc" + "bca" + "cab"
    assert {name: len(timing.seconds) for name, timing in timings.items()} == {"a": 2, "b": 2, "c": 2}


def test_ratios_are_taken_round_by_round():
    # The machine was twice as slow in the last two rounds: the medians' quotient would be 2.
    slow, quick = Timing((0.3, 0.6, 0.6)), Timing((0.1, 0.2, 0.3))
    assert slow.ratio_to(quick) == pytest.approx(3.0)
    assert slow.milliseconds == pytest.approx(600)


def test_collections_between_calls_leave_out_what_was_there_before(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(timing, "gc", gc)  # which tests do without
    gc.unfreeze()
    found = []
    try:
        alternate({"a": lambda: found.append(gc.get_freeze_count())}, rounds=1, warmup=1)
        assert all(count > 100_000 for count in found) and gc.get_freeze_count() == 0
    finally:
        gc.freeze()
