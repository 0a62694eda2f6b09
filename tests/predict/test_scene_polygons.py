"""Polygons of images that are predicted in windows are those of the whole label map, whatever the windows are."""

import itertools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from made_backends import Brightness
from made_geo import write_image
from made_scenes import Neighbourhood, killed_at, mask_of, predictor, smooth
from pyramidseg.annotations.contours import RegionTracer
from pyramidseg.base.classes import Classes
from pyramidseg.images.georeference import read_georeference
from pyramidseg.predict.outputs import polygon_layers
from pyramidseg.predict.outputs.polygon_layers import PolygonOptions, write_polygons
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import Segmentation
from pyramidseg.predict.summary_file import PredictionSummary

OPTIONS: list[dict[str, Any]] = [{}, {"simplify_px": 1.5}, {"min_area_px": 60}, {"simplify_px": 2, "min_area_px": 90}]


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)
    monkeypatch.setattr("pyramidseg.predict.scene_prediction.PANEL_PX", 200)
    monkeypatch.setattr(polygon_layers, "_PIXELS", 4_000)


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """Channels that are each highest somewhere: islands with holes, and one class around all of it."""
    pixels = smooth(height, width, seed=seed)
    pixels[:, :, 0] //= 2
    pixels[height // 8 : -height // 8, width // 3 : width // 2] = (250, 20, 20)  # crosses all blocks
    pixels[height // 4 : height // 2, 3 * width // 8 : 3 * width // 7] = (20, 250, 20)  # a hole in it
    return pixels


def predict(path: Path, out: Path, own: Predictor | None = None, **options: Any) -> PredictionSummary:
    return predict_files(own or predictor(), [path], out, save=("polygons",), polygons=PolygonOptions(**options))


def features(path: Path) -> list[str]:
    """In an order of their own: they are written as they end."""
    return sorted(json.dumps(feature) for feature in json.loads(path.read_text())["features"])


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(("height", "width", "seed"), [(280, 230, 0), (150, 290, 1)])
def test_features_are_those_of_the_image_read_whole(
    height: int, width: int, seed: int, options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.tif", blobs(height, width, seed), photometric="RGB")
    summary = predict(path, tmp_path / "windows", **options)
    assert summary.last is not None and not summary.failed
    assert summary.last["outputs"] == {"mask": "a_mask.tif", "polygons": "a_polygons.geojson"}
    found = features(tmp_path / "windows" / "a_polygons.geojson")
    predict(path, tmp_path / "other", predictor(tile_px=192), **options)
    in_order = [(tmp_path / out / "a_polygons.geojson").read_bytes() for out in ("windows", "other")]
    assert in_order[0] == in_order[1], "windows of another size"
    with monkeypatch.context() as patch:
        patch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 10**9)
        patch.setattr(polygon_layers, "_PIXELS", 10**9)
        whole = predict(path, tmp_path / "whole", predictor(tile_px="whole", overlap_px=None), **options)
    assert features(tmp_path / "whole" / "a_polygons.geojson") == found
    has_hole = any(len(json.loads(feature)["geometry"]["coordinates"]) > 1 for feature in found)
    assert has_hole or "min_area_px" in options
    assert summary.polygons.pop("moved_px") == pytest.approx(whole.polygons.pop("moved_px"), abs=2)  # ties
    assert summary.polygons == whole.polygons
    assert (summary.last["polygons"]["moved_px"] > 0) == ("simplify_px" in options)
    assert (summary.polygons["merged_px"] > 0) == ("min_area_px" in options)


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_nodata_has_no_polygon_and_is_merged_with_nothing(options: dict[str, Any], tmp_path: Path) -> None:
    values = blobs(300, 260, 3).clip(1, 255)
    values[:, :60] = values[60:90, 100:200] = values[150:152, 240:242] = 0
    path = write_image(tmp_path / "a.tif", values, photometric="RGB", nodata=0)
    predict(path, tmp_path / "out", **options)
    labels = mask_of(tmp_path / "out")
    assert np.array_equal(labels == 255, (values == 0).all(axis=2))
    found = [json.loads(feature) for feature in features(tmp_path / "out" / "a_polygons.geojson")]
    assert sum(one["properties"]["pixels"] for one in found) == int((labels < 255).sum())
    with_place = Segmentation(labels, Neighbourhood.classes, np.ones(labels.shape, np.float32),
                              georeference=read_georeference(path))  # fmt: skip
    if "min_area_px" not in options:  # which depends on the confidence
        write_polygons(tmp_path / "whole.geojson", with_place, PolygonOptions(**options))
        whole = [json.loads(feature)["geometry"] for feature in features(tmp_path / "whole.geojson")]
        assert sorted(map(str, whole)) == sorted(str(one["geometry"]) for one in found)


def test_polygon_block_cuts_at_its_rows_with_common_corners(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, blobs(300, 260, 5), photometric="rgb")
    own = predict(path, tmp_path / "out", block_rows=100, simplify_px=1.0)
    content = [json.loads(feature) for feature in features(tmp_path / "out" / "a_polygons.geojson")]
    edges = set()
    for rings in (one["geometry"]["coordinates"] for one in content):
        rows = [y for _, y in rings[0]]
        assert max(rows) - min(rows) <= 100 and min(rows) // 100 == (max(rows) - 1) // 100
        edges |= {(*first, *second) for ring in rings for first, second in itertools.pairwise(ring)}
    within = {edge for edge in edges if not (edge[0] == edge[2] in (0, 260) or edge[1] == edge[3] in (0, 300))}
    assert {(c, d, a, b) for a, b, c, d in within} == within, "each edge has the same one of a neighbour"
    assert any(edge[1] == edge[3] == 100 for edge in within)
    assert sum(one["properties"]["pixels"] for one in content) == 300 * 260
    assert own.last is not None and own.last["polygons"]["block_rows"] == 100


def test_a_killed_scene_goes_on_and_gives_the_same_polygons(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", blobs(500, 300, 6), photometric="RGB")

    killed_at(14, lambda own: predict(path, tmp_path / "out", own))
    assert not predict(path, tmp_path / "out").failed
    predict(path, tmp_path / "at once")
    for name in ("a_polygons.geojson", "a_mask.tif"):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    assert not list((tmp_path / "out").glob(".*"))
    assert predict(path, tmp_path / "out").unchanged == 1
    assert predict(path, tmp_path / "out", simplify_px=1.0).unchanged == 0


def test_a_scene_whose_mask_exists_gets_polygons_later(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", blobs(300, 260, 7), photometric="RGB")
    predict_files(predictor(), [path], tmp_path / "out")
    before = mask_of(tmp_path / "out")
    assert predict(path, tmp_path / "out").unchanged == 0
    assert np.array_equal(mask_of(tmp_path / "out"), before)
    assert (tmp_path / "out" / "a_polygons.geojson").exists()


def test_memory_of_traced_rows_is_that_of_open_regions() -> None:
    """A thousand squares one below the other: at no time more corners are kept than a few of them have."""
    tile = np.zeros((8, 32), np.uint8)
    tile[2:6, 4:12] = tile[2:6, 20:28] = 1
    tracer, most, found = RegionTracer(32, skip=[0], simplify_px=0), 0, 0
    for _ in range(1000):
        found += len(tracer.add(tile))
        most = max(most, len(tracer._corners) + tracer._table.shape[1])
    assert found + len(tracer.finish()) == 2000 and most < 40


def test_classes_without_background_and_of_one_value(tmp_path: Path) -> None:
    shape = (50, 40)
    found = Segmentation(np.zeros(shape, np.uint8), Classes.from_names(["dark", "bright"]), np.ones(shape, np.float32))
    assert Brightness.classes.names[0] == "dark"
    counts = write_polygons(tmp_path / "a.geojson", found, PolygonOptions(simplify_px=3.0))
    assert (counts["polygons"], counts["moved_px"]) == (1, 0)
