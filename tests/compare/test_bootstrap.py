"""The paired bootstrap against loops, and its verdict where the answer is known."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pyramidseg.classes import Classes
from pyramidseg.compare.bootstrap import compare_pairs, counts_of, miou
from pyramidseg.evaluation.metrics import metrics_of


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
    expected = metrics_of(torch.from_numpy(confusion), Classes.numbered(3), images=1).miou
    assert float(miou(counts_of(confusion))) == pytest.approx(expected, nan_ok=True)


def test_a_small_difference_on_the_same_images_is_real() -> None:
    differences = compare_pairs({"worse": [images(1, quality=0.0)], "better": [images(2, quality=0.03)]})
    assert [(difference.first, difference.second) for difference in differences] == [("better", "worse")]
    assert differences[0].is_real
    assert differences[0].low < differences[0].mean < differences[0].high


def test_models_that_differ_by_chance_are_not_told_apart() -> None:
    runs = {f"model {seed}": [images(seed, quality=0.1)] for seed in range(3, 6)}
    assert not any(difference.is_real for difference in compare_pairs(runs))


def test_seeds_are_averaged() -> None:
    one, other = images(1, quality=0.0), images(2, quality=0.1)
    (difference,) = compare_pairs({"a": [one, other], "b": [one]})
    expected = (miou(one.sum(axis=0)) + miou(other.sum(axis=0))) / 2 - miou(one.sum(axis=0))
    assert difference.mean == pytest.approx(float(expected))


def test_resampling_equals_a_loop() -> None:
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
