import base64
import io
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pyramidseg.base.classes import Classes
from pyramidseg.evaluation.example_images import MAX_WIDTH_PX, WRONG, make_example, select_examples
from pyramidseg.evaluation.metrics import ImageScore
from pyramidseg.images.thumbnails import to_rgb

CLASSES = Classes(("a", "b"), ((255, 0, 0), (0, 0, 255)))
SCORE = ImageScore("image", 0.5, 0.5, 1)


def opened(uri):
    return Image.open(io.BytesIO(base64.b64decode(uri.partition("base64,")[2])))


def example_of(truth, labels, image=None):
    image = np.full((*truth.shape, 3), 90, np.uint8) if image is None else image
    return make_example(image, truth, labels, CLASSES, SCORE)


@given(st.lists(st.floats(0, 1) | st.just(math.nan), max_size=20), st.integers(0, 8))
def test_worst_and_best_images_are_selected_once_each(mious, count):
    scores = [ImageScore(str(index), miou, 0.5, 1) for index, miou in enumerate(mious)]
    chosen = select_examples(scores, count)
    ranked = sorted(miou for miou in mious if not math.isnan(miou))
    assert len({entry.record_id for entry in chosen}) == len(chosen) == min(count, len(ranked))
    assert [entry.miou for entry in chosen] == ranked[: (len(chosen) + 1) // 2] + ranked[
        len(ranked) - len(chosen) // 2 :
    ]


def test_truth_is_in_class_colours_with_ignored_pixels_transparent():
    picture = opened(example_of(np.array([[0, 1, 255]], np.uint8), np.zeros((1, 3), np.uint8)).truth).convert("RGBA")
    assert [picture.getpixel((x, 0)) for x in range(2)] == [(255, 0, 0, 255), (0, 0, 255, 255)]
    assert picture.getpixel((2, 0))[3] == 0


def test_errors_mark_wrong_pixels_and_no_others():
    truth = np.zeros((60, 90), np.uint8)
    truth[:, 60:] = 255
    labels = truth.copy()
    labels[:, 30:60] = 1
    labels[:, 60:] = 1
    errors = np.array(opened(example_of(truth, labels).errors)).astype(int)
    right, wrong, ignored = errors[30, 15], errors[30, 45], errors[30, 75]
    assert abs(wrong - WRONG).max() < 12
    assert np.ptp(right) < 12
    assert np.ptp(ignored) < 12
    assert right[0] - ignored[0] > 20


def test_a_single_wrong_pixel_of_a_large_image_stays_visible():
    truth = np.zeros((1000, 2000), np.uint8)
    labels = truth.copy()
    labels[500:504, 1000:1004] = 1
    errors = np.array(opened(example_of(truth, labels).errors)).astype(int)
    assert np.ptp(errors, axis=2).max() > 60


def test_pictures_are_small_and_keep_their_shape():
    example = example_of(np.zeros((1500, 3000), np.uint8), np.zeros((1500, 3000), np.uint8))
    for uri in (example.image, example.truth, example.prediction, example.errors):
        assert opened(uri).size == (MAX_WIDTH_PX, MAX_WIDTH_PX // 2)


@pytest.mark.parametrize("size", [(1, 1), (1, 5000), (5000, 1), (7, 3)])
def test_any_size_can_be_drawn(size):
    labels = np.zeros(size, np.uint8)
    assert example_of(labels, labels).errors


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int16, np.float32, np.float64])
@pytest.mark.parametrize("channels", [1, 2, 3, 4, 8])
def test_any_dtype_and_channel_count_becomes_rgb(dtype, channels):
    image = np.arange(6 * 5 * channels).reshape(6, 5, channels).astype(dtype)
    picture = to_rgb(image)
    assert picture.shape == (6, 5, 3)
    assert picture.dtype == np.uint8
    if channels < 3:
        assert (picture == picture[..., :1]).all()


def test_constant_and_missing_values_do_not_divide_by_zero():
    assert to_rgb(np.full((2, 2, 3), 7, np.uint16)).max() == 0
    assert to_rgb(np.full((2, 2, 3), np.nan, np.float32)).max() == 0
