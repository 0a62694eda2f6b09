import itertools

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyramidseg.backends import LogitGeometry
from pyramidseg.predict import label_maps as labels_module
from pyramidseg.predict.label_maps import dense_labels, label_maps, sparse_labels
from pyramidseg.predict.upsampling import bilinear_axis

STRIDES = st.sampled_from([1, 2, 3, 4])
GEOMETRIES = st.builds(LogitGeometry, stride=STRIDES, align_corners=st.booleans())


@st.composite
def cases(draw, elements, dtype, geometries=GEOMETRIES):
    """Coarse logits (K, h, w), their geometry, and the size of the crop."""
    geometry = draw(geometries)
    classes, height, width = draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 6)))
    coarse = draw(arrays(dtype, (classes, height, width), elements=elements, fill=st.nothing()))
    crop = draw(st.integers(1, height * geometry.stride)), draw(st.integers(1, width * geometry.stride))
    return torch.from_numpy(coarse), geometry, crop


def upsample_rows(coarse, geometry, crop):
    return geometry.upsample(coarse[None], *crop)[0].numpy()


def assert_best_up_to(labels, full, tolerance):
    """Every label's logit is the largest one, up to rounding."""
    chosen = np.take_along_axis(full, labels[None].astype(np.int64), axis=0)[0]
    assert (full.max(axis=0) - chosen <= tolerance * np.abs(full).max(axis=0)).all()


@given(cases(st.integers(-4, 4), np.float64, st.builds(LogitGeometry, st.sampled_from([1, 2, 4]), st.just(False))))
@settings(max_examples=150, deadline=None)
def test_exact_arithmetic_gives_the_argmax_of_the_interpolation_including_ties(case):
    coarse, geometry, crop = case  # small whole numbers and weights of eighths: nothing is rounded
    labels = label_maps(coarse[None], *crop, geometry)[0].numpy()
    np.testing.assert_array_equal(labels, upsample_rows(coarse, geometry, crop).argmax(axis=0))


@given(cases(st.floats(-1e3, 1e3), np.float64))
@settings(max_examples=150, deadline=None)
def test_float64_gives_the_argmax_of_the_interpolation(case):
    coarse, geometry, crop = case
    labels, full = label_maps(coarse[None], *crop, geometry)[0].numpy(), upsample_rows(coarse, geometry, crop)
    assert_best_up_to(labels, full, 1e-13)
    best, second = np.sort(np.pad(full, ((1, 0), (0, 0), (0, 0)), constant_values=-np.inf), axis=0)[:-3:-1]
    clear = best - second > 1e-9 * np.abs(full).max()
    np.testing.assert_array_equal(labels[clear], full.argmax(axis=0)[clear])


@given(cases(st.floats(-1e3, 1e3, width=32), np.float32))
@settings(max_examples=100, deadline=None)
def test_float32_differs_only_where_the_best_two_logits_are_equal_up_to_rounding(case):
    coarse, geometry, crop = case
    full = upsample_rows(coarse.double(), geometry, crop)
    assert_best_up_to(label_maps(coarse[None], *crop, geometry)[0].numpy(), full, 1e-6)


def random_logits(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_batches_in_either_memory_format_equal_the_argmax(align_corners, memory_format):
    geometry = LogitGeometry(4, align_corners)
    coarse = random_logits(2, 40, 13, 17).contiguous(memory_format=memory_format)
    labels = label_maps(coarse, 50, 61, geometry)
    assert labels.dtype == torch.uint8
    assert torch.equal(labels.long(), geometry.upsample(coarse, 50, 61).argmax(dim=1))


def test_result_does_not_depend_on_the_block_size(monkeypatch):
    coarse, geometry = random_logits(1, 9, 11, 12), LogitGeometry(4, align_corners=False)
    whole = label_maps(coarse, 42, 48, geometry)
    monkeypatch.setattr(labels_module, "BLOCK_VALUES", 200)  # two rows of cells, and a few mixed cells at a time
    assert torch.equal(label_maps(coarse, 42, 48, geometry), whole)


@pytest.mark.parametrize("align_corners", [False, True])
def test_dense_labels_as_on_a_gpu_are_the_same(align_corners):
    coarse, geometry = random_logits(3, 5, 6, 7), LogitGeometry(4, align_corners)
    rows, columns = bilinear_axis(6, 23, geometry), bilinear_axis(7, 26, geometry)
    dense = dense_labels(coarse, rows, columns, geometry).numpy()
    np.testing.assert_array_equal(dense, sparse_labels(coarse.numpy(), rows, columns))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA GPU")
def test_label_maps_of_a_gpu_are_those_of_the_cpu():
    coarse, geometry = random_logits(3, 5, 6, 7), LogitGeometry(4, align_corners=False)
    assert torch.equal(label_maps(coarse.cuda(), 23, 26, geometry).cpu(), label_maps(coarse, 23, 26, geometry))


def test_a_class_that_wins_at_no_corner_can_win_inside():
    corners = torch.tensor([[9.0, 0.0], [0.0, 9.0]]), torch.tensor([[0.0, 9.0], [9.0, 0.0]]), torch.full((2, 2), 5.0)
    labels = label_maps(torch.stack(corners)[None], 8, 8, LogitGeometry(4, align_corners=False))[0]
    assert {0, 1, 2} == set(labels.flatten().tolist())
    assert labels[4, 4] == 2


def test_cells_with_equal_corners_have_a_single_class():
    for corners in itertools.product([0.0, 1.0], repeat=4):
        coarse = torch.stack([torch.tensor(corners).view(2, 2), torch.tensor(corners).view(2, 2) + 0.1])
        assert label_maps(coarse[None], 8, 8, LogitGeometry(4, align_corners=False)).min() == 1


def test_nan_wins_as_in_the_argmax():
    coarse = random_logits(1, 4, 5, 5)
    coarse[0, 2, 3, 3] = torch.nan
    geometry = LogitGeometry(4, align_corners=False)
    expected = geometry.upsample(coarse, 20, 20).numpy().argmax(axis=1)
    np.testing.assert_array_equal(label_maps(coarse, 20, 20, geometry).numpy(), expected)


def test_255_classes_are_possible():
    coarse, geometry = random_logits(1, 255, 5, 6), LogitGeometry(4, align_corners=False)
    expected = geometry.upsample(coarse, 20, 24).argmax(dim=1)
    assert torch.equal(label_maps(coarse, 20, 24, geometry).long(), expected)
