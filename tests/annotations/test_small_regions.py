"""Small regions become part of the neighbour with the highest confidence."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyramidseg.annotations.contours import number_regions
from pyramidseg.annotations.small_regions import merge_small_regions

label_maps = st.tuples(st.integers(1, 8), st.integers(1, 8)).flatmap(
    lambda shape: arrays(np.uint8, shape, elements=st.integers(0, 3))
)


def merged_labels(labels: np.ndarray, confidence: np.ndarray, least: int, rows: int = 99, **skip: object) -> np.ndarray:
    """In blocks of rows."""

    def blocks() -> list[tuple[np.ndarray, np.ndarray]]:
        return [(labels[top : top + rows], confidence[top : top + rows]) for top in range(0, len(labels), rows)]

    return np.concatenate([*merge_small_regions(blocks, min_pixels=least, **skip)])


def one_by_one(labels: np.ndarray, confidence: np.ndarray, least: int) -> np.ndarray:
    """The same, with all regions numbered again after each step."""
    labels = labels.copy()
    while True:
        numbers = number_regions(labels)
        sizes = np.bincount(numbers.ravel())[1:]
        if len(sizes) == 1 or sizes.min() >= least:
            return labels
        firsts = [int(np.flatnonzero(numbers.ravel() == number)[0]) for number in range(1, len(sizes) + 1)]
        smallest = min(range(len(sizes)), key=lambda index: (sizes[index], firsts[index])) + 1
        around: set[int] = set()
        for one, other in ((numbers[:, :-1], numbers[:, 1:]), (numbers[:-1], numbers[1:])):
            around |= {*other[(one == smallest)].tolist(), *one[other == smallest].tolist()}
        around.discard(smallest)
        chosen = max(around, key=lambda number: (confidence[numbers == number].mean(), sizes[number - 1]))
        labels[numbers == smallest] = labels[numbers == chosen][0]


@example(np.array([[0, 1], [2, 1]], np.uint8), 8, 3, 1)  # of two regions of 2 pixels, the merged one begins first
@given(label_maps, st.integers(0, 2**32), st.integers(1, 12), st.integers(1, 4))
@settings(max_examples=80, deadline=None)
def test_it_equals_merging_one_by_one_in_blocks_of_any_size(labels, seed, least, rows):
    generator = np.random.default_rng(seed)
    confidence = generator.permutation(labels.size).reshape(labels.shape).astype(np.float32) ** 2  # no equal means
    merged = merged_labels(labels, confidence, least, rows)
    sizes = np.bincount(number_regions(merged).ravel())[1:]
    assert len(sizes) == 1 or sizes.min() >= least
    expected = one_by_one(labels, confidence, least)
    assert np.bincount(number_regions(expected).ravel())[1:].min() >= min(least, labels.size)
    np.testing.assert_array_equal(merged, expected)


def test_the_most_confident_neighbour_is_chosen_not_the_largest():
    labels = np.array([[0, 0, 0, 0, 1, 2, 2]] * 2, np.uint8)
    confidence = np.where(labels == 2, 0.9, 0.5).astype(np.float32)
    merged = merged_labels(labels, confidence, 3)
    np.testing.assert_array_equal(merged, [[0, 0, 0, 0, 2, 2, 2]] * 2)
    np.testing.assert_array_equal(labels[0], [0, 0, 0, 0, 1, 2, 2])


def test_diagonal_pixels_are_regions_of_their_own():
    labels = np.eye(4, dtype=np.uint8)
    merged = merged_labels(labels, np.ones((4, 4), np.float32), 2)
    assert not merged.any()


@pytest.mark.parametrize("least", [0, 1])
def test_nothing_is_below_one_pixel(least):
    labels = np.eye(4, dtype=np.uint8)
    np.testing.assert_array_equal(merged_labels(labels, np.ones((4, 4), np.float32), least), labels)


def test_skipped_values_are_neither_merged_nor_merged_with():
    labels = np.array([[9, 9, 9, 9], [9, 1, 0, 0], [9, 9, 9, 9], [2, 9, 3, 3]], np.uint8)
    confidence = np.where(labels == 9, np.nan, 0.5).astype(np.float32)
    expected = np.array([[9, 9, 9, 9], [9, 0, 0, 0], [9, 9, 9, 9], [2, 9, 3, 3]])
    for rows in (1, 2, 4):
        np.testing.assert_array_equal(merged_labels(labels, confidence, 2, rows, skip=[9]), expected)
