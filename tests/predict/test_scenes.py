"""Images that are predicted in windows: the labels of the whole image, in a COG with its georeference."""

import json
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from hypothesis import given, settings
from hypothesis import strategies as st

from made_geo import TRANSFORM, UTM, write_image
from made_scenes import TILE, Neighbourhood, mask_of, predict, predictor, smooth, whole_labels, write_mosaic
from pyramidseg.base.ledger import Ledger
from pyramidseg.images.open_scene import open_scene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.scene_prediction import ScenePrediction, is_single_color

pytestmark = pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")  # of the test's own files


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever has more than 20,000 pixels is predicted in windows."""
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)


@pytest.mark.parametrize(
    "options",
    [
        {"photometric": "RGB"},
        {"tiled": True, "blockxsize": 64, "blockysize": 32, "compress": "lzw"},
        {"BIGTIFF": "YES", "interleave": "band"},
        {"transform": (0.3, 0.1, 733601.1, -0.2, -0.49999999, 3725139.7)},
        {"transform": (0.25, 0.0, 1e6, 0.0, 0.25, -7.125)},
        {"transform": (1, 0, 0, 0, 1, 0), "crs": None},
    ],
    ids=["strips", "tiles", "planes", "rotated", "south-up", "no place"],
)
def test_labels_are_those_of_the_whole_image(
    options: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_image(tmp_path / "a.tif", smooth(333, 517), **options)
    summary = predict(path, tmp_path / "out", save=("geotiff",))
    assert summary.last is not None and not summary.failed
    assert summary.last["outputs"] == {"mask": "a_mask.tif", "geotiff": "a_mask.tif"}
    assert (summary.last["height"], summary.last["width"], summary.last["tile_px"]) == (333, 517, TILE)
    expected = whole_labels(path, monkeypatch)
    assert len(np.unique(expected)) == 3
    assert np.array_equal(mask_of(tmp_path / "out"), expected)
    shares = {name: (expected == index).mean() for index, name in enumerate(Neighbourhood.classes.names)}
    assert summary.last["classes"] == pytest.approx(shares) and summary.last["nodata"] == 0
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as found, rasterio.open(path) as image:
        assert (found.transform, found.crs, found.gcps) == (image.transform, image.crs, image.gcps)
        assert found.nodata == 255 and found.colormap(1)[1][:3] == Neighbourhood.classes.colors[1]
        assert [found.tags()[f"class_{index}"] for index in range(3)] == list(Neighbourhood.classes.names)
        assert found.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert found.overviews(1) == [2]
        assert (found.read(1, out_shape=(167, 259)) == expected[::2, ::2]).mean() > 0.9
    assert sorted(entry.name for entry in (tmp_path / "out").iterdir()) == [
        "a_mask.tif",
        "ledger",
        "predictions.json",
    ]


@given(
    st.integers(1, 400),
    st.integers(1, 400),
    st.integers(0, 99),
    st.sampled_from([64, 96, 128]),
    st.sampled_from([1, 200, 4096]),
)
@settings(max_examples=12, deadline=None)
def test_windows_and_panels_of_any_size_give_the_labels_of_the_whole_image(
    tmp_path_factory: pytest.TempPathFactory, height: int, width: int, seed: int, tile: int, panel: int
) -> None:
    folder = tmp_path_factory.mktemp("scene")
    pixels = smooth(height, width, seed=seed)
    path = write_image(folder / "a.tif", pixels, photometric="RGB")
    options = SceneOptions()
    with (
        closing(open_scene(path, options)) as scene,
        Ledger.open(folder / "work") as ledger,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("pyramidseg.predict.scene_prediction.PANEL_PX", panel)
        own = predictor(tile_px=tile, overlap_px=tile // 64 * 32)
        prediction = ScenePrediction(own, scene, ledger, "x", skip_empty=False)
        prediction.run()
        prediction.write(folder / "labels.tif")
    tiled = own.predict(pixels) if max(height, width) > tile else None
    expected = predictor(tile_px="whole", overlap_px=None).predict(pixels).labels
    found = mask_of(folder, "labels.tif")
    if tile == 128:
        assert np.array_equal(found, expected)
    if tiled is not None:
        assert np.array_equal(found, tiled.labels)


def test_control_points_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = [
        rasterio.control.GroundControlPoint(row, col, x, y)
        for row, col, x, y in [(0, 0, 100.5, 200.25), (0, 300, 1400, 205), (200, 0, 103, 1100.125)]
    ]
    path = write_image(tmp_path / "a.tif", smooth(200, 300), crs=None, transform=(1, 0, 0, 0, 1, 0))
    with rasterio.open(path, "r+") as file:
        file.gcps = points, rasterio.crs.CRS.from_string(UTM)
    assert not predict(path, tmp_path / "out").failed
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as found:
        assert [(point.row, point.col, point.x, point.y) for point in found.gcps[0]] == [
            (point.row, point.col, point.x, point.y) for point in points
        ]
        assert found.gcps[1] == rasterio.crs.CRS.from_string(UTM)
    assert np.array_equal(mask_of(tmp_path / "out"), whole_labels(path, monkeypatch))


@pytest.mark.parametrize(("channels", "dtype"), [(1, "uint8"), (4, "uint8"), (3, "uint16"), (1, "float64")])
def test_channels_and_types_are_read_as_from_whole_images(
    channels: int, dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = smooth(150, 300, channels).astype(dtype)
    path = write_image(tmp_path / "a.tif", values, **({"photometric": "RGB", "alpha": "YES"} if channels >= 3 else {}))
    assert not predict(path, tmp_path / "out").failed
    found, expected = mask_of(tmp_path / "out"), whole_labels(path, monkeypatch)
    seen = np.ones(found.shape, bool) if channels != 4 else values[..., 3] > 0
    assert np.array_equal(found[seen], expected[seen]) and (found[~seen] == 255).all()


@pytest.mark.parametrize("dtype", ["uint8", "float32"])
def test_nodata_is_filled_as_in_whole_images_and_has_no_label(
    dtype: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = smooth(300, 400).clip(1, 255).astype(dtype)
    values[:, :180] = 0
    values[50:90, 300:350] = 0
    path = write_image(tmp_path / "a.tif", values, photometric="RGB", nodata=0)
    summary = predict(path, tmp_path / "out")
    found, expected = mask_of(tmp_path / "out"), whole_labels(path, monkeypatch)
    empty = (values == 0).all(axis=2)
    assert (found[empty] == 255).all()
    assert np.array_equal(found[~empty], expected[~empty])
    assert summary.last is not None and summary.last["nodata"] == pytest.approx(empty.mean())


def test_a_mosaic_of_scenes_is_one_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = smooth(200, 400)
    whole = write_image(tmp_path / "whole.tif", values, photometric="RGB")
    write_mosaic(tmp_path, values)
    assert not predict(tmp_path / "a.vrt", tmp_path / "out").failed
    assert np.array_equal(mask_of(tmp_path / "out"), whole_labels(whole, monkeypatch))
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as found:
        assert tuple(found.transform)[:6] == TRANSFORM and found.crs == rasterio.crs.CRS.from_string(UTM)


def test_windows_of_a_single_colour_are_left_out_on_request(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.full((400, 600, 3), 240, np.uint8)
    values += np.random.default_rng(0).integers(0, 8, values.shape, dtype=np.uint8)  # noise of a scanner
    values[300:340, 500:540] = smooth(40, 40)
    path = write_image(tmp_path / "a.tif", values, photometric="RGB")
    backend = Neighbourhood()
    computed = []
    coarse = backend.coarse_logits
    monkeypatch.setattr(backend, "coarse_logits", lambda images: computed.append(images.shape) or coarse(images))
    own = predictor()
    own.backend = backend
    summary = predict_files(own, [path], tmp_path / "out", scenes=SceneOptions(skip_empty=True))
    found, expected = mask_of(tmp_path / "out"), whole_labels(path, monkeypatch)
    assert len(computed) == 1 + 9  # the probe, and of 54 windows those with the object
    labelled = found != 255
    assert labelled[300:340, 500:540].all() and not labelled[:200].any()
    assert np.array_equal(found[300:340, 500:540], expected[300:340, 500:540])
    assert summary.last is not None and summary.last["nodata"] == pytest.approx(1 - labelled.mean())
    again = predict_files(own, [path], tmp_path / "out")
    assert again.unchanged == 0, "without --skip-empty, it is predicted again"
    assert np.array_equal(mask_of(tmp_path / "out"), expected)


def test_a_small_object_is_not_a_single_colour() -> None:
    window = np.full((256, 256, 3), 200, np.uint8)
    assert is_single_color(window)
    window[100:116, 100:116] = 150
    assert not is_single_color(window)
    assert is_single_color(np.full((9, 5, 6), 7, np.uint16))
    assert not is_single_color(np.arange(4, dtype=np.float32).reshape(2, 2, 1))


def test_outputs_that_need_the_whole_image_are_refused(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", smooth(200, 300), photometric="RGB")
    summary = predict(path, tmp_path / "out", save=("overlay", "geotiff"))
    assert [entry["error"] for entry in summary.failed] == [
        f"{path}: is predicted in windows, which writes mask, polygons, geotiff only; leave overlay out of `save`"
    ]


def test_other_images_of_the_call_are_predicted_as_ever(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.tif", smooth(200, 300), photometric="RGB")
    write_image(tmp_path / "in" / "b.tif", smooth(20, 30), photometric="RGB")
    predict_files(predictor(), [tmp_path / "in"], tmp_path / "out")
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [entry["outputs"]["mask"] for entry in entries] == ["a_mask.tif", "b.png"]
    assert predict_files(predictor(), [tmp_path / "in"], tmp_path / "out").unchanged == 2
