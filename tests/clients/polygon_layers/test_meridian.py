"""GeoJSON polygons that cross the 180th meridian are cut there (RFC 7946, section 3.1.9), and areas stay the same."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

pytest.importorskip("pyogrio", reason="make test-clients")

import rasterio
import shapely
from rasterio.features import rasterize
from rasterio.warp import transform_geom

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.images.georeference import Georeference, parse_crs
from pyramidseg.predict.outputs.polygon_layers import PolygonOptions, write_polygons
from pyramidseg.predict.segmentation import Segmentation

CLASSES = Classes.from_names(["background", "land", "lake"])
FIJI = {
    "EPSG:32701": (500.0, 0.0, 141_000.0, 0.0, -500.0, 8_150_000.0),  # zone 1: the meridian is near column 72
    "EPSG:32760": (500.0, 0.0, 780_000.0, 0.0, -500.0, 8_150_000.0),  # zone 60, from the other side
    "EPSG:4326": (0.005, 0.0, 179.6, 0.0, -0.005, -16.5),  # columns beyond 180 degrees
}


def labels_of() -> np.ndarray:
    labels = np.zeros((120, 160), np.uint8)
    labels[10:110, 10:150] = 1
    labels[40:60, 20:140] = 2  # a hole that crosses, too
    labels[70:80, 15:25] = labels[70:80, 130:140] = 0  # one on either side
    return labels


def written(path: Path, labels: np.ndarray, crs: str, transform: Any, **options: Any) -> list[dict[str, Any]]:
    place = Georeference(parse_crs(crs), transform)
    found = Segmentation(labels, CLASSES, np.ones(labels.shape, np.float32), georeference=place)
    counts = write_polygons(path, found, PolygonOptions(**options))
    assert counts["invalid"] == counts["moved_px"] == 0
    return list(json.loads(path.read_text())["features"])


@pytest.mark.parametrize("crs", FIJI)
def test_crossing_polygons_are_cut_and_nothing_is_lost(crs: str, tmp_path: Path) -> None:
    features = written(tmp_path / "a.geojson", labels_of(), crs, FIJI[crs])
    assert [(one["properties"]["class"], one["geometry"]["type"]) for one in features] == [
        ("land", "MultiPolygon"),
        ("lake", "MultiPolygon"),
    ]
    for one in features:
        shape = shapely.from_geojson(json.dumps(one["geometry"]))
        assert shape.is_valid
        west, east = sorted(shape.geoms, key=lambda part: -part.bounds[0])
        assert west.bounds[2] == 180 and east.bounds[0] == -180, "parts meet at the meridian"
        assert 179 < west.bounds[0] < 180 and -180 < east.bounds[2] < -179
        assert all(part.exterior.is_ccw and not any(hole.is_ccw for hole in part.interiors) for part in (west, east))
        own = [
            coordinate[1] for part in (west, east) for coordinate in part.exterior.coords if abs(coordinate[0]) == 180
        ]
        assert sorted(own[: len(own) // 2]) == sorted(own[len(own) // 2 :]) or crs != "EPSG:4326"
    land, lake = (shapely.from_geojson(json.dumps(one["geometry"])) for one in features)
    assert sum(len(part.interiors) for part in land.geoms) == 2, "those that do not cross"
    if crs == "EPSG:4326":
        assert lake.area == pytest.approx(20 * 120 * 0.005**2, rel=1e-9)
        assert {part.bounds for part in lake.geoms} == {(179.7, -16.8, 180, -16.7), (-180, -16.8, -179.7, -16.7)}
    assert lake.intersection(land).area == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:32701", "EPSG:32760"])
def test_drawn_again_in_the_image_they_are_the_labels(crs: str, tmp_path: Path) -> None:
    features = written(tmp_path / "a.geojson", labels_of(), crs, FIJI[crs])
    shapes = [
        (transform_geom("EPSG:4326", crs, one["geometry"]), CLASSES.names.index(one["properties"]["class"]))
        for one in features
    ]
    drawn = rasterize(shapes, out_shape=labels_of().shape, transform=rasterio.Affine(*FIJI[crs]))
    assert (drawn != labels_of()).mean() < 0.01, "long edges are straight in degrees"


def test_a_polygon_beside_the_meridian_is_not_cut(tmp_path: Path) -> None:
    labels = np.zeros((120, 160), np.uint8)
    labels[10:20, 10:20], labels[10:20, 140:150] = 1, 2
    features = written(tmp_path / "a.geojson", labels, "EPSG:4326", FIJI["EPSG:4326"])
    bounds = [shapely.from_geojson(json.dumps(one["geometry"])).bounds for one in features]
    assert [one["geometry"]["type"] for one in features] == ["Polygon", "Polygon"]
    np.testing.assert_allclose(bounds, [(179.65, -16.6, 179.7, -16.55), (-179.7, -16.6, -179.65, -16.55)], atol=1e-9)


@pytest.mark.parametrize("crs", ["EPSG:4326", "EPSG:3857"])
def test_a_polygon_around_the_world_does_not_cross(crs: str, tmp_path: Path) -> None:
    labels = np.zeros((30, 36), np.uint8)
    labels[10:20] = 1
    metres = 20037508.342789244 / 18
    transform = (10, 0, -180, 0, -10, 150) if crs == "EPSG:4326" else (metres, 0, -metres * 18, 0, -metres, metres * 15)
    (one,) = written(tmp_path / "a.geojson", labels, crs, transform)
    assert one["geometry"]["type"] == "Polygon"
    assert shapely.from_geojson(json.dumps(one["geometry"])).bounds[::2] == pytest.approx((-180, 180))


def test_a_polygon_around_a_pole_is_refused_and_a_geopackage_has_it(tmp_path: Path) -> None:
    transform = (1000.0, 0.0, -50000.0, 0.0, -1000.0, 50000.0)
    with pytest.raises(DataError, match=r"a polygon is around a pole, .*--polygon-format geopackage"):
        written(tmp_path / "a.geojson", np.ones((100, 100), np.uint8), "EPSG:3031", transform)
    place = Georeference(parse_crs("EPSG:3031"), transform)
    found = Segmentation(np.ones((9, 9), np.uint8), CLASSES, np.ones((9, 9), np.float32), georeference=place)
    assert write_polygons(tmp_path / "a.gpkg", found, PolygonOptions("geopackage"))["polygons"] == 1
