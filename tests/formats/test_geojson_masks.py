"""GeoJSON as masks: GDAL's rasteriser as the oracle, all shapes that the format has, and the faults that files have."""

import json
import pickle
from collections.abc import Iterable
from contextlib import suppress
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from rasterio.features import rasterize

from made_geo import TRANSFORM, UTM, Ring, box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.defects import DefectError
from pyramidseg.base.errors import DataError
from pyramidseg.data.records import Record
from pyramidseg.formats.geojson.geojson_masks import GeoJsonMasks, read_geojson
from pyramidseg.images.georeference import parse_crs, reproject

H, W = 40, 60
ONE = GeoJsonMasks(("background", "building"), {})


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "a.tif", np.zeros((H, W, 2), np.uint16))


def read(image: Path, features: list[dict[str, Any]], *, values: GeoJsonMasks = ONE, crs: str | None = UTM) -> Any:
    file = write_geojson(image.with_suffix(".geojson"), features, crs=crs)
    return values.read(Record("a", image, file))


def placed(*rings: Ring) -> dict[str, Any]:
    return polygon(*(on_map(ring) for ring in rings))


corners = st.tuples(st.floats(-20, W + 20), st.floats(-20, H + 20))


@given(st.lists(st.lists(corners, min_size=3, max_size=8), min_size=1, max_size=4))
@example([[(0.0, 0.0), (0.0, 3.0), (3.0, 0.0)]])
@settings(max_examples=80, deadline=None)
def test_pixels_are_those_that_gdal_fills(tmp_path_factory: pytest.TempPathFactory, rings: list[Ring]) -> None:
    folder = tmp_path_factory.mktemp("geo")
    image = write_image(folder / "a.tif", np.zeros((H, W, 1), np.uint8))
    geometries = [placed([*ring, ring[0]]) for ring in rings]
    drawn = read(image, [feature(geometry) for geometry in geometries])
    expected = rasterize(geometries, out_shape=(H, W), transform=rasterio.Affine(*TRANSFORM))
    differing = np.argwhere(drawn != expected)[:, ::-1] + 0.5
    assert all(distance(center, ([*ring, ring[0]] for ring in rings)) < 1e-5 for center in differing)  # on an outline


def distance(point: NDArray[np.float64], outlines: Iterable[Ring]) -> float:
    """How far a point is from the nearest edge."""
    edges = np.array([edge for outline in outlines for edge in pairwise(outline)])  # (edges, 2 ends, 2)
    start, along = edges[:, 0], edges[:, 1] - edges[:, 0]
    squares = np.maximum((along**2).sum(1), 1e-300)
    share = np.clip(((point - start) * along).sum(1) / squares, 0, 1)
    return float(np.linalg.norm(start + share[:, None] * along - point, axis=1).min())


def test_holes_multipolygons_and_collections(image: Path) -> None:
    with_hole = placed(box(2, 2, 20, 20), box(5, 5, 10, 10))
    two_parts = {
        "type": "MultiPolygon",
        "coordinates": [placed(box(30, 2, 35, 8))["coordinates"], placed(box(40, 2, 45, 8))["coordinates"]],
    }
    collection = {"type": "GeometryCollection", "geometries": [placed(box(30, 20, 35, 28)), two_parts]}
    drawn = read(image, [feature(with_hole), feature(collection), feature(None)])
    expected = np.zeros((H, W), np.uint8)
    expected[2:20, 2:20] = 1
    expected[5:10, 5:10] = 0
    expected[2:8, 30:35] = expected[2:8, 40:45] = expected[20:28, 30:35] = 1
    assert np.array_equal(drawn, expected)


@pytest.mark.parametrize("form", ["collection", "feature", "geometry", "multipolygon"])
def test_a_file_may_hold_a_collection_a_feature_or_a_geometry(image: Path, form: str) -> None:
    geometry = placed(box(2, 3, 20, 30))
    if form == "multipolygon":
        geometry = {"type": "MultiPolygon", "coordinates": [geometry["coordinates"]]}
    content: dict[str, Any] = {"collection": {"type": "FeatureCollection", "features": [feature(geometry)]}}.get(
        form, feature(geometry) if form == "feature" else geometry
    )
    file = image.with_suffix(".geojson")
    file.write_text(json.dumps(content | {"crs": {"type": "EPSG", "properties": {"code": 32616}}}))
    assert ONE.read(Record("a", image, file)).sum() == 18 * 27


def test_no_feature_is_background(image: Path) -> None:
    assert not read(image, []).any()
    nonsense = {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG:EPSG:4326"}}
    image.with_suffix(".geojson").write_text(json.dumps({"type": "FeatureCollection", "crs": nonsense, "features": []}))
    assert not ONE.read(Record("a", image, image.with_suffix(".geojson"))).any()


def test_polygons_outside_of_the_image_miss_it(image: Path) -> None:
    ring = box(2, 2, 6, 6)
    beside = [(x + 10 * W, y) for x, y in ring]
    for shapes in ([], [ring], [beside], [beside, ring]):
        assert read(image, [feature(placed(shape)) for shape in shapes]).any() == (ring in shapes)


def test_smaller_of_overlapping_polygons_is_on_top(image: Path) -> None:
    values = GeoJsonMasks(("background", "yard", "shed"), {"yard": 1, "shed": 2}, "kind")
    shed, yard = feature(placed(box(5, 5, 9, 9)), kind="shed"), feature(placed(box(2, 2, 20, 20)), kind="yard")
    for order in ([shed, yard], [yard, shed]):
        drawn = read(image, order, values=values)
        assert (drawn[5:9, 5:9] == 2).all()
        assert (drawn == 1).sum() == 18 * 18 - 16
        assert values.count_contested(Record("a", image, image.with_suffix(".geojson"))) == 16


@pytest.mark.parametrize("crs", [None, "EPSG:4326", "EPSG:3857", "EPSG:32617"])
def test_coordinates_of_any_system_are_drawn_at_their_place(image: Path, crs: str | None) -> None:
    ring = box(7.3, 4.2, 51.6, 33.4)
    here = read(image, [feature(placed(ring))])
    target = parse_crs(crs or "EPSG:4326")
    elsewhere = reproject(np.array(on_map(ring)), source=parse_crs(UTM), target=target)
    assert np.array_equal(read(image, [feature(polygon(elsewhere.tolist()))], crs=crs), here)
    assert here.sum() == 45 * 29  # centres from 7.5 to 51.5, and from 4.5 to 32.5


def test_a_file_of_map_coordinates_that_calls_them_degrees_is_refused_with_the_way_out(image: Path) -> None:
    features = [feature(placed(box(2, 2, 20, 20)))]
    for crs, whose in ((None, "files without a crs member"), ("EPSG:4326", "urn:ogc:def:crs:EPSG::4326")):
        with pytest.raises(
            DataError, match=rf"a\.geojson: .*733602.* not longitude and latitude.*{whose}.*vector_crs=image"
        ):
            read(image, features, crs=crs)
        assert read(image, features, crs=crs, values=GeoJsonMasks(ONE.names, {}, crs="image")).sum() == 18 * 18
        assert read(image, features, crs=crs, values=GeoJsonMasks(ONE.names, {}, crs=UTM)).sum() == 18 * 18


def test_the_mask_is_turned_with_its_image(tmp_path: Path) -> None:
    import tifffile

    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path, np.zeros((H, W), np.uint8), metadata=None,
        extratags=[
            (274, 3, 1, 6, True),
            (33550, 12, 3, (0.5, 0.5, 0.0), True),
            (33922, 12, 6, (0.0, 0.0, 0.0, TRANSFORM[2], TRANSFORM[5], 0.0), True),
        ],
    )  # fmt: skip
    drawn = read(path, [feature(placed(box(0, 0, 10, 5)))], values=GeoJsonMasks(ONE.names, {}, crs="image"))
    assert drawn.shape == (W, H)
    assert drawn[:10, -5:].all() and drawn.sum() == 50


def test_an_image_without_a_place_is_refused(tmp_path: Path) -> None:
    import tifffile

    tifffile.imwrite(tmp_path / "a.tif", np.zeros((H, W), np.uint8))
    with pytest.raises(
        DefectError, match=r"a\.tif: has no position on the map, so a\.geojson cannot be drawn"
    ) as caught:
        read(tmp_path / "a.tif", [feature(placed(box(2, 2, 20, 20)))])
    assert caught.value.defect.file == tmp_path / "a.tif"


def test_an_image_without_a_coordinate_system_is_refused_unless_the_polygons_share_it(tmp_path: Path) -> None:
    image = write_image(tmp_path / "a.tif", np.zeros((H, W, 1), np.uint8), crs=None)
    features = [feature(placed(box(2, 2, 20, 20)))]
    with pytest.raises(DataError, match=r"no coordinate system; set data\.vector_crs=image"):
        read(image, features)
    assert read(image, features, values=GeoJsonMasks(ONE.names, {}, crs="image")).sum() == 18 * 18


@pytest.mark.parametrize(
    ("value", "name"),
    [("tin", "tin"), (" tin ", "tin"), (3, "3"), (3.0, "3"), (2.5, "2.5"), (True, "true"), (None, None)],
)
def test_a_property_names_the_class(tmp_path: Path, value: Any, name: str | None) -> None:
    file = write_geojson(tmp_path / "a.geojson", [feature(placed(box(0, 0, 1, 1)), roof=value)])
    assert [found.name for found in read_geojson(file, "roof").features] == [name]


@pytest.mark.parametrize("properties", [5, True, "roof", [[1]], None])
def test_properties_that_are_not_an_object_name_no_class(image: Path, properties: Any) -> None:
    nameless = feature(placed(box(2, 2, 20, 20))) | {"properties": properties}
    assert read(image, [nameless]).sum() == 18 * 18
    layer = read_geojson(image.with_suffix(".geojson"), "roof")
    assert [found.name for found in layer.features] == [None]
    assert not layer.properties


@pytest.mark.parametrize(
    ("geometry", "complaint"),
    [
        ({"type": "LineString", "coordinates": [[0, 0], [1, 1]]}, "is a LineString, which has no area; .*buffer"),
        ({"type": "Point", "coordinates": [0, 0]}, "is a Point, which has no area"),
        ({"type": "Cube", "coordinates": []}, "geometry of type 'Cube'"),
        ({"coordinates": []}, "geometry of type 'None'"),
        ({"type": "Polygon"}, "coordinates are missing"),
        ({"type": "Polygon", "coordinates": [[[0, 0], [1, 1]]]}, "a polygon of 2 points encloses nothing"),
        ({"type": "Polygon", "coordinates": [[0, 0, 1, 1, 2, 2]]}, "every point needs an x and a y"),
        ({"type": "Polygon", "coordinates": [[["a", 0], [1, 1], [2, 2]]]}, "coordinates must be numbers"),
        ({"type": "Polygon", "coordinates": [[[0], [1], [2]]]}, "every point needs an x and a y"),
        ({"type": "Polygon", "coordinates": [[[float("nan"), 0], [1, 1], [2, 2]]]}, "not a finite number"),
        ({"type": "Polygon", "coordinates": [[[1e999, 0], [1, 1], [2, 2]]]}, "not a finite number"),
        ({"type": "MultiPolygon", "coordinates": [[0]]}, "not nested as in GeoJSON"),
        ("Polygon", "geometry of type 'None'"),
    ],
)
def test_invalid_geometries_are_named(image: Path, geometry: Any, complaint: str) -> None:
    good = feature(placed(box(2, 2, 20, 20)))
    with pytest.raises(DataError, match=rf"a\.geojson: feature 1: .*({complaint})"):
        read(image, [good, feature(geometry)])


@pytest.mark.parametrize("content", ["", "[]", "null", "{", '{"type": "Topology"}', '{"features": [{"a": 1}]}', "\0\1"])
def test_invalid_geojson_is_named(image: Path, content: str) -> None:
    file = image.with_suffix(".geojson")
    file.write_text(content)
    with pytest.raises(DataError, match=r"a\.geojson"):
        ONE.read(Record("a", image, file))


def test_heights_are_ignored_and_open_rings_closed(image: Path) -> None:
    ring = [[x, y, 12.5] for x, y in on_map(box(2, 2, 20, 20)[:-1])]
    assert read(image, [feature({"type": "Polygon", "coordinates": [ring]})]).sum() == 18 * 18


def test_outlines_that_cross_themselves_are_drawn_even_odd(image: Path) -> None:
    bow = [(10.0, 10.0), (30.0, 30.0), (30.0, 10.0), (10.0, 30.0), (10.0, 10.0)]
    expected = rasterize([placed(bow)], out_shape=(H, W), transform=rasterio.Affine(*TRANSFORM))
    assert (read(image, [feature(placed(bow))]) != expected).sum() <= 20


def test_all_invalid_features_are_named(image: Path) -> None:
    line, nothing = {"type": "LineString", "coordinates": [[0, 0], [1, 1]]}, {"type": "Polygon"}
    with pytest.raises(DefectError) as caught:
        read(image, [feature(line), feature(placed(box(2, 2, 20, 20))), feature(nothing)])
    assert [defect.detail.split(":")[0] for defect in caught.value.defects] == ["feature 0", "feature 2"]


def test_coordinates_beyond_the_earth_are_refused(image: Path) -> None:
    with pytest.raises(DefectError, match=r"feature 0: the coordinate 5e\+299 is not a place on Earth"):
        read(image, [feature(placed([(0.0, 0.0), (1e300, 0.0), (1e300, 1e300)]))])


@pytest.mark.parametrize("reach", [1e6, 1e30, 1e300])
def test_coordinates_far_outside_are_drawn_or_refused(image: Path, reach: float) -> None:
    features = [feature(placed([(-reach, -reach), (reach, -reach), (reach, reach), (-reach, reach)]))]
    with suppress(DataError):
        assert read(image, features).all()


def test_one_file_serves_many_images_and_is_read_again_when_it_changes(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    rings = [box(x, y, x + w, y + h) for x, y, w, h in (rng.uniform((0, 0, 2, 2), (90, 70, 20, 20)) for _ in range(30))]
    file = write_geojson(tmp_path / "all.geojson", [feature(placed(ring)) for ring in rings])
    whole = write_image(tmp_path / "whole.tif", np.zeros((80, 100, 1), np.uint8))
    expected = ONE.read(Record("whole", whole, file))
    for top, left in ((0, 0), (0, 50), (40, 0), (40, 50)):
        transform = (0.5, 0.0, TRANSFORM[2] + 0.5 * left, 0.0, -0.5, TRANSFORM[5] - 0.5 * top)
        tile = write_image(tmp_path / f"{top}_{left}.tif", np.zeros((40, 50, 1), np.uint8), transform=transform)
        assert np.array_equal(ONE.read(Record("tile", tile, file)), expected[top : top + 40, left : left + 50])
    write_geojson(file, [])
    assert not ONE.read(Record("whole", whole, file)).any()


def test_values_can_be_pickled_and_named() -> None:
    values = GeoJsonMasks(("background", "yard"), {"yard": 1}, "kind", "image")
    assert pickle.loads(pickle.dumps(values)) == values
    assert values.describe([0, 1]) == "background, yard"


@given(st.integers(0, 10**6), st.integers(0, 255))
@settings(max_examples=200, deadline=None)
def test_damaged_bytes_give_a_mask_or_a_data_error(
    tmp_path_factory: pytest.TempPathFactory, place: int, value: int
) -> None:
    folder = tmp_path_factory.getbasetemp()
    image = folder / "mutant.tif"
    if not image.exists():
        write_image(image, np.zeros((H, W, 1), np.uint8))
    file = write_geojson(folder / "mutant.geojson", [feature(placed(box(2, 2, 20, 20), box(4, 4, 6, 6)), kind="x")])
    content = bytearray(file.read_bytes())
    content[place % len(content)] = value
    file.write_bytes(content)
    with suppress(DataError):
        drawn: NDArray[np.uint16] = ONE.read(Record("a", image, file))
        assert drawn.shape == (H, W)
