import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyramidseg.base.errors import DataError
from pyramidseg.evaluation.metrics import confusion_matrix


def counted_by_loop(labels: np.ndarray, truth: np.ndarray, num_classes: int) -> list[list[int]]:
    counts = [[0] * num_classes for _ in range(num_classes)]
    for label, true in zip(labels.flat, truth.flat, strict=True):
        if true != 255:
            counts[true][label] += 1
    return counts


@given(st.data(), st.integers(1, 255), st.sampled_from([torch.uint8, torch.int32, torch.int64]))
def test_equals_a_loop_over_pixels(data, num_classes, dtype):
    shape = data.draw(hnp.array_shapes(max_dims=3, max_side=8))
    labels = data.draw(hnp.arrays(np.uint8, shape, elements=st.integers(0, num_classes - 1)))
    true_values = st.integers(0, num_classes - 1) | st.just(255)
    truth = data.draw(hnp.arrays(np.uint8, shape, elements=true_values))
    confusion = confusion_matrix(torch.from_numpy(labels).to(dtype), torch.from_numpy(truth), num_classes)
    assert confusion.dtype == torch.int64
    assert confusion.tolist() == counted_by_loop(labels, truth, num_classes)


def test_uint8_does_not_wrap_with_many_classes():
    labels = torch.arange(200, dtype=torch.uint8)
    assert torch.equal(confusion_matrix(labels, labels, 200), torch.eye(200, dtype=torch.int64))


def test_predictions_at_ignored_pixels_are_not_counted():
    assert confusion_matrix(torch.tensor([250, 255, 1]), torch.tensor([255, 255, 1]), 2).tolist() == [[0, 0], [0, 1]]


def test_no_pixels_give_zeros():
    empty = torch.zeros(0, 4, dtype=torch.uint8)
    assert confusion_matrix(empty, empty, 3).tolist() == [[0] * 3] * 3


@pytest.mark.parametrize(
    ("labels", "truth", "named"),
    [
        ([2], [0], "predicted label 2"),
        ([0], [2], "true label 2"),
        ([0], [254], "true label 254"),
        ([256], [0], "predicted label 256"),
        ([0], [-1], "true label -1"),
    ],
)
def test_unknown_label_is_named_in_the_error(labels, truth, named):
    with pytest.raises(DataError, match=named):
        confusion_matrix(torch.tensor(labels), torch.tensor(truth), 2)


def test_shapes_must_agree():
    with pytest.raises(DataError, match=r"\(2,\).*\(3,\)"):
        confusion_matrix(torch.zeros(2, dtype=torch.uint8), torch.zeros(3, dtype=torch.uint8), 2)


def test_arguments_are_not_modified() -> None:
    labels, truth = torch.tensor([0, 1, 2]), torch.tensor([0, 1, 255])
    confusion_matrix(labels, truth, 3)
    assert (labels.tolist(), truth.tolist()) == ([0, 1, 2], [0, 1, 255])
