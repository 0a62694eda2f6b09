"""A call that ends in the middle of a scene continues there; windows that cannot be read are tried again."""

import resource
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from made_geo import write_image
from made_scenes import Counting, counting, killed_at, mask_of, predictor, smooth, whole_labels
from pyramidseg.base.errors import DataError, OutputError
from pyramidseg.images.raster_scene import RasterScene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.summary_file import PredictionSummary


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)
    monkeypatch.setattr("pyramidseg.predict.scene_prediction.PANEL_PX", 200)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return write_image(
        tmp_path / "a.tif", smooth(500, 300), photometric="RGB", tiled=True, blockxsize=64, blockysize=64
    )


ROWS, COLUMNS = 7, 4
"""Of windows of 128 pixels with an overlap of 64 in 500 x 300 pixels."""


def predict(own: Predictor, path: Path, out: Path) -> PredictionSummary:
    return predict_files(own, [path], out)


@pytest.mark.parametrize("stop_at", [COLUMNS, COLUMNS + 1, ROWS * COLUMNS])
def test_an_interrupted_scene_goes_on_with_its_row(
    stop_at: int, path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt):
        predict(counting(stop_at=stop_at), path, out)
    assert not (out / "a_mask.tif").exists()
    own = counting()
    assert not predict(own, path, out).failed
    done = (stop_at - 1) // COLUMNS * COLUMNS
    assert own.backend.count == ROWS * COLUMNS - done
    assert np.array_equal(mask_of(out), whole_labels(path, monkeypatch))
    predict(counting(), path, tmp_path / "at once")
    assert (out / "a_mask.tif").read_bytes() == (tmp_path / "at once" / "a_mask.tif").read_bytes()
    assert not list(out.glob(".*"))
    assert predict(counting(), path, out).unchanged == 1


def test_a_killed_scene_goes_on_and_gives_the_same_bytes(path: Path, tmp_path: Path) -> None:
    killed_at(3 * COLUMNS + 2, lambda own: predict(own, path, tmp_path / "out"))
    own = counting()
    assert not predict(own, path, tmp_path / "out").failed
    assert own.backend.count == (ROWS - 3) * COLUMNS
    predict(counting(), path, tmp_path / "at once")
    assert (tmp_path / "out" / "a_mask.tif").read_bytes() == (tmp_path / "at once" / "a_mask.tif").read_bytes()


def test_rows_of_another_resolution_are_not_continued(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(counting(stop_at=3 * COLUMNS), path, tmp_path / "out")
    own = counting()
    coarse = SceneOptions(resample=1.0)
    assert not predict_files(own, [path], tmp_path / "out", scenes=coarse).failed
    assert own.backend.count == 3 * 2, "all windows of 250 x 150 pixels"
    predict_files(predictor(), [path], tmp_path / "fresh", scenes=coarse)
    assert (tmp_path / "out" / "a_mask.tif").read_bytes() == (tmp_path / "fresh" / "a_mask.tif").read_bytes()


def test_another_model_starts_again(path: Path, tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        predict(counting(stop_at=3 * COLUMNS), path, tmp_path / "out")
    own = predictor(tile_px=160)
    own.backend = Counting()
    assert not predict(own, path, tmp_path / "out").failed
    assert own.backend.count == 5 * 3


def unreadable(monkeypatch: pytest.MonkeyPatch, top: int, left: int) -> pytest.MonkeyPatch:
    """Reading fails wherever a window has this pixel."""
    read = RasterScene.read

    def fail(scene: RasterScene, rows: slice, columns: slice) -> tuple[NDArray[Any], Any]:
        if rows.start <= top < rows.stop and columns.start <= left < columns.stop:
            raise DataError("a block is damaged")
        return read(scene, rows, columns)

    monkeypatch.setattr(RasterScene, "read", fail)
    return monkeypatch


def test_windows_that_cannot_be_read_are_nodata_and_tried_again(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    expected = whole_labels(path, monkeypatch)
    with monkeypatch.context() as patch:
        unreadable(patch, 250, 10)
        summary = predict(counting(), path, out)
        assert [entry["error"] for entry in summary.failed] == [
            f"{path}: 2 of 28 windows are nodata, unreadable: a block is damaged; the next call tries again"
        ]
        found = mask_of(out)
        assert found[250, 10] == 255 and 0 < (found == 255).mean() < 0.1
        assert np.array_equal(found[:150], expected[:150]) and np.array_equal(found[:, 160:], expected[:, 160:])
        own = counting()
        assert predict(own, path, out).failed and own.backend.count == 0, "nothing can be read that could not before"
        assert np.array_equal(mask_of(out), found)
    own = counting()
    assert not predict(own, path, out).failed
    assert own.backend.count == (ROWS - 2) * COLUMNS, "from the first row that had unread windows"
    assert np.array_equal(mask_of(out), expected) and not list(out.glob(".*"))


def test_a_truncated_file_keeps_what_can_be_read(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    expected = whole_labels(path, monkeypatch)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 2 // 3])
    (failed,) = predict(predictor(), path, tmp_path / "out").failed
    assert "windows are nodata, unreadable" in failed["error"] and "\n" not in failed["error"]
    found = mask_of(tmp_path / "out")
    assert np.array_equal(found[:200], expected[:200]) and (found[-50:] == 255).all()
    path.write_bytes(content[:100])
    (failed,) = predict(predictor(), path, tmp_path / "out").failed
    assert failed["error"].startswith(f"{path}: cannot be read as an image") and "\n" not in failed["error"]


def test_a_full_disk_is_one_line_and_the_call_can_be_repeated(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = np.random.default_rng(0)
    write_image(path, generator.integers(0, 256, (500, 300, 3), dtype=np.uint8), photometric="RGB")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    for limit in (500, 9_000):
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
        try:
            with pytest.raises(OutputError, match="cannot be written"):
                predict(predictor(), path, tmp_path / "out")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not predict(predictor(), path, tmp_path / "out").failed
    assert np.array_equal(mask_of(tmp_path / "out"), whole_labels(path, monkeypatch))
