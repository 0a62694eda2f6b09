"""Zarr arrays are read in windows and written as label maps: the same labels as of the same image as TIFF."""

import json
import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr
from PIL import Image

from made_geo import write_image
from made_scenes import Neighbourhood, killed_at, mask_of, predictor, smooth
from pyramidseg.base.errors import ConfigError, OutputError
from pyramidseg.images.open_scene import is_scene
from pyramidseg.images.scene import SceneOptions
from pyramidseg.predict.predict_files import predict_files
from pyramidseg.predict.summary_file import PredictionSummary


class Trap:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.touch, (self.path,)


PIXELS = smooth(300, 210)


@pytest.fixture(autouse=True)
def small_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)
    monkeypatch.setattr("pyramidseg.images.label_rasters._CHUNK_PX", 64)


def write(path: Path, values: np.ndarray, axes: str | None, version: int = 3, **options: Any) -> Path:
    names = None if axes is None else tuple(axes)
    if version == 3:
        options |= {"dimension_names": names}
    array = zarr.create_array(path, shape=values.shape, chunks=tuple(min(50, side) for side in values.shape),
                              dtype=values.dtype, zarr_format=version, **options)  # fmt: skip
    if version == 2 and axes:
        array.attrs["_ARRAY_DIMENSIONS"] = [*axes]
    array[...] = values
    return path


def predict(path: Path, out: Path, save: Any = ("mask",), **options: Any) -> PredictionSummary:
    return predict_files(predictor(), [path], out, save=save, scenes=SceneOptions(**options))


def labels_of(out: Path, name: str = "a_mask.zarr.zip") -> np.ndarray:
    return np.asarray(zarr.open_array(zarr.storage.ZipStore(out / name, mode="r"), mode="r")[...])


@pytest.fixture(scope="module")
def expected(tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    folder = tmp_path_factory.mktemp("tiff")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("pyramidseg.images.file_checks.MAX_PIXELS", 20_000)
        predict(write_image(folder / "a.tif", PIXELS, photometric="RGB"), folder / "out")
    labels = mask_of(folder / "out")
    assert len(np.unique(labels)) == 3
    return labels


@pytest.mark.parametrize(
    ("axes", "version", "options", "shown"),
    [
        ("yxc", 3, {}, {}),
        ("cyx", 2, {}, {}),
        ("cyx", 3, {"shards": (3, 100, 100)}, {}),
        (None, 3, {}, {"axes": "cyx"}),
        ("tczyx", 3, {}, {}),
    ],
    ids=str,
)
def test_labels_are_those_of_the_same_image_as_tiff(
    axes: str | None, version: int, options: Any, shown: Any, tmp_path: Path, expected: np.ndarray
) -> None:
    values = PIXELS if axes == "yxc" else PIXELS.transpose(2, 0, 1)
    if axes == "tczyx":
        values = values[None, :, None]
    path = write(tmp_path / "in" / "a.zarr", values, axes, version, **options)
    summary = predict(path, tmp_path / "out", **shown)
    assert not summary.failed and summary.last is not None
    assert summary.last["outputs"] == {"mask": "a_mask.tif"}
    assert np.array_equal(mask_of(tmp_path / "out"), expected)
    assert predict(path.parent, tmp_path / "out", **shown).unchanged == 1, "found in its folder"
    zarr.open_array(path, mode="r+")[..., 0] = 3
    assert predict(path, tmp_path / "out", **shown).unchanged == 0, "a chunk has changed"


def test_levels_of_a_multiscale_image(tmp_path: Path, expected: np.ndarray) -> None:
    group = zarr.open_group(tmp_path / "a.zarr", mode="w")
    for n, values in enumerate((PIXELS, PIXELS[::2, ::2])):
        write(tmp_path / "a.zarr" / str(n), values.transpose(2, 0, 1), None)
    axes = [{"name": name} for name in "cyx"]
    group.attrs["ome"] = {"version": "0.5", "multiscales": [{"axes": axes, "datasets": [{"path": "0"}, {"path": "1"}]}]}
    (failed,) = predict(tmp_path / "a.zarr", tmp_path / "out").failed
    assert failed["error"] == (
        f"{tmp_path}/a.zarr: has several arrays; choose one: `level=0` (3 x 300 x 210); `level=1` (3 x 150 x 105)"
    )
    assert not predict(tmp_path / "a.zarr", tmp_path / "out", level=0).failed
    assert np.array_equal(mask_of(tmp_path / "out"), expected)
    assert not predict(tmp_path / "a.zarr", tmp_path / "out", level=1).failed
    assert mask_of(tmp_path / "out").shape == (150, 105)


def test_one_of_several_arrays_is_asked_for(tmp_path: Path, expected: np.ndarray) -> None:
    zarr.open_group(tmp_path / "a.zarr", mode="w")
    for name in ("late", "early"):
        write(tmp_path / "a.zarr" / name, PIXELS, "yxc")
    (failed,) = predict(tmp_path / "a.zarr", tmp_path / "out").failed
    advice = failed["error"].rpartition("choose one: ")[2].split(" (")[0]
    assert advice == f"{tmp_path}/a.zarr/early"
    assert not predict(Path(advice), tmp_path / "out").failed
    assert np.array_equal(mask_of(tmp_path / "out", "early_mask.tif"), expected)


@pytest.mark.parametrize("shape", [(300, 210, 3), (3, 300, 210), (4, 3, 300, 210)])
def test_axes_are_asked_for_and_not_guessed(shape: tuple[int, ...], tmp_path: Path) -> None:
    path = write(tmp_path / "a.zarr", np.zeros(shape, np.uint8), None)
    (failed,) = predict(path, tmp_path / "out").failed
    assert failed["error"] == (
        f"{path}: has the shape {shape} and axes without names; say which are rows (y), columns (x) and channels (c), "
        "such as `axes='yxc'` or `axes='cyx'`; any other must have 1 element"
    )
    if len(shape) == 4:
        write(tmp_path / "b.zarr", np.zeros(shape, np.uint8), "tcyx")
        assert "axes t, c, y, x" in predict(tmp_path / "b.zarr", tmp_path / "out").failed[0]["error"]


def test_labels_as_zarr_are_those_of_the_geotiff_and_go_on_after_a_kill(tmp_path: Path, expected: np.ndarray) -> None:
    path = write(tmp_path / "a.zarr", PIXELS, "yxc")

    scenes = SceneOptions(format="zarr")
    killed_at(7, lambda own: predict_files(own, [path], tmp_path / "out", scenes=scenes))
    assert list((tmp_path / "out").glob(".a_mask.zarr.zip.rows/0*"))
    summary = predict(path, tmp_path / "out", format="zarr")
    assert summary.last is not None and summary.last["outputs"] == {"mask": "a_mask.zarr.zip"}
    assert np.array_equal(labels_of(tmp_path / "out"), expected)
    predict(path, tmp_path / "at once", format="zarr")
    name = "a_mask.zarr.zip"
    assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "at once" / name).read_bytes()
    array = zarr.open_array(zarr.storage.ZipStore(tmp_path / "out" / name, mode="r"), mode="r")
    assert array.attrs["classes"] == list(Neighbourhood.classes.names) and array.fill_value == 255
    assert array.metadata.dimension_names == ("y", "x") and array.chunks == (64, 64)
    assert not list((tmp_path / "out").glob(".*"))
    assert predict(path, tmp_path / "out", format="zarr").unchanged == 1
    (tmp_path / "out" / name).write_bytes(b"")
    with pytest.raises(OutputError, match="not written by pyramidseg"):
        predict(path, tmp_path / "out", format="zarr")


def test_tiff_to_zarr_and_what_it_cannot_be(tmp_path: Path, expected: np.ndarray) -> None:
    path = write_image(tmp_path / "a.tif", PIXELS, photometric="RGB")
    assert not predict(path, tmp_path / "out", format="zarr").failed
    assert np.array_equal(labels_of(tmp_path / "out"), expected)
    (failed,) = predict(path, tmp_path / "out", ("geotiff",), format="zarr").failed
    assert failed["error"].endswith("which writes mask, polygons only; leave geotiff out of `save`")
    Image.fromarray(PIXELS[:20]).save(tmp_path / "b.png")
    with pytest.raises(ConfigError, match="`format`: is for slides, Zarr, VRT and TIFF files only"):
        predict(tmp_path / "b.png", tmp_path / "out", format="zarr")


def test_a_small_tiff_is_read_in_windows_where_zarr_is_asked_for() -> None:
    assert is_scene(Path("a.tif"), SceneOptions(format="zarr")) and not is_scene(Path("a.tif"), SceneOptions())


def test_missing_chunks_are_the_fill_value_with_a_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = write(tmp_path / "a.zarr", PIXELS, "yxc", fill_value=7)
    shutil.rmtree(path / "c" / "0")
    assert not predict(path, tmp_path / "out").failed
    assert f"{path}: 5 of 30 chunks are missing: their pixels are 7, the fill value" in caplog.text
    filled = PIXELS.copy()
    filled[:50] = 7
    predict(write_image(tmp_path / "b.tif", filled, photometric="RGB"), tmp_path / "out")
    assert np.array_equal(mask_of(tmp_path / "out"), mask_of(tmp_path / "out", "b_mask.tif"))


def test_a_damaged_chunk_is_nodata_and_tried_again(tmp_path: Path, expected: np.ndarray) -> None:
    path = write(tmp_path / "a.zarr", PIXELS, "yxc")
    chunk = next((path / "c" / "5").rglob("0"))
    chunk = chunk if chunk.is_file() else next(file for file in (path / "c" / "5").rglob("*") if file.is_file())
    before = chunk.read_bytes()
    stamp = chunk.stat().st_mtime_ns
    chunk.write_bytes(before[:9])
    (failed,) = predict(path, tmp_path / "out").failed
    assert "windows are nodata, unreadable" in failed["error"] and "\n" not in failed["error"]
    found = mask_of(tmp_path / "out")
    assert (found[:150] == expected[:150]).all() and (found == 255).any()
    chunk.write_bytes(before)
    os.utime(chunk, ns=(stamp, stamp))
    assert not predict(path, tmp_path / "out").failed
    assert np.array_equal(mask_of(tmp_path / "out"), expected)


def test_bad_input_is_one_line_each(tmp_path: Path) -> None:
    zarr.open_group(tmp_path / "empty.zarr", mode="w")
    (tmp_path / "foreign.zarr").mkdir()
    codec = {"objects": ("|O", {"filters": [{"id": "vlen-utf8"}], "compressor": None})}
    codec["pickles"] = ("|u1", {"filters": None, "compressor": {"id": "pickle"}})
    for name, (dtype, codecs) in codec.items():
        (store := tmp_path / f"{name}.zarr").mkdir()
        described = {"zarr_format": 2, "shape": [9, 9], "chunks": [9, 9], "dtype": dtype, "order": "C", "fill_value": 0}
        (store / ".zarray").write_text(json.dumps(described | codecs))
        (store / "0.0").write_bytes(pickle.dumps(Trap(tmp_path / "ran")))
    write(tmp_path / "complex.zarr", np.zeros((30, 20), np.complex64), "yx")
    write(tmp_path / "float.zarr", PIXELS.astype(np.float32), "yxc")
    write(tmp_path / "bands.zarr", np.zeros((30, 20, 5), np.uint8), "yxc")
    (write(tmp_path / "cut.zarr", PIXELS, "yxc") / "zarr.json").write_text("{")
    failed = {Path(entry["image"]).stem: entry["error"] for entry in predict(tmp_path, tmp_path / "out").failed}
    assert set(failed) == {"empty", "foreign", "objects", "pickles", "complex", "bands", "cut"}
    assert "is a Zarr group without arrays; give the path of an array in it" in failed["empty"]
    assert "values of type complex64 are not read; convert them to one of uint8" in failed["complex"]
    assert "are not read; convert" in failed["objects"] and "5" in failed["bands"]
    assert "'object_codec_id': 'pickle'" in failed["pickles"]
    assert not (tmp_path / "ran").exists(), "nothing is unpickled"
    assert all("\n" not in error and str(tmp_path) in error for error in failed.values())
    entries = json.loads((tmp_path / "out" / "predictions.json").read_text())["images"]
    assert [entry["outputs"] for entry in entries if "error" not in entry] == [{"mask": "float_mask.tif"}]
