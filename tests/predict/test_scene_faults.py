"""Scenes with what goes wrong: parts that are missing, options without effect, files in the way."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from made_geo import write_image
from made_scenes import mask_of, predict, smooth, write_mosaic
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.images.raster_scene import RasterScene, mosaic_parts
from pyramidseg.images.scene import SceneOptions


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)


def test_what_a_missing_part_of_a_mosaic_covers_has_no_label(tmp_path: Path) -> None:
    """GDAL gives zeros in place of the part to a handle that has failed once."""
    mosaic = write_mosaic(tmp_path, smooth(200, 400))
    (tmp_path / "part1.tif").rename(tmp_path / "other.tif")
    (failed,) = predict(mosaic, tmp_path / "out").failed
    assert "part1.tif" in failed["error"] and ".;" not in failed["error"]
    assert (mask_of(tmp_path / "out")[:, 241:] == 255).all()
    assert (mask_of(tmp_path / "out")[:, :64] < 255).all()
    (tmp_path / "other.tif").rename(tmp_path / "part1.tif")
    assert not predict(mosaic, tmp_path / "out").failed
    assert (mask_of(tmp_path / "out") < 255).all()


def test_overwrite_uses_no_rows_of_an_earlier_call(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path, smooth(200, 400))
    (tmp_path / "part1.tif").rename(tmp_path / "other.tif")
    assert predict(mosaic, tmp_path / "out").failed
    (tmp_path / "other.tif").rename(tmp_path / "part1.tif")
    write_image(tmp_path / "part0.tif", smooth(200, 240, seed=9), photometric="RGB")
    predict(mosaic, tmp_path / "out", overwrite=True)
    predict(mosaic, tmp_path / "fresh")
    assert np.array_equal(mask_of(tmp_path / "out"), mask_of(tmp_path / "fresh"))


def test_a_mosaic_is_predicted_again_when_one_of_its_parts_has_changed(tmp_path: Path) -> None:
    mosaic = write_mosaic(tmp_path, smooth(200, 400))
    predict(mosaic, tmp_path / "out")
    assert predict(mosaic, tmp_path / "out").unchanged == 1
    write_image(tmp_path / "part0.tif", smooth(200, 240, seed=9), photometric="RGB")
    assert predict(mosaic, tmp_path / "out").unchanged == 0
    predict(mosaic, tmp_path / "fresh")
    assert np.array_equal(mask_of(tmp_path / "out"), mask_of(tmp_path / "fresh"))


def test_parts_of_a_mosaic_are_found_by_any_name(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    for name in ("a & b.tif", "deep/c.tif", "d.tif"):
        (tmp_path / name).touch()
    names = ("a &amp; b.tif", "deep/c.tif", "a &amp; b.tif", str(tmp_path / "d.tif"), "missing.tif", "/vsimem/e.tif")
    sources = "".join(f'<SourceFilename relativeToVRT="1">{name}</SourceFilename>' for name in names)
    (tmp_path / "m.vrt").write_text(f"<VRTDataset>{sources}</VRTDataset>")
    assert {*mosaic_parts(tmp_path / "m.vrt")} == {tmp_path / name for name in ("a & b.tif", "deep/c.tif", "d.tif")}


def test_rows_of_a_finished_scene_are_deleted(tmp_path: Path) -> None:
    """A call may be killed between the line in its ledger and the deletion."""
    path = write_image(tmp_path / "a.tif", smooth(200, 300), photometric="RGB")
    predict(path, tmp_path / "out")
    (tmp_path / "out" / ".a_mask.tif.rows").mkdir()
    assert predict(path, tmp_path / "out").unchanged == 1
    assert not (tmp_path / "out" / ".a_mask.tif.rows").exists()


def test_threads_share_a_few_handles(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = []
    own = RasterScene.open
    monkeypatch.setattr(RasterScene, "open", lambda self: opened.append(own(self)) or opened[-1])
    path = write_image(tmp_path / "a.tif", smooth(900, 200), tiled=True, blockxsize=64, blockysize=64)
    assert not predict(path, tmp_path / "out").failed
    assert 1 <= len(opened) <= 3 and all(file.closed for file in opened)


def test_options_of_windows_need_images_that_are_read_in_windows(tmp_path: Path) -> None:
    Image.fromarray(smooth(20, 30)).save(tmp_path / "a.png")
    with pytest.raises(ConfigError, match=r"^`skip_empty`: is for slides, Zarr, VRT and TIFF files only; leave"):
        predict(tmp_path / "a.png", tmp_path / "out", scenes=SceneOptions(skip_empty=True))


def test_a_label_format_needs_other_images(tmp_path: Path) -> None:
    path = write_image(tmp_path / "a.tif", smooth(200, 300), photometric="RGB")
    predict(path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"`save=coco`: .*a\.tif is predicted in windows"):
        predict(path, tmp_path / "out", save=("mask", "coco"))
    assert not (tmp_path / "out" / "coco").exists()


def test_a_foreign_mask_is_found_first_or_costs_its_image_only(tmp_path: Path) -> None:
    write_image(tmp_path / "out" / "a_mask.tif", smooth(20, 30))
    mosaic = write_mosaic(tmp_path, smooth(200, 400))
    with pytest.raises(OutputError, match=r"a_mask\.tif: exists and was not written by pyramidseg"):
        predict(mosaic, tmp_path / "out")
    path = write_image(tmp_path / "in" / "a.tif", smooth(200, 300), photometric="RGB")
    long = write_image(tmp_path / "in" / f"{'n' * 246}.tif", smooth(200, 300), photometric="RGB")
    write_image(tmp_path / "in" / "z.tif", smooth(20, 30), photometric="RGB")
    summary = predict(tmp_path / "in", tmp_path / "out")
    assert sorted(entry["image"] for entry in summary.failed) == [str(path), str(long)]
    errors = " ".join(entry["error"] for entry in summary.failed)
    assert "not written by pyramidseg" in errors and "takes no name as long" in errors
    assert (tmp_path / "out" / "z.png").exists()
