"""Outlines of label maps: rasterised again they give the same labels, and their rings are what GIS programs accept."""

from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pyramidseg.annotations.contours import RegionTracer, Ring, TracedRegion, doubled_area, find_regions, number_regions
from pyramidseg.annotations.polygons import Location, Shape, rasterise

HERE = Location(Path("labels.png"))

label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4)).flatmap(
    lambda shape: arrays(np.uint8, shape[:2], elements=st.integers(0, shape[2]))
)


def drawn(regions: list[TracedRegion], labels: np.ndarray) -> np.ndarray:
    shapes = [Shape(region.value, [[ring.astype(np.float64) for ring in region.rings]]) for region in regions]
    return rasterise(shapes, height=labels.shape[0], width=labels.shape[1], where=HERE)


def unit_steps(ring: Ring) -> list[tuple[int, int, int, int]]:
    """The steps of one pixel that a ring consists of, as x, y and direction."""
    steps = []
    for (x, y), (next_x, next_y) in zip(ring.tolist(), np.roll(ring, -1, axis=0).tolist(), strict=True):
        assert (x == next_x) != (y == next_y), "rings run along pixel borders"
        dx, dy = np.sign(next_x - x), np.sign(next_y - y)
        steps += [(x + i * dx, y + i * dy, dx, dy) for i in range(abs(next_x - x) + abs(next_y - y))]
    return steps


@given(label_maps)
def test_rasterised_again_they_give_the_same_labels(labels):
    np.testing.assert_array_equal(drawn(find_regions(labels), labels), labels)


@given(label_maps)
def test_skipped_values_leave_background(labels):
    regions = find_regions(labels, skip=[1, 3])
    np.testing.assert_array_equal(drawn(regions, labels), np.where(np.isin(labels, [1, 3]), 0, labels))
    assert {region.value for region in regions} == set(np.unique(labels).tolist()) - {1, 3}


@given(label_maps)
def test_regions_are_those_that_opencv_finds_value_by_value(labels):
    regions = find_regions(labels)
    for value in np.unique(labels).tolist():
        _, _, statistics, _ = cv2.connectedComponentsWithStats((labels == value).astype(np.uint8), connectivity=4)
        own = [region.pixels for region in regions if region.value == value]
        assert sorted(own) == sorted(statistics[1:, cv2.CC_STAT_AREA].tolist())
    assert [region.value for region in regions] == sorted(region.value for region in regions)


@given(label_maps)
def test_rings_are_simple_and_areas_add_up(labels):
    for region in find_regions(labels):
        outer, *holes = region.rings
        assert doubled_area(outer) > 0
        assert all(doubled_area(hole) < 0 for hole in holes)
        assert sum(doubled_area(ring) for ring in region.rings) == 2 * region.pixels
        for ring in region.rings:
            assert len(np.unique(ring, axis=0)) == len(ring), "no corner twice"
            (dx, dy), (next_dx, next_dy) = (ring - np.roll(ring, 1, axis=0)).T, (np.roll(ring, -1, axis=0) - ring).T
            assert np.all(dx * next_dy != dy * next_dx), "every corner turns"


@given(label_maps)
def test_neighbours_share_their_borders(labels):
    """Each step inside the image is used once in each direction: no gap and no overlap."""
    steps = [step for region in find_regions(labels) for ring in region.rings for step in unit_steps(ring)]
    assert len(set(steps)) == len(steps)
    height, width = labels.shape
    for x, y, dx, dy in steps:
        on_the_frame = (dy == 0 and y in (0, height)) or (dx == 0 and x in (0, width))
        assert ((x + dx, y + dy, -dx, -dy) in set(steps)) != on_the_frame


def test_a_pocket_that_touches_the_outside_at_a_corner_is_a_hole():
    labels = np.array([[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0]], np.uint8)
    (region,) = find_regions(labels, skip=[0])
    assert [len(ring) for ring in region.rings] == [6, 4]
    assert region.pixels == 7
    np.testing.assert_array_equal(drawn([region], labels), labels)


def test_pixels_that_touch_diagonally_are_two_regions():
    regions = find_regions(np.eye(2, dtype=np.uint8), skip=[0])
    assert [(region.value, region.pixels, len(region.rings)) for region in regions] == [(1, 1, 1), (1, 1, 1)]
    np.testing.assert_array_equal(regions[0].rings[0], [(0, 0), (1, 0), (1, 1), (0, 1)])


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (300, 400)])
def test_one_value_is_one_rectangle(shape):
    height, width = shape
    (region,) = find_regions(np.full(shape, 7, np.uint16))
    np.testing.assert_array_equal(region.rings, [[(0, 0), (width, 0), (width, height), (0, height)]])


def test_numbers_are_0_where_values_are_skipped():
    numbers = number_regions(np.array([[5, 5, 0], [0, 0, 5]]), skip=[0])
    np.testing.assert_array_equal(numbers > 0, [[True, True, False], [False, False, True]])
    assert numbers[0, 0] == numbers[0, 1] != numbers[1, 2]


def test_everything_skipped_has_no_regions():
    assert find_regions(np.zeros((3, 4), np.uint8), skip=[0]) == []


@given(label_maps, st.lists(st.integers(1, 4), min_size=9, max_size=9), st.sampled_from([None, 0.0, 1.5, 4.0]))
def test_regions_traced_in_blocks_of_rows_are_the_same(labels, rows, tolerance):
    tracer, found, top = RegionTracer(labels.shape[1], skip=[2], simplify_px=tolerance), [], 0
    weights = np.arange(labels.size, dtype=np.float32).reshape(labels.shape)
    for count in rows:
        if len(block := labels[top : top + count]):
            found += tracer.add(block, weights[top : top + count])
        top += count
    found += tracer.finish()
    numbers, whole = number_regions(labels, skip=[2]), find_regions(labels, skip=[2], simplify_px=tolerance)
    assert len(found) == len(whole)
    by_number = {int(numbers.ravel()[region.number]): region for region in found}
    for region in whole:
        own = by_number[region.number]
        assert (own.value, own.pixels) == (region.value, region.pixels)
        assert own.mean == pytest.approx(weights[numbers == region.number].mean())
        assert [ring.tolist() for ring in own.rings] == [ring.tolist() for ring in region.rings]


@given(label_maps, st.integers(1, 4))
def test_a_cut_ends_all_regions(labels, rows):
    tracer, found = RegionTracer(labels.shape[1]), []
    for top in range(0, len(labels), rows):
        found += tracer.add(labels[top : top + rows], cut=top > 0)
    expected = [
        (region.value, region.pixels, [np.add(ring, (0, top)).tolist() for ring in region.rings])
        for top in range(0, len(labels), rows)
        for region in find_regions(labels[top : top + rows])
    ]
    found += tracer.finish()
    own = [(region.value, region.pixels, [ring.tolist() for ring in region.rings]) for region in found]
    assert sorted(own) == sorted(expected)


@given(label_maps, st.integers(1, 4))
def test_simplified_regions_are_not_flat_at_a_cut(labels, rows):
    tracer, found = RegionTracer(labels.shape[1], simplify_px=2.5), []
    for top in range(0, len(labels), rows):
        found += tracer.add(labels[top : top + rows], cut=top > 0)
    found += tracer.finish()
    assert all(sum(map(doubled_area, region.rings)) > 0 for region in found)
    assert sum(doubled_area(ring) for region in found for ring in region.rings) == 2 * labels.size


def test_a_pixel_at_a_cut_keeps_its_area() -> None:
    tracer = RegionTracer(3, simplify_px=2.5)
    found = tracer.add(np.array([[0, 0, 0], [0, 1, 0]])) + tracer.add(np.zeros((2, 3), int), cut=True) + tracer.finish()
    assert [doubled_area(region.rings[0]) for region in found if region.value == 1] == [1]
