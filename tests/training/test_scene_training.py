"""Training on one scene with polygons: as on windows cut by hand, killed or not, and what the run says of it."""

import base64
import io
import json
import re
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest
import rasterio
from PIL import Image

from made_files import opened
from made_geo import box, feature, on_map, polygon, write_geojson, write_image
from pyramidseg.base.errors import DataError
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.data.pairs import read_pair
from pyramidseg.images.georeference import WGS84, parse_crs, reproject
from pyramidseg.images.scene_windows import window_at
from pyramidseg.inspection.prepare_data import prepare_data
from pyramidseg.model.bundle import read_description
from support import TINY, assert_same_bits
from training.test_resume import kill_when, reached

SIDE, WINDOW = 400, 64
SETTINGS = (*TINY, "data.crop=48", "train.epochs=2", "train.batch_size=8", "data.workers=0", "train.checkpoint_steps=1")


@pytest.fixture(scope="module")
def ortho(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An orthophoto of fields in two colours, and their outlines in degrees."""
    folder = tmp_path_factory.mktemp("ortho")
    rng = np.random.default_rng(0)
    values = rng.integers(0, 60, (SIDE, SIDE, 3)).astype(np.uint8)
    fields = []
    for number in range(30):
        left, top, width, height = *rng.integers(0, SIDE - 60, 2).tolist(), *rng.integers(20, 60, 2).tolist()
        values[top : top + height, left : left + width] = (200, 60, 20) if number % 2 else (30, 160, 40)
        ring = np.array(on_map(box(left, top, left + width, top + height)))
        degrees = reproject(ring, source=parse_crs("EPSG:32616"), target=parse_crs(WGS84))
        fields.append(feature(polygon(degrees.tolist()), crop=("maize", "wheat")[number % 2]))
    options = {"photometric": "RGB", "tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    write_image(folder / "field.tif", values, **options)
    write_geojson(folder / "field.geojson", fields, crs=None)
    return folder


def arguments(dataset: Path, out: Path, *more: str) -> list[str]:
    return ["train", str(dataset), "--out", str(out), *SETTINGS, *more]


CUT = (f"data.window={WINDOW}", "data.class_property=crop")


@pytest.fixture(scope="module")
def run(ortho: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(arguments(ortho, out, *CUT)) == 0
    return out


def test_windows_cut_by_hand_give_the_same_weights(ortho: Path, run: Path, tmp_path: Path) -> None:
    dataset = opened(ortho, window=WINDOW, class_property="crop")
    assert min(len(records) for records in dataset.splits.values()) >= 4
    for split, records in dataset.splits.items():
        for number, record in enumerate(records):
            image, labels = read_pair(record, dataset.masks, channels=3)
            for kind, values in (("images", image), ("masks", labels)):
                (tmp_path / "png" / kind / split).mkdir(parents=True, exist_ok=True)
                Image.fromarray(values).save(tmp_path / "png" / kind / split / f"{number:03}.png")
    assert main(arguments(tmp_path / "png", tmp_path / "by hand", "data.classes=[background,maize,wheat]")) == 0
    assert_same_bits(tmp_path / "by hand", run)


def test_a_run_that_was_killed_resumes_in_equal_bits(ortho: Path, run: Path, tmp_path: Path) -> None:
    words = arguments(ortho, tmp_path / "run", *CUT)
    assert kill_when(words, lambda: reached(tmp_path / "run", 2), signal.SIGKILL) == -signal.SIGKILL
    assert main([*words, "--resume", "--workers", "1"]) == 0
    assert_same_bits(tmp_path / "run", run)


def test_the_dataset_of_the_run_is_evaluated_on_the_same_windows(run: Path, tmp_path: Path) -> None:
    assert main(["evaluate", str(run / "last.safetensors"), str(run / "dataset.yaml"), "--out", str(tmp_path)]) == 0
    head, *_, last = (line.split(",") for line in (run / "metrics.csv").read_text().splitlines())
    scored = json.loads((tmp_path / "metrics.json").read_text())
    assert scored["miou"] == pytest.approx(float(dict(zip(head, last, strict=True))["val_miou"]), abs=1e-6)
    assert scored["images"] == len(opened(run / "dataset.yaml").splits["val"])


def test_inspection_finds_nothing_wrong_with_windows(
    ortho: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["inspect", str(ortho), "--out", str(tmp_path / "out"), *CUT]) == 0
    assert "field#y" in (tmp_path / "out" / "inspection.html").read_text()
    assert "--folds" not in capsys.readouterr().out  # it would be refused


def test_folds_of_windows_are_refused(ortho: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*arguments(ortho, tmp_path / "cv", *CUT), "--folds", "3"]) == 2
    assert "neighbouring windows" in capsys.readouterr().err
    stated = [*arguments(ortho, tmp_path / "cv", *CUT), "data.group=^[^#]+", "data.window_gap=64", "--folds", "3"]
    assert main(stated) == 2
    assert "data.window_gap=64 has no effect between folds; leave it out" in capsys.readouterr().err


def test_windows_are_converted_to_files(ortho: Path, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert main(["convert", str(ortho), "--to", "masks", "--out", str(out), *CUT]) == 0
    converted, cut = opened(out), opened(ortho, window=WINDOW, class_property="crop")
    for split, records in cut.splits.items():
        files = {record.id: record for record in converted.splits[split]}
        assert files.keys() == {record.id for record in records}
        for record in records:
            found, expected = (
                read_pair(*it, channels=3) for it in ((files[record.id], converted.masks), (record, cut.masks))
            )
            assert all((one == other).all() for one, other in zip(found, expected, strict=True))


def test_the_run_knows_its_resolution_and_prediction_asks_for_it(
    run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    facts = read_description(run / "best.safetensors").facts
    assert facts["data"]["metres_per_pixel"] == pytest.approx(0.49986, rel=1e-3)
    finer = (0.25, 0.0, 733601.0, 0.0, -0.25, 3725139.0)
    image = write_image(tmp_path / "a.tif", np.zeros((90, 70, 3), np.uint8), transform=finer, photometric="RGB")
    words = ["predict", str(run / "best.safetensors"), str(image), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    (advice,) = re.findall(r"--resample \S+", capsys.readouterr().err)
    assert main([*words, *advice.split()]) == 0
    assert "--resample" not in capsys.readouterr().err
    with rasterio.open(tmp_path / "out" / "a_mask.tif") as file:
        assert file.shape == (90, 70) and tuple(file.transform)[:6] == finer


def test_the_report_shows_where_the_splits_are(run: Path) -> None:
    """Each window is a rectangle in the colour of its split, in pixels of the scene; those in no split have none."""
    page = (run / "report.html").read_text()
    for split, records in opened(run / "dataset.yaml").splits.items():
        drawn = re.findall(rf'<rect class="{split}" x="(\d+)" y="(\d+)" width="(\d+)" height="(\d+)"', page)
        windows = [window_at(record.image) for record in records]
        assert {tuple(map(int, it)) for it in drawn} == {(it.left, it.top, it.width, it.height) for it in windows if it}
        assert f"{len(records)} windows of {split}" in page
    assert f'viewBox="0 0 {SIDE} {SIDE}"' in page
    picture = re.findall(r'<image id="scene1" href="data:image/jpeg;base64,([^"]+)"', page)
    with Image.open(io.BytesIO(base64.b64decode(picture[0]))) as shown:
        assert shown.size == (SIDE, SIDE) and len(picture) == 1


def test_a_copy_of_a_scene_in_val_is_a_leak_and_its_own_windows_are_none(ortho: Path, tmp_path: Path) -> None:
    for split in ("train", "val"):
        shutil.copytree(ortho, tmp_path / split)
    with pytest.raises(DataError, match=r"1 of the 1 val images are also in split train: .*val/field\.tif"):
        prepare_data(tmp_path, load_config(None, {"data.window": WINDOW}))
    assert not prepare_data(ortho, load_config(None, {"data.window": WINDOW})).summary.leak
