"""`train --unlabeled`: resumed in equal bits, copies of scored images left out by name, and input that is refused."""

import csv
import re
import shutil
import signal
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from pyramidseg.base.config import Config
from pyramidseg.base.errors import ConfigError, DataError, OutputError
from pyramidseg.base.overrides import load_config
from pyramidseg.cli.main import main
from pyramidseg.data.records import Dataset
from pyramidseg.demo.scenes import draw_scene, write_scenes
from pyramidseg.inspection.prepare_data import PreparedData, prepare_data
from pyramidseg.studies import cross_validation, learning_curve
from pyramidseg.studies.cross_validation import cross_validate
from pyramidseg.studies.learning_curve import label_curve
from pyramidseg.training.run_folder import open_run
from pyramidseg.training.segmentation_task import prepare_segmentation
from pyramidseg.training.segmentation_training import run_inputs
from support import TINY
from training.test_resume import arguments, assert_same_bits, kill_when, reached

pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Seven more scenes, without masks."""
    folder = tmp_path_factory.mktemp("others")
    for index in range(7):
        Image.fromarray(draw_scene(1000 + index, height=72, width=96).image).save(folder / f"{index}.png")
    return folder


def test_killed_and_stopped_in_the_middle_it_ends_in_the_same_bits(scenes: Path, others: Path, tmp_path: Path) -> None:
    more = ("--unlabeled", str(others), "loss.confidence=0.15")
    whole, out = tmp_path / "whole", tmp_path / "run"
    assert main(arguments(scenes, whole, *more, "--workers", "0")) == 0
    again = arguments(scenes, out, *more, "--workers", "1", "--resume")
    assert kill_when(again, lambda: reached(out, 3), signal.SIGKILL) == -signal.SIGKILL
    assert kill_when(again, lambda: reached(out, 8), signal.SIGINT) == 130
    assert main(again) == 0
    assert_same_bits(out, whole)
    tables = [list(csv.DictReader((run / "metrics.csv").read_text().splitlines())) for run in (whole, out)]
    names = [name for name in tables[0][0] if "accepted" in name]
    assert names[0] == "unlabeled_accepted"
    assert "accepted_road" in names
    for first, second in zip(*tables, strict=True):
        assert [first[name] for name in names] == [second[name] for name in names]
        assert all(0 <= float(first[name]) <= 1 for name in names if first[name])
    assert any(float(row["unlabeled_accepted"]) > 0 for row in tables[0])


def prepared(scenes: Path, folder: Path, **more: object) -> PreparedData:
    return prepare_data(scenes, load_config(None, {"data.unlabeled": str(folder), **more}))


def test_copies_of_val_and_test_images_are_named_and_left_out(
    scenes: Path, others: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    dataset, folder = tmp_path / "dataset", tmp_path / "folder"
    shutil.copytree(scenes, dataset)
    shutil.copytree(others, folder)
    images = sorted((dataset / "val" / "images").iterdir())
    for name in ("same.png", "same-again.png"):
        shutil.copy(images[0], folder / name)
    with Image.open(images[1]) as image:
        image.convert("RGB").resize((120, 90)).save(folder / "encoded-again.jpg", quality=80)
    shutil.copy(folder / "encoded-again.jpg", folder / "encoded-again-2.jpg")
    found = prepared(dataset, folder)
    assert sorted(record.id for record in found.unlabeled) == [f"{index}.png" for index in range(7)]
    message = next(record.getMessage() for record in caplog.records if "left out" in record.getMessage())
    assert "4 of 11 images are copies of images that models are scored on" in message
    for name in ("same.png", "same-again.png"):
        assert f"{folder / name} has the same pixels as {images[0]}" in message
    assert f"{folder / 'encoded-again.jpg'} looks like {images[1]}" in message
    assert found.summary.fingerprint != prepare_data(dataset, load_config(None, {})).summary.fingerprint
    for path in others.iterdir():
        (folder / path.name).unlink()
    with pytest.raises(
        DataError, match=r"4 of 4 images are copies of images that models are scored on: .*; give others"
    ):
        prepared(dataset, folder)


def test_the_run_lists_all_images_that_are_left_out(
    scenes: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "folder", tmp_path / "run"
    shutil.copytree(others, folder)
    image = min((scenes / "val" / "images").iterdir())
    copies = [Path(shutil.copy(image, folder / f"copy{index}.png")) for index in range(6)]
    assert main(["train", str(scenes), "--out", str(out), *TINY, "train.epochs=1", "--unlabeled", str(folder)]) == 0
    said = capsys.readouterr()
    assert "and 2 more; they are left out (all: recorded.unlabeled_left_out in RUN/dataset.yaml)" in said.out + said.err
    recorded = yaml.safe_load((out / "dataset.yaml").read_text())["recorded"]
    expected = [f"{copy} has the same pixels as {image} of split val or test" for copy in copies]
    assert sorted(recorded["unlabeled_left_out"]) == expected


@pytest.mark.parametrize("study", [partial(cross_validate, folds=2), partial(label_curve, epochs=1)])
def test_copies_of_test_images_are_left_out_of_studies_too(
    others: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, study: Callable[..., object]
) -> None:
    root = write_scenes(tmp_path / "data", train=12, val=4, height=72, width=96).parent
    for kind in ("images", "masks"):
        (root / "test" / kind).mkdir(parents=True)
        for file in sorted((root / "val" / kind).iterdir())[2:]:
            file.rename(root / "test" / kind / file.name)
    folder = tmp_path / "folder"
    shutil.copytree(others, folder)
    shutil.copy(max((root / "test" / "images").iterdir()), folder / "copy.png")
    seen: list[PreparedData] = []

    def check(config: Config, dataset: Dataset, *given: object, **options: object) -> None:
        seen.append(prepare_data(dataset, config))
        raise KeyboardInterrupt

    monkeypatch.setattr(cross_validation, "train_segmentation", check)
    monkeypatch.setattr(learning_curve, "resumed_run", check)
    config = load_config(None, {"data.unlabeled": str(folder)})
    with pytest.raises(KeyboardInterrupt):
        study(root, out=tmp_path / "out", config=config)
    assert sorted(record.id for record in seen[0].unlabeled) == [f"{index}.png" for index in range(7)]
    assert seen[0].summary.splits.keys() == {"train", "val"}, "test is neither checked nor scored"


def test_unusable_folders_are_refused(scenes: Path, others: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no such folder; give a folder of images"):
        prepared(scenes, tmp_path / "absent")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no images in this folder or its subfolders"):
        prepared(scenes, tmp_path / "empty")
    with pytest.raises(ConfigError, match=r"remove optim\.ema=0"):
        prepared(scenes, others, **{"optim.ema": 0})
    shutil.copytree(others, tmp_path / "set" / "images")
    shutil.copytree(others, tmp_path / "set" / "Masks")
    with pytest.raises(
        DataError, match=r"Masks/0\.png is in a folder of masks by its name \(masks\); give the folder of"
    ):
        prepared(scenes, tmp_path / "set")
    assert len(prepared(scenes, tmp_path / "set" / "images").unlabeled) == 7  # as the message says
    (tmp_path / "link").symlink_to(tmp_path / "set" / "Masks")
    for folder in (scenes / "train" / "masks", tmp_path / "link"):
        with pytest.raises(DataError, match=r"is in a folder of masks by its name \(masks\)"):
            prepared(scenes, folder)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "a.png").write_bytes((others / "0.png").read_bytes()[:200])
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "damaged" / "a.png"))):
        prepared(scenes, tmp_path / "damaged")
    (tmp_path / "deep").mkdir()
    Image.fromarray(np.arange(72 * 96, dtype=np.uint16).reshape(72, 96)).save(tmp_path / "deep" / "a.png")
    with pytest.raises(DataError, match="uint16 values, but the training images have uint8"):
        prepared(scenes, tmp_path / "deep")


def test_resuming_needs_the_same_images(
    scenes: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder, out = tmp_path / "folder", tmp_path / "run"
    shutil.copytree(others, folder)
    words = ["train", str(scenes), "--out", str(out), *TINY, "train.epochs=1", "--unlabeled", str(folder)]
    assert main(words) == 0
    (folder / "6.png").unlink()
    assert main([*words, "--resume"]) == 2
    assert "the run was started with other data" in capsys.readouterr().err


def test_skipped_steps_name_unlabelled_images_too(
    scenes: Path, others: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = prepare_segmentation(
        load_config(None, dict(setting.split("=") for setting in TINY) | {"data.unlabeled": str(others)}), scenes
    )
    train = task.data.dataset.split("train")
    assert task.names([0, -1, -7, 2]) == [train[0].id, "0.png", "6.png", train[2].id]
    flags = ("optim.optimizer=sgd", "optim.lr=1e6", "optim.warmup_epochs=0", "train.max_skipped_steps=1")
    words = ["train", str(scenes), "--out", str(tmp_path / "run"), *TINY, *flags, "--unlabeled", str(others)]
    assert main(words) == 2
    message = capsys.readouterr().err
    assert "Traceback" not in message
    shown = re.search(r"the last one on images (.*?);", message)
    assert shown
    assert any(f"{index}.png" in shown[1].split(", ") for index in range(7))


def test_grey_and_transparent_images_are_used_and_more_channels_are_refused(
    scenes: Path, others: Path, tmp_path: Path
) -> None:
    for mode in ("L", "RGBA"):
        with Image.open(others / "0.png") as image:
            image.convert(mode).save(tmp_path / f"{mode}.png")
    assert {record.id for record in prepared(scenes, tmp_path).unlabeled} == {"L.png", "RGBA.png"}
    tifffile.imwrite(tmp_path / "five.tif", np.zeros((72, 96, 5), np.uint8), photometric="minisblack")
    with pytest.raises(DataError, match=r"five\.tif"):
        prepared(scenes, tmp_path)


def test_a_run_is_not_written_among_the_unlabelled_images(others: Path, tmp_path: Path) -> None:
    config = load_config(None, {"data.unlabeled": str(others)})
    for out in (others, others / "runs" / "a", others.parent / others.name / ".." / others.name / "b"):
        with pytest.raises(OutputError, match=r"inside data\.unlabeled=.*, whose images are learned; choose another"):
            open_run(out, config, resume=False, overwrite=False)
        assert not (others / "runs").exists()
    open_run(others.parent / f"{others.name}-run", config, resume=False, overwrite=False)
    folder = tmp_path / "run" / "images"
    shutil.copytree(others, folder)
    inside = load_config(None, {"data.unlabeled": str(folder)})
    with pytest.raises(OutputError, match="which this run reads"):
        open_run(tmp_path / "run", inside, resume=False, overwrite=False, inputs=run_inputs(inside, "data"))


@pytest.mark.parametrize("setting", ["loss.confidence=0.7", "loss.unlabeled_weight=0.0"])
def test_settings_of_unlabelled_images_need_them(scenes: Path, others: Path, setting: str) -> None:
    given = dict(item.split("=") for item in (*TINY, setting))
    with pytest.raises(ConfigError, match=rf"{setting} needs unlabelled images: give `unlabeled=FOLDER`, or remove"):
        prepare_segmentation(load_config(None, given), scenes)
    prepare_segmentation(load_config(None, given | {"data.unlabeled": str(others)}), scenes)
