import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pyramidseg.backends import LogitGeometry
from pyramidseg.predict.upsampling import bilinear_axis, upsample_rows

GEOMETRIES = [LogitGeometry(stride, align) for stride in (1, 2, 4) for align in (False, True)]


@given(st.sampled_from(GEOMETRIES), st.integers(1, 7), st.integers(1, 7), st.data())
@settings(max_examples=60, deadline=None)
def test_any_rows_and_columns_are_those_of_the_whole_upsampled_map(geometry, height, width, data):
    coarse = torch.randn(3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    full_height, full_width = height * geometry.stride, data.draw(st.integers(1, width * geometry.stride))
    first = data.draw(st.integers(0, full_height - 1))
    chosen = slice(first, data.draw(st.integers(first + 1, full_height)))
    whole = geometry.upsample(coarse[None], full_height, full_width)[0]
    rows = bilinear_axis(height, full_height, geometry)
    columns = bilinear_axis(width, full_width, geometry)
    found = upsample_rows(coarse[None], rows, chosen, columns, geometry)[0]
    torch.testing.assert_close(found, whole[:, chosen], rtol=0, atol=1e-12)
    if not geometry.align_corners:
        cell = data.draw(st.integers(0, width))
        points, pixels, part = columns.between(cell, data.draw(st.integers(cell + 1, width + 1)))
        if pixels.start < pixels.stop:
            found = upsample_rows(coarse[None, ..., points], rows, chosen, part, geometry)[0]
            torch.testing.assert_close(found, whole[:, chosen, pixels], rtol=0, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_pixel_positions_agree_with_an_upsampled_ramp(geometry):
    points = 6
    ramp = torch.arange(points, dtype=torch.float64).expand(1, 1, points, points)
    expected = geometry.upsample(ramp, 1, points * geometry.stride)[0, 0, 0].numpy()
    axis = bilinear_axis(points, points * geometry.stride, geometry)
    before, after = axis.before[axis.cell], axis.after[axis.cell]
    np.testing.assert_allclose(before + axis.fraction * (after - before), expected, atol=1e-12)


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=str)
def test_a_range_of_cells_keeps_its_pixels_and_corners(geometry):
    axis = bilinear_axis(9, 9 * geometry.stride - 1, geometry)
    seen = []
    for first, end in ((0, 1), (1, 4), (4, 4), (4, 10)):
        points, pixels, part = axis.between(first, end)
        seen += range(pixels.start, pixels.stop)
        np.testing.assert_array_equal(part.before[part.cell] + points.start, axis.before[axis.cell[pixels]])
        np.testing.assert_array_equal(part.after[part.cell] + points.start, axis.after[axis.cell[pixels]])
    assert seen == list(range(len(axis.cell)))


def test_axes_and_their_tensors_are_cached():
    axis = bilinear_axis(9, 33, GEOMETRIES[-1])
    assert bilinear_axis(9, 33, GEOMETRIES[-1]) is axis
    assert bilinear_axis(9, 34, GEOMETRIES[-1]) is not axis
    cpu = torch.device("cpu")
    assert axis.on(cpu, torch.float32)[0] is axis.on(cpu, torch.float32)[0]
    assert axis.on(cpu, torch.float64)[2].dtype == torch.float64
