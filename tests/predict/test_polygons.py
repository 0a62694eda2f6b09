"""Polygons of predictions: drawn again they equal the masks, areas are geodesic, and calls are continued."""

import json
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from PIL import Image
from rasterio.features import rasterize

from made_backends import Brightness
from made_geo import TRANSFORM, UTM, write_image
from pyramidseg.base.errors import MissingExtra
from pyramidseg.images.georeference import Georeference, geodesic_areas, parse_crs
from pyramidseg.images.open_image import apply_orientation
from pyramidseg.predict.outputs.polygon_layers import PolygonOptions, write_polygons
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import Segmentation
from pyramidseg.predict.summary_file import PredictionSummary


def picture(seed: int = 0) -> np.ndarray:
    """30 x 40, blobs of dark and bright, with noise."""
    generator = np.random.default_rng(seed)
    coarse = generator.integers(0, 2, (6, 8), np.uint8).repeat(5, 0).repeat(5, 1) * 200 + 20
    coarse[generator.random(coarse.shape) < 0.05] = 220
    return np.repeat(coarse[..., None], 3, axis=2)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    return write_image(tmp_path / "images" / "a.tif", picture(), photometric="RGB")


def predict(source: Path, out: Path, *, tile_px: int | None = None, **options: Any) -> PredictionSummary:
    predictor = Predictor(Brightness(), **({} if tile_px is None else {"tile_px": tile_px, "overlap_px": 32}))
    return predict_files(predictor, [source], out, save=("polygons",), polygons=PolygonOptions(**options))


def layer(out: Path) -> dict[str, Any]:
    return dict(json.loads((out / "a_polygons.geojson").read_text()))


def drawn(content: dict[str, Any], transform: tuple[float, ...] = (1, 0, 0, 0, 1, 0)) -> np.ndarray:
    values = {"dark": 0, "bright": 1}
    shapes = [(one["geometry"], values[one["properties"]["class"]]) for one in content["features"]]
    return rasterize(shapes, out_shape=(30, 40), fill=9, transform=rasterio.Affine(*transform), dtype="uint8")


def test_pixel_coordinates_give_the_mask_again_and_the_file_says_that_y_is_down(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    summary = predict(tmp_path / "a.png", tmp_path / "out")
    content = layer(tmp_path / "out")
    assert "y DOWN" in content["coordinates"]
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    np.testing.assert_array_equal(drawn(content), mask)
    properties = [one["properties"] for one in content["features"]]
    assert sum(one["pixels"] for one in properties) == 1200
    assert all(one["area_m2"] is None and 0.5 < one["confidence"] <= 1 for one in properties)
    assert {one["geometry"]["type"] for one in content["features"]} == {"Polygon"}
    assert (summary.polygons["polygons"], summary.polygons["moved_px"]) == (len(properties), 0)
    assert summary.last is not None and summary.last["polygons"]["merged_px"] == 0


def test_confidence_is_the_mean_of_the_pixels(tmp_path: Path) -> None:
    pixels = np.zeros((4, 6, 3), np.uint8)
    pixels[:, 3:], pixels[:2, 3:] = 255, 204
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predict(tmp_path / "a.png", tmp_path / "out")
    sure = {one["properties"]["class"]: one["properties"]["confidence"] for one in layer(tmp_path / "out")["features"]}

    def softmax(brightness: float) -> float:
        return 1 / (1 + math.exp(-2 * abs(brightness)) + math.exp(-9 - abs(brightness)))

    assert sure["dark"] == pytest.approx(softmax(0.5), abs=2e-4)
    assert sure["bright"] == pytest.approx((softmax(0.5) + softmax(0.3)) / 2, abs=2e-4)


def test_map_coordinates_are_longitude_and_latitude(image: Path, tmp_path: Path) -> None:
    predict(image, tmp_path / "out")
    content = layer(tmp_path / "out")
    assert "coordinates" not in content
    lon, lat = np.concatenate([one["geometry"]["coordinates"][0] for one in content["features"]]).T
    assert -84.49 < lon.min() < lon.max() < -84.47 and 33.63 < lat.min() < lat.max() < 33.66
    areas = sum(one["properties"]["area_m2"] for one in content["features"])
    assert areas == pytest.approx(1200 * 0.25, rel=2e-3), "UTM's scale is within 0.1 % of 1"


def test_tiles_give_the_same_polygons(tmp_path: Path) -> None:
    pixels = np.tile(picture(), (3, 3, 1))
    Image.fromarray(pixels).save(tmp_path / "a.png")
    predict(tmp_path / "a.png", tmp_path / "whole", simplify_px=1.0, min_area_px=4)
    predict(tmp_path / "a.png", tmp_path / "tiled", tile_px=64, simplify_px=1.0, min_area_px=4)
    whole, tiled = (layer(tmp_path / name)["features"] for name in ("whole", "tiled"))
    assert [one["geometry"] for one in whole] == [one["geometry"] for one in tiled]


def test_changed_pixels_are_counted(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    summary = predict(tmp_path / "a.png", tmp_path / "out", simplify_px=1.5, min_area_px=4)
    assert summary.last is not None
    found = summary.last["polygons"]
    assert found["merged_px"] > 0 and found["moved_px"] > 0
    content = layer(tmp_path / "out")
    assert min(one["properties"]["pixels"] for one in content["features"]) >= 4
    mask = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    predict(tmp_path / "a.png", tmp_path / "merged", min_area_px=4)
    assert int((drawn(layer(tmp_path / "merged")) != mask).sum()) == found["merged_px"]
    assert (drawn(content) != 9).all()


def test_other_options_are_predicted_again_and_the_same_are_not(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    assert predict(tmp_path / "a.png", tmp_path / "out").unchanged == 0
    before = (tmp_path / "out" / "a_polygons.geojson").read_bytes()
    assert predict(tmp_path / "a.png", tmp_path / "out").unchanged == 1
    assert predict(tmp_path / "a.png", tmp_path / "out", simplify_px=2.0).unchanged == 0
    assert len((tmp_path / "out" / "a_polygons.geojson").read_bytes()) < len(before)
    predict_files(Predictor(Brightness()), [tmp_path / "a.png"], tmp_path / "out")
    assert predict(tmp_path / "a.png", tmp_path / "out", simplify_px=2.0).unchanged == 1


def test_polygons_of_a_version_that_had_fewer_options_are_not_written_again(tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    predict(tmp_path / "a.png", tmp_path / "out")
    for path in (tmp_path / "out" / "ledger").iterdir():
        content = path.read_text()
        assert '"block_rows": 0, ' in content
        path.write_text(content.replace('"block_rows": 0, ', ""))
    assert predict(tmp_path / "a.png", tmp_path / "out").unchanged == 1
    assert predict(tmp_path / "a.png", tmp_path / "out", block_rows=10).unchanged == 0


@pytest.mark.parametrize(("format", "library"), [("geopackage", "pyogrio"), ("geoparquet", "pyarrow")])
def test_a_missing_library_is_named_before_anything_is_predicted(format: str, library: str, tmp_path: Path) -> None:
    Image.fromarray(picture()).save(tmp_path / "a.png")
    try:
        __import__(library)
    except ImportError:
        with pytest.raises(MissingExtra, match=rf"writing {format} needs {library}|{library}"):
            predict(tmp_path / "a.png", tmp_path / "out", format=format)
        assert not (tmp_path / "out" / "a.png").exists()


SQUARE = [np.array([(0, 0), (100, 0), (100, 100), (0, 100), (0, 0)], np.float64)]


def test_areas_are_geodesic_in_web_mercator_and_degrees() -> None:
    mercator = Georeference(parse_crs("EPSG:3857"), (10.0, 0.0, 1113194.9, 0.0, -10.0, 8399737.9))  # 60 degrees north
    (area,) = np.abs(geodesic_areas(SQUARE, mercator))
    assert area == pytest.approx(250_000, rel=0.01), "lengths are doubled there"
    degree = Georeference(parse_crs("EPSG:4326"), (0.01, 0.0, 10.0, 0.0, -0.01, 1.0))
    (area,) = np.abs(geodesic_areas(SQUARE, degree))
    assert area == pytest.approx(12_308_778_361, rel=5e-5), "GeographicLib's edges are geodesics"


def test_areas_add_up_to_the_whole_and_cross_the_180th_meridian() -> None:
    place = Georeference(parse_crs("EPSG:32601"), (50.0, 0.0, 282600.0, 0.0, -50.0, 5500000.0))
    halves = [np.array([(x, 0), (x + 50, 0), (x + 50, 100), (x, 100), (x, 0)], np.float64) for x in (0, 50)]
    parts, (whole,) = geodesic_areas(halves, place), geodesic_areas(SQUARE, place)
    assert parts.sum() == pytest.approx(whole, rel=1e-9)
    assert abs(whole) == pytest.approx(25e6, rel=1e-3)


def test_a_ring_around_a_pole_has_no_area() -> None:
    place = Georeference(parse_crs("EPSG:3031"), (1000.0, 0.0, -50000.0, 0.0, -1000.0, 50000.0))
    assert np.isnan(geodesic_areas(SQUARE, place)).all()


@pytest.mark.parametrize("orientation", [3, 6, 8])
def test_polygons_are_where_the_stored_pixels_are(orientation: int, tmp_path: Path) -> None:
    """An image that its file turns is shown turned, but its georeference is that of the pixels as stored."""
    stored = np.random.default_rng(1).integers(0, 2, (12, 17), np.uint8)
    for name, turn in (("turned", orientation), ("plain", 1)):
        shown = apply_orientation(stored, turn)
        place = Georeference(parse_crs(UTM), TRANSFORM, turn)
        found = Segmentation(shown, Brightness.classes, np.ones(shown.shape, np.float32), georeference=place)
        write_polygons(tmp_path / name, found, PolygonOptions())
    assert (tmp_path / "turned").read_bytes() == (tmp_path / "plain").read_bytes()


@pytest.mark.parametrize("in_windows", [False, True])
def test_images_whose_polygons_cannot_be_written_are_named_and_leave_no_mask(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, in_windows: bool
) -> None:
    monkeypatch.setitem(sys.modules, "shapely", None)
    if in_windows:
        monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 1000)
    images, out = tmp_path / "images", tmp_path / "out"
    places = {
        "good": (UTM, TRANSFORM),
        "local": ('LOCAL_CS["x",UNIT["metre",1]]', TRANSFORM),
        "meridian": ("EPSG:4326", (1e-4, 0, 179.999, 0, -1e-4, 10)),
        "pole": ("EPSG:3031", (1, 0, -30, 0, -1, 24)),
    }
    for name, (crs, transform) in places.items():
        write_image(images / f"{name}.tif", picture(), crs=crs, transform=transform, photometric="RGB")
    summary = predict_files(Predictor(Brightness()), [images], out, save=("polygons",))
    errors = {Path(entry["image"]).stem: entry["error"].removeprefix(entry["image"]) for entry in summary.failed}
    assert errors["local"].startswith(": coordinates cannot be transformed")
    assert errors["meridian"].startswith(": cutting polygons at the 180th meridian needs shapely")
    assert errors["pole"].startswith(": a polygon is around a pole")
    assert {path.stem for path in out.iterdir() if path.is_file() and path.suffix != ".json"} == {
        "good_mask" if in_windows else "good",
        "good_polygons",
    }
    assert (out / "predictions.json").is_file()
