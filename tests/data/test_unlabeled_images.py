"""Unlabelled images in training batches: which come when, and their two views."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.classes import IGNORE
from pyramidseg.data import transforms
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import TrainingLoader, TrainingSamples
from pyramidseg.data.pairs import AllPixels, FilePairs
from pyramidseg.data.records import Record
from pyramidseg.data.transforms import Augmentation

PLAIN = AugmentationConfig(augment="none", crop=(24, 32))


@given(st.integers(4, 40), st.integers(1, 30), st.integers(1, 5), st.integers(1, 2), st.integers(1, 2))
@settings(max_examples=60, deadline=None)
def test_each_unlabelled_image_comes_once_in_a_pass_through_all_epochs(
    samples: int, unlabeled: int, batch: int, accumulate: int, world: int
) -> None:
    plan = EpochPlan(samples, batch, accumulate, world, 3, unlabeled)
    drawn = []
    for epoch in range(3):
        for step in range(plan.steps):
            for rank in range(world):
                keys = plan.keys(epoch, step, rank)
                assert len(keys) == plan.parts == 2 * accumulate
                assert keys[:accumulate] == [
                    [(epoch, index) for index in part] for part in plan.micro_batches(epoch, step, rank)
                ]
                assert all(len(part) == batch for part in keys[accumulate:])
                drawn += [key for part in keys[accumulate:] for key in part]
    for start in range(0, len(drawn) - unlabeled + 1, unlabeled):
        seen = drawn[start : start + unlabeled]
        assert {turn for turn, _ in seen} == {start // unlabeled}
        assert sorted(-1 - index for _, index in seen) == list(range(unlabeled))


def test_without_unlabelled_images_the_plan_is_as_before() -> None:
    plan = EpochPlan(9, 2, seed=5)
    assert plan.parts == 1
    assert plan.keys(1, 2) == [[(1, index) for index in plan.micro_batches(1, 2)[0]]]


def photo(seed: int, height: int = 48, width: int = 64) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def test_both_views_show_the_same_pixels_and_only_the_second_one_has_other_looks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    image, inside = photo(0), np.zeros((48, 64), np.uint8)
    loud = AugmentationConfig(crop=(24, 32), augment="strong", copy_paste=1.0, cutout=1.0)
    for seed in range(5):
        both, shown = Augmentation(loud, (1, 1)).two_views(image, inside, np.random.default_rng(seed))
        weak, strong = both[..., :3], both[..., 3:]
        assert both.shape == (24, 32, 6)
        assert both.dtype == np.uint8
        assert (weak != strong).any()
        assert set(np.unique(shown)) <= {0, IGNORE}
    monkeypatch.setattr(transforms, "STRONG_COLOR", 0.0)
    monkeypatch.setattr(transforms, "STRONG_LOOKS", AugmentationConfig(augment="none"))
    both, _ = Augmentation(loud, (1, 1)).two_views(image, inside, np.random.default_rng(0))
    assert np.array_equal(both[..., :3], both[..., 3:]), "places, scales and directions are the same"


def test_the_weak_view_is_a_piece_of_the_image_and_padding_is_not_to_be_labelled() -> None:
    image = photo(1, height=20)
    both, shown = Augmentation(PLAIN).two_views(image, np.zeros((20, 64), np.uint8), np.random.default_rng(0))
    assert (shown == IGNORE).sum() == 4 * 32
    piece = both[..., :3][(shown == 0).any(axis=1)]
    assert any(np.array_equal(piece, image[:, left : left + 32]) for left in range(33))


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_views_keep_other_types_and_channels(dtype: str) -> None:
    image = np.random.default_rng(0).uniform(0, 1000, (30, 40, 5)).astype(dtype)
    both, _ = Augmentation(PLAIN).two_views(image, np.zeros((30, 40), np.uint8), np.random.default_rng(0))
    assert both.shape == (24, 32, 10)
    assert both.dtype == dtype
    assert np.isfinite(both).all()


def test_a_loader_that_starts_late_gives_the_same_batches(tmp_path: Path) -> None:
    records = []
    for index in range(6):
        Image.fromarray(photo(index)).save(tmp_path / f"{index}.png")
        records.append(Record(str(index), tmp_path / f"{index}.png"))
    labelled, others = (FilePairs(some, AllPixels(), 3) for some in (records[:4], records[4:]))
    samples = TrainingSamples(labelled, augmentation=Augmentation(PLAIN), seed=1, unlabeled=others)
    loaded = {}
    for start in (0, 1):
        loader = TrainingLoader(samples, EpochPlan(4, 2, seed=1, unlabeled=2), rank=0, workers=0, pin=False)
        loaded[start] = list(loader.steps(0, start=start))
    assert [[batch.is_labelled for batch in step] for step in loaded[0]] == [[True, False]] * 2
    assert [tuple(batch.images.shape) for batch in loaded[0][0]] == [(2, 3, 24, 32), (2, 6, 24, 32)]
    for late, early in zip(loaded[1][0], loaded[0][1], strict=True):
        assert late.keys == early.keys
        assert torch.equal(late.images, early.images)
        assert torch.equal(late.labels, early.labels)
