import math
import random
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from pyramidseg.annotations import polygons
from pyramidseg.annotations.polygons import (
    Location,
    Ring,
    Runs,
    Shape,
    count_contested,
    parse_points,
    parse_ring,
    rasterise,
    runs_of_pixels,
)
from pyramidseg.base.defects import DefectError, DefectKind

WHERE = Location(Path("a.json"), "annotation 7")
HEIGHT, WIDTH = 13, 17


def ring(*corners: tuple[float, float]) -> Ring:
    return np.array(corners, np.float64)


def square(left: float, top: float, right: float, bottom: float) -> Ring:
    return ring((left, top), (right, top), (right, bottom), (left, bottom))


def drawn(*shapes: Shape, height: int = HEIGHT, width: int = WIDTH) -> NDArray[np.uint16]:
    return rasterise(shapes, height=height, width=width, where=WHERE)


def polygon(*rings: Ring, value: int = 1, layer: int = 0) -> Shape:
    return Shape(value, [rings], layer)


def exactly(rings: Sequence[Ring]) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Even-odd in rational numbers: is the number of edges above a pixel's centre odd?

    Returns:
        What is inside, and what is so near an edge that rounding may decide.
    """
    inside, unclear = np.zeros((2, HEIGHT, WIDTH), bool)
    for corners in rings:
        exact = [(Fraction(x), Fraction(y)) for x, y in corners.tolist()]
        for start, end in zip(exact, [*exact[1:], exact[0]], strict=True):
            (x0, y0), (x1, y1) = sorted([start, end])
            for column in range(WIDTH):
                x = column + Fraction(1, 2)
                if x0 <= x < x1:
                    crossing = y0 + (x - x0) / (x1 - x0) * (y1 - y0)
                    slack = Fraction(1e-12) * (1 + abs(y1 - y0)) if y0 != y1 else 0
                    last = crossing - Fraction(1, 2)  # rows from here on have their centre below the edge
                    inside[:, column] ^= [last <= row for row in range(HEIGHT)]
                    unclear[:, column] |= [abs(last - row) < slack for row in range(HEIGHT)]
    return inside, unclear


def distance_to_outline(corners: Ring, height: int, width: int) -> NDArray[np.float64]:
    """Of each pixel's centre, in pixels."""
    rows, columns = np.mgrid[:height, :width] + 0.5
    points = np.stack([columns, rows], axis=-1)
    nearest = np.full((height, width), np.inf)
    for start, end in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        along = end - start
        share = ((points - start) @ along / max(along @ along, 1e-30)).clip(0, 1)
        nearest = np.minimum(nearest, np.linalg.norm(points - start - share[..., None] * along, axis=-1))
    return nearest


coordinates = st.one_of(
    st.floats(-30, 45),
    st.integers(-8, 80).map(lambda quarters: quarters / 4),  # corners, edges and centres of pixels
    st.sampled_from([-1e300, -1e12, 1e9, 1.7e308]),
)
rings = st.lists(st.tuples(coordinates, coordinates), min_size=3, max_size=7).map(lambda corners: ring(*corners))


class TestPixelCentreRule:
    @settings(max_examples=100, deadline=None)
    @given(st.lists(rings, min_size=1, max_size=3))
    def test_pixels_are_those_that_an_odd_number_of_edges_lies_above(self, outlines: list[Ring]) -> None:
        inside, unclear = exactly(outlines)
        assert np.array_equal((drawn(polygon(*outlines)) == 1) | unclear, inside | unclear)

    @pytest.mark.parametrize("seed", range(20))
    def test_agrees_with_matplotlib_at_sub_pixel_coordinates(self, seed: int) -> None:
        rng = np.random.default_rng(seed)
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 9)), rng.uniform(1, 12, 9)
        corners = np.stack([8 + radii * np.cos(angles), 6 + radii * np.sin(angles)], axis=1)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        inside = Outline(np.vstack([corners, corners[:1]]), closed=True).contains_points(
            np.stack([columns.ravel(), rows.ravel()], axis=1)
        )
        assert np.array_equal(drawn(polygon(corners)).ravel() == 1, inside)

    def test_square_covers_the_pixels_whose_centres_it_holds(self) -> None:
        found = drawn(polygon(square(2.4, 3.5, 5.5, 6.6)))
        expected = np.zeros((HEIGHT, WIDTH))
        expected[3:7, 2:5] = 1  # the centre 3.5 is on the upper edge and counts, 5.5 on the right one and does not
        assert np.array_equal(found, expected)

    def test_whole_image_has_the_corners_of_its_pixels(self) -> None:
        assert drawn(polygon(square(0, 0, WIDTH, HEIGHT))).all()

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.tuples(coordinates, coordinates), max_size=6))
    def test_every_pixel_belongs_to_one_of_two_shapes_that_share_an_edge(self, bend: list[tuple[float, float]]) -> None:
        shared = [(5.3, -40.0), *bend, (9.1, 40.0)]
        left = drawn(polygon(ring((-40, -40), *shared, (-40, 40))))
        right = drawn(polygon(ring((40, 40), *shared[::-1], (40, -40))))
        assert np.array_equal(left + right, np.ones((HEIGHT, WIDTH)))

    def test_area_is_right_on_average_where_opencv_and_pillow_add_the_outline(self) -> None:
        rng = np.random.default_rng(0)
        excess = {"ours": 0.0, "opencv": 0.0, "pillow": 0.0}
        for _ in range(50):
            x, y = rng.uniform(20, 24, 2)
            corners = ring(*((x + 12 * math.cos(t), y + 12 * math.sin(t)) for t in np.arange(0, 2 * np.pi, 0.4)))
            area = 0.5 * abs(
                np.dot(corners[:, 0], np.roll(corners[:, 1], -1)) - np.dot(corners[:, 1], np.roll(corners[:, 0], -1))
            )
            excess["ours"] += drawn(polygon(corners), height=48, width=48).sum() - area
            filled = np.zeros((48, 48), np.uint8)
            cv2.fillPoly(filled, [np.round(corners * 256 - 128).astype(np.int32)], 1, shift=8)
            excess["opencv"] += filled.sum() - area
            image = Image.new("L", (48, 48))
            ImageDraw.Draw(image).polygon([tuple(corner - 0.5) for corner in corners], fill=1, outline=1)
            excess["pillow"] += np.asarray(image).sum() - area
        assert abs(excess["ours"] / 50) < 1
        assert excess["opencv"] / 50 > 10
        assert excess["pillow"] / 50 > 10

    @pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools with NumPy 2
    @pytest.mark.parametrize("seed", range(10))
    def test_differs_from_pycocotools_at_the_outline_alone(self, seed: int) -> None:
        coco = pytest.importorskip("pycocotools.mask")
        rng = np.random.default_rng(seed)
        angles, radii = np.sort(rng.uniform(0, 2 * np.pi, 12)), rng.uniform(10, 45, 12)
        corners = np.stack([45 + radii * np.cos(angles), 40 + radii * np.sin(angles)], axis=1)
        theirs = coco.decode(coco.frPyObjects([corners.ravel().tolist()], 80, 90))[..., 0] == 1
        differs = (drawn(polygon(corners), height=80, width=90) == 1) != theirs
        assert distance_to_outline(corners, 80, 90)[differs].max(initial=0) < 0.75
        assert differs.sum() <= 0.02 * theirs.sum() + 4


class TestRings:
    def test_inner_rings_are_holes(self) -> None:
        found = drawn(polygon(square(1, 1, 11, 11), square(3, 3, 9, 9), square(5, 5, 7, 7)))
        assert (found[2, 2], found[4, 4], found[6, 6]) == (1, 0, 1)

    def test_parts_are_joined_and_make_no_holes_in_each_other(self) -> None:
        shape = Shape(1, [[square(0, 0, 6, 6)], [square(3, 3, 9, 9)]])
        assert drawn(shape)[4, 4] == 1

    def test_outline_that_crosses_itself_is_even_odd(self) -> None:
        star = ring(*((8 + 6 * math.sin(t), 6 - 6 * math.cos(t)) for t in np.arange(5) * 4 * np.pi / 5))
        assert drawn(polygon(star))[6, 8] == 0

    def test_closing_point_given_twice_changes_nothing(self) -> None:
        corners = square(1.2, 2.1, 8.3, 9.7)
        assert np.array_equal(drawn(polygon(np.vstack([corners, corners[:1]]))), drawn(polygon(corners)))


class TestOrder:
    def test_smaller_lies_on_top_whichever_comes_first(self) -> None:
        small, large = polygon(square(3, 3, 6, 6), value=2), polygon(square(0, 0, 10, 10), value=9)
        assert np.array_equal(drawn(small, large), drawn(large, small))
        assert drawn(small, large)[4, 4] == 2

    def test_area_is_that_of_the_pixels_drawn(self) -> None:
        """What is outside the image does not count, nor what a bow tie's signed area would cancel."""
        mostly_outside = polygon(square(-1000, 3, 4, 6), value=2)
        tie = polygon(ring((0, 0), (12, 12), (12, 0), (0, 12)), value=9)
        assert drawn(mostly_outside, tie)[4, 0] == 2

    def test_of_equal_areas_the_later_lies_on_top(self) -> None:
        first, second = polygon(square(0, 0, 6, 6), value=1), polygon(square(3, 3, 9, 9), value=2)
        assert drawn(first, second)[4, 4] == 2
        assert drawn(second, first)[4, 4] == 1

    def test_higher_layer_lies_on_top_whatever_its_size(self) -> None:
        small, large = polygon(square(3, 3, 6, 6), value=2), polygon(square(0, 0, 10, 10), value=9, layer=1)
        assert drawn(small, large)[4, 4] == 9

    @settings(max_examples=50, deadline=None)
    @given(st.lists(rings, max_size=6), st.randoms())
    def test_result_is_that_of_drawing_one_by_one(self, outlines: list[Ring], random: random.Random) -> None:
        layers = [random.randrange(3) for _ in outlines]
        masks = [drawn(polygon(corners)) == 1 for corners in outlines]
        expected = np.zeros((HEIGHT, WIDTH))
        for index in sorted(range(len(outlines)), key=lambda index: (layers[index], -masks[index].sum())):
            expected[masks[index]] = index + 1
        shapes = [polygon(corners, value=index + 1, layer=layers[index]) for index, corners in enumerate(outlines)]
        assert np.array_equal(drawn(*shapes), expected)

    @settings(max_examples=50, deadline=None)
    @given(st.lists(st.tuples(rings, st.integers(1, 3)), max_size=6))
    def test_contested_pixels_are_those_of_shapes_with_several_values(self, outlines: list[tuple[Ring, int]]) -> None:
        covered = np.zeros((4, HEIGHT, WIDTH), np.bool_)
        for corners, value in outlines:
            covered[value] |= drawn(polygon(corners)) == 1
        shapes = [polygon(corners, value=value) for corners, value in outlines]
        found = count_contested(shapes, height=HEIGHT, width=WIDTH, where=WHERE)
        assert found == (covered.sum(0) > 1).sum()

    def test_nothing_drawn_is_background(self) -> None:
        assert drawn().shape == (HEIGHT, WIDTH)
        assert drawn().dtype == np.uint16
        assert not drawn(polygon(square(50, 50, 60, 60)), polygon(square(2, 2, 2, 2))).any()

    def test_values_of_16_bits(self) -> None:
        assert drawn(polygon(square(0, 0, 3, 3), value=65535))[1, 1] == 65535


class TestOtherShapes:
    @pytest.mark.parametrize(("top", "left"), [(0, 0), (3, 4), (HEIGHT - 6, WIDTH - 7)])
    def test_pixels_are_placed(self, top: int, left: int) -> None:
        pixels = np.random.default_rng(0).random((6, 7)) < 0.5
        expected = np.zeros((HEIGHT, WIDTH), bool)
        expected[top : top + 6, left : left + 7] = pixels
        found = drawn(Shape(3, runs_of_pixels(pixels, top=top, left=left, height=HEIGHT)))
        assert np.array_equal(found == 3, expected)

    def test_runs_and_polygons_are_ordered_together(self) -> None:
        column = Shape(2, Runs(np.array([4 * HEIGHT]), np.array([5 * HEIGHT])))
        found = drawn(column, polygon(square(0, 0, 10, 10), value=1), polygon(square(4, 4, 5, 5), value=3))
        assert (found[0, 4], found[4, 4], found[0, 3]) == (2, 3, 1)


class TestBounds:
    def test_millions_of_points_are_drawn(self) -> None:
        angles = np.linspace(0, 2 * np.pi, 1_000_000, endpoint=False)
        circle = np.stack([8 + 5 * np.cos(angles), 6 + 5 * np.sin(angles)], axis=1)
        rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        assert np.array_equal(drawn(polygon(circle)) == 1, np.hypot(columns - 8, rows - 6) < 5)

    def test_outlines_that_cross_too_often_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polygons, "MAX_CROSSINGS", 10_000)
        zigzag = np.stack([np.arange(2000) % 2 * WIDTH, np.linspace(0, HEIGHT, 2000)], axis=1)
        with pytest.raises(
            DefectError, match=r"a\.json: annotation 7: the outlines cross .* the limit is 10000"
        ) as caught:
            drawn(polygon(zigzag))
        assert caught.value.defect.kind == DefectKind.BAD_ANNOTATION

    def test_shapes_that_cover_the_image_too_often_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(polygons, "MAX_DRAWN", 50 * HEIGHT * WIDTH)
        full = Shape(1, Runs(np.array([0]), np.array([HEIGHT * WIDTH])))
        assert drawn(*[full] * 50).all()
        with pytest.raises(DefectError, match="51 shapes cover 11271 pixels in total"):
            drawn(*[full] * 51)


class TestPoints:
    @pytest.mark.parametrize(
        "given", [[1, 2, 3, 4, 5, 6.5], [[1, 2], [3, 4], [5, 6.5]], ["1", "2", "3", "4", "5", "6.5"]]
    )
    def test_flat_and_nested_lists_are_read(self, given: object) -> None:
        assert parse_ring(given, where=WHERE).tolist() == [[1, 2], [3, 4], [5, 6.5]]

    @pytest.mark.parametrize(
        ("given", "message"),
        [
            ([1, 2, 3, 4], "at least 3 points, but has 2"),
            ([], "at least 3 points, but has 0"),
            ([1, 2, 3, 4, 5, 6, 7], "7 coordinates: every point needs an x and a y"),
            ([[1, 2, 3]] * 3, "every point needs an x and a y"),
            ([[[1, 2]]] * 3, "nested too deeply"),
            (5, "not in a list of their own"),
            ([1, 2, 3, 4, 5, math.nan], "not a finite number"),
            ([1, 2, 3, 4, 5, math.inf], "not a finite number"),
            ([1, 2, 3, 4, 5, None], "not a finite number"),
            ([1, 2, 3, 4, 5, "x"], "must be numbers"),
            ([1, 2, 3, 4, 5, 10**400], "must be numbers"),
            ([[1, 2], [3, 4], [5]], "must be numbers"),
            ({"x": 1}, "must be numbers"),
            (None, "not in a list of their own"),
        ],
    )
    def test_what_is_no_ring_is_refused_by_name(self, given: object, message: str) -> None:
        with pytest.raises(DefectError, match=rf"^a\.json: annotation 7: .*({message})"):
            parse_ring(given, where=WHERE)

    def test_fewer_points_are_points_too(self) -> None:
        assert parse_points([[1, 2]], where=WHERE).tolist() == [[1, 2]]
