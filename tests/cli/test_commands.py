"""The commands from end to end, as people run them."""

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from pyramidseg.cli.main import main
from support import TINY


@pytest.fixture(scope="module")
def bundle(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that a tiny run left."""
    out = tmp_path_factory.mktemp("runs") / "run"
    assert main(["train", str(scenes), "--out", str(out), *TINY, "--epochs", "1", "--workers", "0"]) == 0
    return out / "best.safetensors"


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_evaluate_writes_the_contracts_files(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("evaluate", bundle, scenes, "--out", tmp_path / "scores", "--batch-size", "2") == 0
    metrics = json.loads((tmp_path / "scores/metrics.json").read_text())
    assert set(metrics) == {
        "miou", "pixel_accuracy", "mean_class_accuracy", "mean_dice", "images", "classes",
    }  # fmt: skip
    assert set(metrics["classes"][0]) == {"id", "name", "iou", "dice", "precision", "recall", "pixels"}
    assert metrics["images"] == 5
    assert (tmp_path / "scores/confusion.csv").exists()
    assert (tmp_path / "scores/report.html").exists()
    assert "mIoU" in capsys.readouterr().out
    assert run("evaluate", bundle, scenes, "--split", "vall") == 2
    assert "did you mean 'val'" in capsys.readouterr().err


def test_evaluate_with_flips_and_scales(bundle: Path, scenes: Path) -> None:
    assert run("evaluate", bundle, scenes, "--tta") == 0


def test_predict_mirrors_folders_and_reports_what_it_could_not_read(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "in"
    for name in ("a.png", "deep/b.png"):
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_bytes(next((scenes / "val/images").iterdir()).read_bytes())
    (source / "broken.jpg").write_bytes(b"no image at all")
    out = tmp_path / "out"
    assert run("predict", bundle, source, "--out", out, "--save", "overlay,probabilities") == 3
    shown = capsys.readouterr()
    assert "2 of 3 images predicted" in shown.out
    assert "broken.jpg" in shown.err
    labels = cv2.imread(str(out / "deep/b.png"), cv2.IMREAD_UNCHANGED)
    assert labels.shape == (72, 96)
    assert labels.max() < 8
    assert (out / "a_overlay.png").exists()
    entries = json.loads((out / "predictions.json").read_text())["images"]
    assert len(entries) == 3
    assert sum("error" in entry for entry in entries) == 1


def test_predict_prints_the_shares_of_a_single_image(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((scenes / "val/images").iterdir())
    assert run("predict", bundle, image, "--out", tmp_path / "out") == 0
    said = capsys.readouterr().out
    assert "%" in said
    assert "1 of 1 images predicted" in said


def test_predict_cuts_images_as_told(
    bundle: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = next((scenes / "val/images").iterdir())
    assert run("predict", bundle, image, "--out", tmp_path / "out", "--tile", "64", "--overlap", "32") == 0
    assert "1 in tiles" in capsys.readouterr().out
    (entry,) = json.loads((tmp_path / "out/predictions.json").read_text())["images"]
    assert (entry["height"], entry["width"], entry["tile_px"], entry["overlap_px"]) == (72, 96, 64, 32)
    assert run("predict", bundle, image, "--out", tmp_path / "out", "--tile", "whole") == 0
    assert "tiles" not in capsys.readouterr().out
    assert run("predict", bundle, image, "--out", tmp_path / "out", "--tile", "100") == 2
    assert "--tile 100: must" in capsys.readouterr().err
    assert run("predict", bundle, image, "--out", tmp_path / "out", "--tile", "big") == 2
    assert "auto, whole, or a number" in capsys.readouterr().err


def test_predict_takes_sources_after_flags(bundle: Path, scenes: Path, tmp_path: Path) -> None:
    first, second = sorted((scenes / "val/images").iterdir())[:2]
    assert run("predict", bundle, first, "--out", tmp_path / "out", second) == 0
    assert len(list((tmp_path / "out").glob("scene_*.png"))) == 2


def test_predict_refuses_a_damaged_bundle(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes(bundle.read_bytes()[:-50])
    assert run("predict", damaged, "x.png", "--out", tmp_path / "out") == 2
    assert "damaged.safetensors" in capsys.readouterr().err


def test_describe_prints_levels(bundle: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("describe", bundle) == 0
    said = capsys.readouterr().out
    for words in ("encoder, stride 32", "smoothing, stride 4", "GMAC", "classes: sky"):
        assert words in said
    assert run("describe", "resnet", "encoder_depth=18", "smoothing=false", "--size", "64") == 0
    assert "smoothing=False" in capsys.readouterr().out


def test_demo_goes_the_whole_way(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "demo"
    assert run("demo", "--out", out, "--scenes", "8", "--epochs", "1") == 0
    said = capsys.readouterr().out
    for words in ("training tf_efficientnet_lite0 from ImageNet weights", "validation mIoU", "overlays", "model"):
        assert words in said
    assert len(list((out / "predictions").glob("*_overlay.png"))) == 6
    assert np.asarray(cv2.imread(str(next((out / "predictions").glob("*_overlay.png"))))).shape == (320, 416, 3)
    assert run("demo", "--out", out) == 2
    assert f"{out}: exists already; delete it, or choose another --out" in capsys.readouterr().err


def test_predict_counts_files_of_unread_types(bundle: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 30)).save(folder / "a.png")
    for name in ("b.dcm", "c.DCM", "clip.mp4", "notes.txt", "a.json"):
        (folder / name).write_bytes(b"x")
    assert main(["predict", str(bundle), str(folder), "--out", str(tmp_path / "out"), "--device", "cpu"]) == 3
    assert (tmp_path / "out" / "a.png").exists()
    output = capsys.readouterr()
    assert ".dcm" in output.out + output.err
    assert ".mp4" in output.out + output.err
    assert ".txt" not in output.out + output.err
