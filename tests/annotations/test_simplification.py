"""Planar subdivisions: neighbours have the same corners, and simplified borders neither cross nor touch others."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from rasterio.features import rasterize

from pyramidseg.annotations.contours import TracedRegion, doubled_area, find_regions
from pyramidseg.annotations.polygons import Location, Shape, rasterise

label_maps = st.tuples(st.integers(1, 9), st.integers(1, 9), st.integers(1, 4), st.integers(1, 3)).flatmap(
    lambda shape: arrays(np.uint8, shape[:2], elements=st.integers(0, shape[2])).map(
        lambda labels: labels.repeat(shape[3], 0).repeat(shape[3], 1)
    )
)
tolerances = st.sampled_from([0.0, 0.5, 0.75, 1.5, 4.0, 100.0])

Edge = tuple[int, int, int, int]


def edges(regions: list[TracedRegion]) -> list[Edge]:
    rings = (ring.tolist() for region in regions for ring in region.rings)
    return [(*tail, *head) for ring in rings for tail, head in zip(ring, [*ring[1:], ring[0]], strict=True)]


def side(x: int, y: int, edge: Edge) -> int:
    """-1, 0 or 1: on which side of a line a point is."""
    left, top, right, bottom = edge
    return int(np.sign((right - left) * (y - top) - (bottom - top) * (x - left)))


def meet_elsewhere(one: Edge, other: Edge) -> bool:
    """Whether two edges have a point in common that is not an end of both."""
    ends = {one[:2], one[2:]} & {other[:2], other[2:]}
    if any(
        on_edge(point, line)
        for line, ends_of in ((one, other), (other, one))
        for point in {ends_of[:2], ends_of[2:]} - ends
    ):
        return True
    return not ends and (
        side(*one[:2], other) * side(*one[2:], other) < 0 and side(*other[:2], one) * side(*other[2:], one) < 0
    )


def on_edge(point: tuple[int, int], edge: Edge) -> bool:
    x, y = point
    inside = min(edge[::2]) <= x <= max(edge[::2]) and min(edge[1::2]) <= y <= max(edge[1::2])
    return inside and side(x, y, edge) == 0


@given(label_maps, tolerances)
@settings(max_examples=60, deadline=None)
def test_borders_are_shared_and_do_not_meet_elsewhere(labels, tolerance):
    regions = find_regions(labels, simplify_px=tolerance)
    directed = edges(regions)
    assert len(set(directed)) == len(directed)
    height, width = labels.shape
    for x, y, next_x, next_y in directed:
        on_the_frame = (x == next_x and x in (0, width)) or (y == next_y and y in (0, height))
        assert ((next_x, next_y, x, y) in set(directed)) != on_the_frame
    once = sorted({min(edge, (*edge[2:], *edge[:2])) for edge in directed})
    assert not [pair for pair in itertools.combinations(once, 2) if meet_elsewhere(*pair)]


@given(label_maps, tolerances)
@settings(max_examples=60, deadline=None)
def test_areas_add_up_and_each_region_keeps_its_rings(labels, tolerance):
    regions, exact = find_regions(labels, simplify_px=tolerance), find_regions(labels)
    assert sum(doubled_area(ring) for region in regions for ring in region.rings) == 2 * labels.size
    assert [(one.value, one.pixels, len(one.rings)) for one in regions] == [
        (one.value, one.pixels, len(one.rings)) for one in exact
    ]
    assert all(doubled_area(region.rings[0]) > 0 for region in regions)
    assert all(doubled_area(hole) < 0 for region in regions for hole in region.rings[1:])


@given(label_maps, tolerances)
@settings(max_examples=60, deadline=None)
def test_no_corner_is_farther_from_its_region_than_the_tolerance(labels, tolerance):
    exact = {region.number: region for region in find_regions(labels, simplify_px=0)}
    for region in find_regions(labels, simplify_px=tolerance):
        corners = np.concatenate(exact[region.number].rings)
        assert {tuple(corner) for ring in region.rings for corner in ring.tolist()} <= set(map(tuple, corners.tolist()))
        lines = np.array(edges([region]), np.float64)
        start, along = lines[:, :2], lines[:, 2:] - lines[:, :2]
        out = corners[:, None] - start
        share = np.clip((out * along).sum(2) / (along**2).sum(1), 0, 1)
        distance = np.sqrt(((out - share[..., None] * along) ** 2).sum(2)).min(1)
        assert distance.max() <= tolerance + 1e-9


@given(label_maps)
@settings(max_examples=40, deadline=None)
def test_without_tolerance_gdal_draws_the_same_labels(labels):
    shapes = [
        (
            {"type": "Polygon", "coordinates": [[*ring.tolist(), ring[0].tolist()] for ring in region.rings]},
            region.value,
        )
        for region in find_regions(labels, simplify_px=0)
    ]
    np.testing.assert_array_equal(rasterize(shapes, out_shape=labels.shape, fill=255, dtype="uint8"), labels)


def test_a_corner_is_added_where_a_border_of_others_ends():
    labels = np.array([[1, 1], [2, 3]], np.uint8)
    assert [len(region.rings[0]) for region in find_regions(labels)] == [4, 4, 4]
    first, *_ = find_regions(labels, simplify_px=0)
    assert first.rings[0].tolist() == [[0, 0], [2, 0], [2, 1], [1, 1], [0, 1]]


def test_stairs_become_a_line_that_both_sides_share():
    labels = np.tri(20, 20, dtype=np.uint8)
    lower, upper = sorted(find_regions(labels, simplify_px=0.75), key=lambda region: -region.value)
    assert [len(region.rings[0]) for region in find_regions(labels, simplify_px=0)] == [40, 42]
    assert len(lower.rings[0]) <= 6 and len(upper.rings[0]) <= 6
    assert len(set(map(tuple, lower.rings[0])) & set(map(tuple, upper.rings[0]))) >= 2


@pytest.mark.parametrize("tolerance", [3.0, 1000.0])
def test_islands_and_holes_remain(tolerance):
    labels = np.zeros((20, 20), np.uint8)
    labels[3:17, 3:17] = 1
    labels[8:10, 8:10] = 2
    labels[9, 9] = 0
    regions = find_regions(labels, simplify_px=tolerance)
    assert [len(region.rings) for region in regions] == [2, 1, 2, 1]
    drawn = rasterise(
        [Shape(1, [[ring.astype(np.float64) for ring in region.rings]]) for region in regions],
        height=20, width=20, where=Location(Path("x")),
    )  # fmt: skip
    assert drawn.all(), "no gap"


def test_turned_and_mirrored_maps_with_nothing_to_outline():
    assert find_regions(np.zeros((3, 4), np.uint8), skip=[0], simplify_px=2.0) == []
    (region,) = find_regions(np.ones((1, 1), np.uint8), simplify_px=9.0)
    assert region.rings[0].tolist() == [[0, 0], [1, 0], [1, 1], [0, 1]]
