import importlib
import json
import math
import warnings

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from pyramidseg.base.classes import Classes
from pyramidseg.evaluation.metrics import compute_image_score, compute_metrics, confusion_matrix

K = 5
PIXELS = hnp.arrays(np.uint8, st.integers(1, 60), elements=st.integers(0, K - 1))


def metrics_of_pixels(labels, truth, num_classes=K, images=1):
    confusion = confusion_matrix(torch.as_tensor(labels), torch.as_tensor(truth), num_classes)
    return compute_metrics(confusion, Classes.unnamed(num_classes), images=images)


@pytest.fixture(scope="module")
def oracle():
    """Imported when a test needs it: that takes seconds, also of those who collect the tests and run others."""
    return importlib.import_module("sklearn.metrics")


@given(data=st.data())
def test_class_metrics_equal_scikit_learn(oracle, data):
    truth = data.draw(PIXELS)
    labels = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, K - 1)))
    metrics = metrics_of_pixels(labels, truth)
    settings = {"labels": list(range(K)), "average": None, "zero_division": np.nan}
    for name, theirs in (
        ("precision", oracle.precision_score),
        ("recall", oracle.recall_score),
        ("dice", oracle.f1_score),
    ):
        ours = [getattr(entry, name) for entry in metrics.classes]
        np.testing.assert_allclose(ours, theirs(truth, labels, **settings), rtol=1e-12)
    # jaccard_score knows no NaN: what is in neither truth nor prediction counts 0 there.
    theirs = oracle.jaccard_score(truth, labels, labels=list(range(K)), average=None, zero_division=0)
    np.testing.assert_allclose(np.nan_to_num([entry.iou for entry in metrics.classes]), theirs, rtol=1e-12)
    assert metrics.pixel_accuracy == pytest.approx(oracle.accuracy_score(truth, labels), rel=1e-12)
    assert metrics.error == pytest.approx(1 - oracle.accuracy_score(truth, labels), abs=1e-12)


@given(data=st.data())
def test_means_equal_scikit_learn_over_the_classes_that_occur(oracle, data):
    truth = data.draw(PIXELS)
    labels = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, K - 1)))
    metrics = metrics_of_pixels(labels, truth)
    present = sorted(set(truth.tolist()) | set(labels.tolist()))
    assert metrics.miou == pytest.approx(
        oracle.jaccard_score(truth, labels, labels=present, average="macro", zero_division=0)
    )
    assert metrics.mean_dice == pytest.approx(
        oracle.f1_score(truth, labels, labels=present, average="macro", zero_division=0)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # scikit-learn warns of classes that are only predicted, and of a single class
        assert metrics.mean_class_accuracy == pytest.approx(oracle.balanced_accuracy_score(truth, labels))


@given(st.data())
def test_metrics_equal_their_definition_in_a_loop(data):
    truth = data.draw(hnp.arrays(np.uint8, st.integers(1, 40), elements=st.integers(0, K - 1) | st.just(255)))
    labels = data.draw(hnp.arrays(np.uint8, truth.shape, elements=st.integers(0, K - 1)))
    metrics = metrics_of_pixels(labels, truth)
    pairs = [(int(true), int(label)) for true, label in zip(truth, labels, strict=True) if true != 255]
    for entry in metrics.classes:
        hits = sum(true == label == entry.id for true, label in pairs)
        either = sum(entry.id in pair for pair in pairs)
        assert entry.pixels == sum(true == entry.id for true, _ in pairs)
        assert math.isnan(entry.iou) if not either else entry.iou == pytest.approx(hits / either)


def test_class_in_neither_truth_nor_prediction_is_left_out_of_the_mean():
    metrics = metrics_of_pixels([0, 0, 1], [0, 0, 1], num_classes=3)
    assert math.isnan(metrics.classes[2].iou)
    assert metrics.miou == metrics.mean_dice == 1.0


def test_class_that_is_only_predicted_scores_zero():
    metrics = metrics_of_pixels([0, 0, 2], [0, 0, 0], num_classes=3)
    assert metrics.classes[2].iou == metrics.classes[2].dice == 0.0
    assert metrics.miou == pytest.approx((2 / 3 + 0) / 2)


def test_without_labelled_pixels_all_metrics_are_null():
    content = metrics_of_pixels([0, 1], [255, 255], num_classes=2).to_dict()
    assert (
        content["miou"] is content["pixel_accuracy"] is content["mean_class_accuracy"] is content["mean_dice"] is None
    )


def test_large_counts_stay_exact():
    confusion = torch.tensor([[2**52, 1], [0, 2**52]])
    assert compute_metrics(confusion, Classes.unnamed(2), images=1).classes[0].pixels == 2**52 + 1


def test_to_dict_is_the_contract_of_metrics_json():
    content = metrics_of_pixels([0, 1, 1], [0, 1, 0], num_classes=3, images=7).to_dict()
    assert list(content) == ["miou", "pixel_accuracy", "mean_class_accuracy", "mean_dice", "images", "classes"]
    assert list(content["classes"][0]) == ["id", "name", "iou", "dice", "precision", "recall", "pixels"]
    assert content["images"] == 7
    assert content["classes"][2]["iou"] is None
    assert json.loads(json.dumps(content, allow_nan=False)) == content


@given(st.data())
def test_score_of_one_image_equals_the_metrics_of_that_image(data):
    counts = data.draw(hnp.arrays(np.int64, (4, 4), elements=st.integers(0, 50)))
    confusion = torch.from_numpy(counts)
    metrics, score = compute_metrics(confusion, Classes.unnamed(4), images=1), compute_image_score("a", confusion)
    np.testing.assert_equal((score.miou, score.pixel_accuracy), (metrics.miou, metrics.pixel_accuracy))
    assert score.pixels == counts.sum()
