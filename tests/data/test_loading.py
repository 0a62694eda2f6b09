"""The plan of an epoch, and the loader that follows it."""

from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.config import DataConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.class_masks import ClassMasks
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import Batch, TrainingLoader, TrainingSamples
from pyramidseg.data.pairs import Cache, FilePairs, cache_note
from pyramidseg.data.records import Record
from pyramidseg.data.transforms import Augmentation
from pyramidseg.formats.open_dataset import open_dataset


@given(st.integers(1, 200), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 5))
@settings(max_examples=150, deadline=None)
def test_every_sample_comes_exactly_once_and_no_batch_is_a_runt(
    samples: int, batch: int, accumulate: int, world: int, epoch: int
) -> None:
    if samples < accumulate * world:
        with pytest.raises(DataError, match="fewer"):
            EpochPlan(samples, batch, accumulate, world)
        return
    plan = EpochPlan(samples, batch, accumulate, world)
    parts = [
        part for step in range(plan.steps) for rank in range(world) for part in plan.micro_batches(epoch, step, rank)
    ]
    assert sorted(index for part in parts for index in part) == list(range(samples))
    sizes = {len(part) for part in parts}
    assert min(sizes) >= 1
    if plan.steps * accumulate * world * batch >= samples:
        assert max(sizes) <= batch
    assert max(sizes) - min(sizes) <= 2


@given(
    st.integers(1, 300), st.integers(1, 9), st.integers(1, 3), st.integers(1, 4), st.integers(0, 3), st.integers(0, 5)
)
@settings(max_examples=150, deadline=None)
def test_micro_batches_are_those_of_splitting_the_whole_order(
    samples: int, batch: int, accumulate: int, world: int, seed: int, epoch: int
) -> None:
    plan = EpochPlan(max(samples, accumulate * world), batch, accumulate, world, seed)
    order = np.random.default_rng(position_seed("order", seed, epoch)).permutation(plan.samples)
    for step, members in enumerate(np.array_split(order, plan.steps)):
        for rank, mine in enumerate(np.array_split(members, world)):
            expected = [part.tolist() for part in np.array_split(mine, accumulate)]
            assert plan.micro_batches(epoch, step, rank) == expected


def test_an_epoch_of_a_hundred_thousand_samples_draws_its_order_once(monkeypatch: pytest.MonkeyPatch) -> None:
    drawn: list[tuple[int | str, ...]] = []

    def watched(*position: int | str) -> int:
        drawn.append(position)
        return position_seed(*position)

    monkeypatch.setattr("pyramidseg.data.epoch_plan.position_seed", watched)
    plan = EpochPlan(100_000, 4, seed=987)
    assert plan.steps == 25_000
    for epoch in range(2):
        dealt = [index for step in range(plan.steps) for part in plan.micro_batches(epoch, step) for index in part]
        assert sorted(dealt) == list(range(100_000))
    assert drawn == [("order", 987, 0), ("order", 987, 1)]


def test_plans_that_are_equal_are_one_key() -> None:
    assert len({EpochPlan(9, 2), EpochPlan(9, 2), EpochPlan(9, 3)}) == 2


def test_epochs_and_seeds_have_orders_of_their_own() -> None:
    orders = {
        str([EpochPlan(50, 5, seed=seed).micro_batches(epoch, step) for step in range(10)])
        for seed in range(3)
        for epoch in range(3)
    }
    assert len(orders) == 9


def loader_of(scenes: Path, *, workers: int, held: bool = False) -> TrainingLoader:
    dataset = open_dataset(scenes, DataConfig())
    pairs = FilePairs(dataset.split("train"), dataset.masks, 3, cached=held)
    pairs.preload()
    samples = TrainingSamples(pairs, augmentation=Augmentation(AugmentationConfig(crop=(32, 48))), seed=1)
    return TrainingLoader(samples, EpochPlan(len(pairs), 6, seed=1), rank=0, workers=workers, pin=False)


def same(first: list[list[Batch]], second: list[list[Batch]]) -> bool:
    pairs = zip(first, second, strict=True)
    return all(torch.equal(a.images, b.images) and torch.equal(a.labels, b.labels) for (a,), (b,) in pairs)


def test_batches_are_bytes_channels_last(scenes: Path) -> None:
    (batch,) = next(loader_of(scenes, workers=0).steps(0))
    assert batch.images.shape == (len(batch.keys), 3, 32, 48)
    assert batch.images.dtype == batch.labels.dtype == torch.uint8
    assert batch.images.is_contiguous(memory_format=torch.channels_last)


def test_several_crops_of_each_image_differ(scenes: Path) -> None:
    loader = loader_of(scenes, workers=0)
    samples, images = loader._samples, len(open_dataset(scenes, DataConfig()).split("train"))
    first, again, next_epoch = samples[0, 1], samples[0, 1 + images], samples[1, 1]
    assert isinstance(first, tuple) and isinstance(again, tuple) and isinstance(next_epoch, tuple)
    assert len({crop[0].tobytes() for crop in (first, again, next_epoch)}) == 3
    assert again[2] == (0, 1 + images)


def test_workers_and_a_later_start_change_nothing(scenes: Path) -> None:
    plain = loader_of(scenes, workers=0)
    with closing(loader_of(scenes, workers=2)) as worked:
        for epoch in (0, 1):
            whole = list(plain.steps(epoch))
            assert same(whole, list(worked.steps(epoch)))
            assert same(whole[2:], list(worked.steps(epoch, start=2)))


@pytest.mark.parametrize("workers", [0, 2])
def test_pairs_held_in_memory_change_nothing(scenes: Path, workers: int) -> None:
    with closing(loader_of(scenes, workers=workers, held=True)) as held:
        assert same(list(loader_of(scenes, workers=0).steps(1)), list(held.steps(1)))


def test_pairs_are_held_where_they_fit() -> None:
    def held(cache: Cache, *, free: int, epochs: int = 9) -> bool:
        return bool(cache_note(9, cache, size_bytes=1000, free_bytes=free, copies=1, epochs=epochs))

    assert held("auto", free=5000)
    assert not held("auto", free=3000)
    assert not held("auto", free=5000, epochs=1)
    assert held("memory", free=3000)
    assert not held("none", free=5000)
    with pytest.raises(ConfigError, match="cache=memory"):
        held("memory", free=999)


@pytest.mark.parametrize("workers", [0, 1])
def test_an_unreadable_image_is_one_clear_error(scenes: Path, tmp_path: Path, workers: int) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no image")
    records = [Record("broken", broken, broken)] * 20
    with closing(loader_of(scenes, workers=workers)) as loader:
        loader._samples.pairs = FilePairs(records, ClassMasks.identity(2), 3)  # type: ignore[attr-defined]
        with pytest.raises(DataError, match=r"broken\.png") as error:
            list(loader.steps(0))
    assert "Traceback" not in str(error.value)
