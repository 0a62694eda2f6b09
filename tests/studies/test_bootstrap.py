"""The paired bootstrap against loops, and its decisions where the answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyramidseg.base.classes import Classes
from pyramidseg.evaluation.metrics import compute_metrics
from pyramidseg.studies.bootstrap import Difference, _resampled, compare_pairs, counts_of, miou


def images(seed: int, *, quality: float, count: int = 60, classes: int = 4) -> np.ndarray:
    """Counts of images whose difficulty is the same for all models."""
    difficulty = np.random.default_rng(0).uniform(0.2, 0.6, size=count)
    rng = np.random.default_rng(seed)
    found = []
    for hardness in difficulty:
        truth = rng.integers(0, classes, 400)
        wrong = rng.random(400) < np.clip(hardness - quality, 0, 1)
        predicted = np.where(wrong, rng.integers(0, classes, 400), truth)
        confusion = np.bincount(truth * classes + predicted, minlength=classes**2).reshape(classes, classes)
        found.append(counts_of(confusion))
    return np.stack(found)


@given(st.lists(st.integers(0, 50), min_size=9, max_size=9))
def test_miou_from_counts_is_that_of_the_metrics(cells: list[int]) -> None:
    confusion = np.array(cells).reshape(3, 3)
    expected = compute_metrics(torch.from_numpy(confusion), Classes.unnamed(3), images=1).miou
    assert float(miou(counts_of(confusion))) == pytest.approx(expected, nan_ok=True)


def test_a_small_difference_on_the_same_images_is_significant() -> None:
    differences = compare_pairs({"worse": [images(1, quality=0.0)], "better": [images(2, quality=0.03)]})
    assert [(difference.first, difference.second) for difference in differences] == [("better", "worse")]
    assert differences[0].is_significant
    assert differences[0].low < differences[0].mean < differences[0].high


def test_one_image_and_one_seed_make_nothing_significant() -> None:
    (difference,) = compare_pairs({"a": [images(1, quality=0.0)[:1]], "b": [images(2, quality=0.3)[:1]]})
    assert difference.low == difference.high == difference.mean > 0.05
    assert not difference.is_significant
    assert not difference.is_equivalent


@pytest.mark.parametrize(
    ("low", "high", "significant", "equivalent"),
    [
        (0.01, 0.09, True, False),
        (-0.09, -0.01, True, False),
        (-0.01, 0.02, False, True),
        (-0.01, 0.05, False, False),
        (0.0, 0.0, False, False),
    ],
)
def test_a_difference_is_significant_or_noise_or_undecided(
    low: float, high: float, significant: bool, equivalent: bool
) -> None:
    difference = Difference("a", "b", (low + high) / 2, low, high)
    assert (difference.is_significant, difference.is_equivalent) == (significant, equivalent)


def test_models_that_differ_by_chance_are_not_told_apart() -> None:
    runs = {f"model {seed}": [images(seed, quality=0.1)] for seed in range(3, 6)}
    assert not any(difference.is_significant for difference in compare_pairs(runs))


def test_seeds_are_averaged() -> None:
    one, other = images(1, quality=0.0), images(2, quality=0.1)
    (difference,) = compare_pairs({"a": [one, other], "b": [one]})
    expected = (miou(one.sum(axis=0)) + miou(other.sum(axis=0))) / 2 - miou(one.sum(axis=0))
    assert difference.mean == pytest.approx(float(expected))


def test_a_difference_within_what_seeds_differ_by_is_not_real() -> None:
    good, bad = images(1, quality=0.1), images(2, quality=0.0)
    alone = compare_pairs({"a": [good], "b": [bad]})[0]
    several = compare_pairs({"a": [good, good, bad], "b": [bad, bad, good]})[0]
    assert alone.is_significant
    assert not several.is_significant


def test_a_difference_beyond_what_seeds_differ_by_is_real() -> None:
    a, b = ([images(seed, quality=quality) for seed in range(3)] for quality in (0.1, 0.0))
    assert compare_pairs({"a": a, "b": b})[0].is_significant


@pytest.mark.parametrize("seeds", [2, 3, 5])
def test_resampled_seeds_spread_as_their_mean_does(seeds: int) -> None:
    # Equal images leave only the seeds to chance: the mean of S seeds has the variance s^2 / S.
    runs = [np.repeat(images(seed, quality=0.1 * seed, count=1), 4, axis=0) for seed in range(seeds)]
    same = np.repeat(images(0, quality=0.0, count=1), 4, axis=0)
    mious = [float(miou(run.sum(axis=0))) for run in runs]
    resampled = _resampled(runs, np.ones((20_000, 4)), np.random.default_rng(0))
    assert resampled.mean() == pytest.approx(np.mean(mious), abs=2e-3)
    assert resampled.std() == pytest.approx(np.std(mious, ddof=1) / seeds**0.5, rel=0.03)
    assert compare_pairs({"a": [same], "b": [same]})[0].high == 0


def test_resampling_of_images_equals_a_loop() -> None:
    run = images(1, quality=0.0, count=5)
    (difference,) = compare_pairs({"a": [run], "b": [run + 1]}, resamples=50, seed=3)
    draws = np.random.default_rng(3).multinomial(5, np.full(5, 0.2), size=50)
    loop = []
    for times in draws:
        first = sum(count * image for count, image in zip(times, run, strict=True))
        second = sum(count * (image + 1) for count, image in zip(times, run, strict=True))
        loop.append(float(miou(first) - miou(second)))
    sign = 1 if difference.first == "a" else -1
    low, high = np.percentile(sign * np.array(loop), [2.5, 97.5])
    assert (difference.low, difference.high) == (pytest.approx(low), pytest.approx(high))
