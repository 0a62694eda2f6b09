"""Shares of an epoch's crops by set: exact numbers, every image equally often, a function of seed and epoch."""

from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base.config import Config
from pyramidseg.base.errors import DataError
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.training.components import plan_epochs


def drawn(plan: EpochPlan, epoch: int) -> list[int]:
    return [index for step in range(plan.steps) for part in plan.micro_batches(epoch, step) for index in part]


def plan_of(sizes: tuple[int, ...], shares: tuple[float, ...], seed: int = 0) -> EpochPlan:
    sets = bytes(np.repeat(range(len(sizes)), sizes).tolist())
    return EpochPlan(sum(sizes), 4, seed=seed, sets=sets, shares=shares)


def test_an_epoch_has_as_many_crops_of_each_set_as_its_share() -> None:
    plan = plan_of((30, 10), (1, 3))
    assert plan.crops_by_set == [10, 30]
    for epoch in range(4):
        order = drawn(plan, epoch)
        assert len(order) == 40
        assert Counter(index >= 30 for index in order) == {False: 10, True: 30}


@given(st.lists(st.integers(1, 40), min_size=1, max_size=4), st.lists(st.integers(1, 9), min_size=4, max_size=4))
@settings(max_examples=60, deadline=None)
def test_a_set_is_used_up_before_it_begins_again(sizes: list[int], weights: list[int]) -> None:
    shares = tuple(map(float, weights[: len(sizes)]))
    try:
        plan = plan_of(tuple(sizes), shares)
    except DataError:
        return
    seen: Counter[int] = Counter(dict.fromkeys(range(sum(sizes)), 0))
    starts = np.cumsum([0, *sizes])
    for epoch in range(5):
        seen.update(drawn(plan, epoch))
        for start, end in pairwise(starts):
            times = [seen[index] for index in range(start, end)]
            assert max(times) - min(times) <= 1
    assert seen.total() == 5 * sum(sizes)


def test_the_order_is_a_function_of_seed_and_epoch() -> None:
    plan = plan_of((7, 5), (0.5, 0.5))
    later = drawn(plan_of((7, 5), (0.5, 0.5)), 3)  # as after resuming, without the epochs before
    assert [drawn(plan, epoch) for epoch in range(4)][3] == later
    assert drawn(plan_of((7, 5), (0.5, 0.5), seed=1), 3) != later


def test_sets_are_mixed_within_an_epoch() -> None:
    order = drawn(plan_of((100, 100), (0.5, 0.5)), 0)
    assert 30 < sum(index < 100 for index in order[:100]) < 70


def test_sets_may_come_in_any_order_and_only_shares_that_are_given_count() -> None:
    sets = ["a", "b", "a", "b", "a"]  # as in cross-validation
    plan = plan_epochs(Config(), samples=5, sets=sets, shares={"a": 0.2, "b": 0.8, "c": 4.0})
    assert plan.crops_by_set == [1, 4]
    assert Counter(index % 2 for index in drawn(plan, 0)) == {1: 4, 0: 1}
    by_size = plan_epochs(Config(), samples=5, sets=sets, shares={"a": None, "b": None})
    assert by_size == plan_epochs(Config(), samples=5)


def test_a_share_without_a_crop_is_refused() -> None:
    with pytest.raises(DataError, match="leave a set without"):
        plan_of((9, 1), (1000, 1))
