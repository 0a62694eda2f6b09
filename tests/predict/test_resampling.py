"""`--resample`: the model sees the resolution that it was trained on, and labels are on the image's own grid."""

import json
import logging
import os
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from numpy.typing import NDArray
from PIL import Image

from made_geo import TRANSFORM, write_image
from made_scenes import Neighbourhood, mask_of, predictor, smooth
from pyramidseg.base.errors import ConfigError
from pyramidseg.images.georeference import Georeference, ground_resolution, parse_crs
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.summary_file import PredictionSummary

GROUND = 0.49986346995458725
"""Metres of a pixel of `TRANSFORM` on the ground; the scale of UTM there is 1.0003."""


def predicted(path: Path, out: Path, metres: float | None = None, **options: Any) -> PredictionSummary:
    return predict_files(predictor(), [path], out, scenes=SceneOptions(resample=metres), **options)


def enlarged(labels: NDArray[np.uint8], height: int, width: int) -> NDArray[np.uint8]:
    """The nearest label by the centres of pixels."""
    rows, columns = (
        ((np.arange(full) + 0.5) * own // full).astype(int)
        for full, own in zip((height, width), labels.shape, strict=True)
    )
    return labels[rows][:, columns]


@pytest.mark.parametrize(
    ("crs", "transform", "metres"),
    [
        ("EPSG:32616", TRANSFORM, GROUND),
        ("EPSG:32633", (0.3, 0.1, 5e5, 0.1, -0.3, 55e5), 0.316354),  # rotated; on the central meridian, scale 0.9996
        ("EPSG:4326", (1e-5, 0, 10, 0, -1e-5, 60), 0.788470),  # 0.5580 x 1.1141 m
        ("EPSG:3857", (0.5, 0, 1e6, 0, -0.5, 6.5e6), 0.319518),  # Web Mercator enlarges by 1.56 here
        ("EPSG:2263", (1, 0, 1e6, 0, -1, 2e5), 0.304782),  # feet
    ],
)
def test_the_ground_resolution_is_in_metres_on_the_ground(crs: str, transform: Any, metres: float) -> None:
    assert ground_resolution(Georeference(parse_crs(crs), transform), 10, 10) == pytest.approx(metres, rel=1e-4)


def test_places_that_are_not_on_earth_have_none() -> None:
    assert ground_resolution(None, 10, 10) is None
    assert ground_resolution(Georeference("", TRANSFORM), 10, 10) is None


@pytest.mark.parametrize(
    "transform",
    [
        (0.25, 0.0, 733601.0, 0.0, -0.25, 3725139.0),
        (0.25, 0.0, 733601.0, 0.0, 0.25, 3725139.0),
        (0.15, 0.2, 733601.0, 0.2, -0.15, 3725139.0),
    ],
    ids=["north-up", "south-up", "rotated"],
)
def test_labels_of_half_the_resolution_are_enlarged_to_the_whole(tmp_path: Path, transform: tuple[float, ...]) -> None:
    coarse = smooth(150, 230)
    path = write_image(tmp_path / "a.tif", coarse.repeat(2, 0).repeat(2, 1), transform=transform, photometric="RGB")
    summary = predicted(path, tmp_path / "out", GROUND)
    assert not summary.failed and summary.last is not None
    assert (summary.last["height"], summary.last["width"]) == (300, 460)
    labels = predictor(tile_px="whole", overlap_px=None).predict(coarse).labels
    assert len(np.unique(labels)) == 3
    np.testing.assert_array_equal(mask_of(tmp_path / "out"), labels.repeat(2, 0).repeat(2, 1))
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as found, rasterio.open(path) as image:
        assert (found.transform, found.crs, found.shape) == (image.transform, image.crs, image.shape)
        assert found.tags()["class_1"] == Neighbourhood.classes.names[1] and found.nodata == 255
        assert found.colormap(1)[1][:3] == Neighbourhood.classes.colors[1]


@pytest.mark.parametrize("metres", [0.31, 0.83, 2.9])
def test_any_ratio_gives_the_nearest_labels(tmp_path: Path, metres: float) -> None:
    path = write_image(
        tmp_path / "a.tif", smooth(211, 307), photometric="RGB", tiled=True, blockxsize=64, blockysize=64
    )
    with closing(RasterScene(path, resample_m=metres)) as scene:
        height, width = scene.header[:2]
        pixels, _ = scene.window(slice(0, height), slice(0, width), 3)
    assert (height, width) == (round(211 * GROUND / metres), round(307 * GROUND / metres))
    predicted(path, tmp_path / "out", metres)
    labels = predictor(tile_px="whole", overlap_px=None).predict(pixels).labels
    found = mask_of(tmp_path / "out")
    assert found.shape == (211, 307)
    assert (found == enlarged(labels, 211, 307)).mean() > 0.999  # GDAL rounds otherwise in a few rows


def test_nodata_stays_nodata(tmp_path: Path) -> None:
    values = smooth(200, 300) // 2 + 9
    values[:80] = 0
    path = write_image(tmp_path / "a.tif", values, photometric="RGB", nodata=0)
    predicted(path, tmp_path / "out", 2 * GROUND)
    found = mask_of(tmp_path / "out")
    assert (found[:78] == 255).all() and (found[82:] < 3).all()


class Trained(Neighbourhood):
    resolution_m: float | None = 1.0


def messages(model: Any, path: Path, caplog: pytest.LogCaptureFixture) -> list[str]:
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        own = Predictor(model)
        for _ in range(2):
            own.predict(path)
    return [record.getMessage() for record in caplog.records]


def test_another_resolution_is_warned_of_once_with_the_option(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write_image(tmp_path / "a.tif", smooth(60, 60), photometric="RGB")
    (message,) = messages(Trained(), path, caplog)
    assert "a.tif: has pixels of 0.5 m, where the model was trained on 1 m;" in message
    assert "predict with `resample=1` (" in message
    model = Trained()
    for metres in (0.46, 0.54, None):  # within a tenth; and of a model that does not know
        model.resolution_m = metres
        assert not messages(model, path, caplog)
    model.resolution_m = 0.45
    assert messages(model, path, caplog)


def test_nothing_is_said_of_images_without_a_place(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    nowhere = write_image(tmp_path / "b.tif", smooth(60, 60), crs=None, photometric="RGB")
    assert not messages(Trained(), nowhere, caplog)


def test_scenes_are_warned_of_too_and_not_once_they_are_resampled(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 2000)
    path = write_image(tmp_path / "a.tif", smooth(200, 200), photometric="RGB")
    for metres, count in ((None, 1), (1.0, 0)):
        caplog.clear()
        own = predictor()
        own.resolution_m = 1.0
        predict_files(own, [path], tmp_path / "out", scenes=SceneOptions(resample=metres))
        assert sum("`resample=1` (" in record.getMessage() for record in caplog.records) == count


def test_the_option_does_again_what_was_done_without_it(tmp_path: Path) -> None:
    """The advice is followed with the same folder."""
    path = write_image(tmp_path / "a.tif", smooth(60, 90), photometric="RGB")
    predicted(path, tmp_path / "out")
    assert (tmp_path / "out" / "a.png").exists()
    assert predicted(path, tmp_path / "out", 1.0).unchanged == 0
    assert mask_of(tmp_path / "out").shape == (60, 90)
    assert predicted(path, tmp_path / "out", 1.0).unchanged == 1
    assert predicted(path, tmp_path / "out", 0.8).unchanged == 0
    assert predicted(path, tmp_path / "out").unchanged == 0


def test_a_mask_of_another_name_is_not_left_beside_the_new_one(tmp_path: Path) -> None:
    path, out = write_image(tmp_path / "a.tif", smooth(60, 90), photometric="RGB"), tmp_path / "out"
    for metres, there in ((None, "a.png"), (1.0, "a_mask.tif"), (0.8, "a_mask.tif"), (None, "a.png")):
        predicted(path, out, metres)
        assert [file.name for file in out.glob("a*")] == [there]
    os.utime(out / "a.png", ns=(1, 1))  # by another program, as far as one can see
    predicted(path, out, 1.0)
    assert sorted(file.name for file in out.glob("a*")) == ["a.png", "a_mask.tif"]


def test_a_mask_that_another_image_has_now_stays(tmp_path: Path) -> None:
    path, out = write_image(tmp_path / "a.tif", smooth(60, 90), photometric="RGB"), tmp_path / "out"
    predicted(path, out)
    (tmp_path / "more").mkdir()
    Image.fromarray(smooth(60, 90)).save(tmp_path / "more" / "a.bmp")  # with the same labels
    predict_files(predictor(), [path, tmp_path / "more" / "a.bmp"], out, scenes=SceneOptions(resample=1.0))
    assert sorted(file.name for file in out.glob("a*")) == ["a.png", "a_mask.tif"]


def test_an_image_without_a_place_is_predicted_as_it_is(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", smooth(60, 90), crs=None, photometric="RGB")
    predicted(path, tmp_path / "out", 3.0)
    labels = predictor(tile_px="whole", overlap_px=None).predict(path).labels
    np.testing.assert_array_equal(mask_of(tmp_path / "out"), labels)


@pytest.mark.parametrize("metres", [0.0, -1.0, float("nan")])
def test_impossible_resolutions_are_refused(tmp_path: Path, metres: float) -> None:
    path = write_image(tmp_path / "a.tif", smooth(60, 90), photometric="RGB")
    with pytest.raises(ConfigError, match=r"`resample=.*`: metres per pixel are more than 0, such as"):
        predicted(path, tmp_path / "out", metres)


@pytest.mark.parametrize("metres", [1e9, 1e-9])
def test_resolutions_that_are_far_from_the_image_are_errors_of_it(tmp_path: Path, metres: float) -> None:
    path = write_image(tmp_path / "a.tif", smooth(60, 90), photometric="RGB")
    (error,) = (entry["error"] for entry in [predicted(path, tmp_path / "out", metres).last])  # type: ignore[index]
    assert "differs more than 100 times: choose metres per pixel, such as" in error and str(path) in error
    assert not predicted(path, tmp_path / "out", float(error.split()[-1])).failed  # followed literally


def test_polygons_of_resampled_scenes_are_in_their_place_on_the_map(tmp_path: Path) -> None:
    coarse = smooth(100, 140)
    fine = (0.25, 0.0, 733601.0, 0.0, -0.25, 3725139.0)
    sources = (
        (write_image(tmp_path / "a.tif", coarse.repeat(2, 0).repeat(2, 1), transform=fine, photometric="RGB"), GROUND),
        (write_image(tmp_path / "b.tif", coarse, photometric="RGB"), None),
    )
    found = []
    for path, metres in sources:
        out = tmp_path / path.stem
        assert not predicted(path, out, metres, save=("polygons",)).failed
        features = json.loads(next(out.glob("*.geojson")).read_text())["features"]
        points = np.concatenate(
            [np.concatenate([np.array(ring) for ring in it["geometry"]["coordinates"]]) for it in features]
        )
        found.append((points[:, 0].min(), points[:, 0].max(), points[:, 1].min(), points[:, 1].max()))
    assert found[0] == pytest.approx(found[1], abs=1e-9)
