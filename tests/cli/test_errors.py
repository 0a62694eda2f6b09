"""What a newcomer does wrong: one clear line, status 2, nothing trained, no folder left behind."""

import resource
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

import pyramidseg as ps
from forks import WITHOUT_FIGURES, run_python
from pyramidseg.base.config import Config
from pyramidseg.base.errors import PyramidSegError
from pyramidseg.cli.main import main
from pyramidseg.model import encoder_weights
from support import TINY, TINY_SETTINGS, process_environment


def complaint(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a wrong command line ends with."""
    status = main([str(argument) for argument in arguments])
    error = capsys.readouterr().err
    assert status == 2, error
    assert error.startswith("error: ")
    assert error.count("\n") == 1, error
    return error


def write_pair(root: Path, split: str, stem: str, mask: np.ndarray, *, size: tuple[int, int] = (64, 64)) -> None:
    """One image with a mask, in the paired layout."""
    for kind, pixels in (("images", np.full((*size, 3), 120, np.uint8)), ("masks", mask)):
        folder = root / split / kind
        folder.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(folder / f"{stem}.png"), pixels)


def dataset_with(root: Path, mask: np.ndarray) -> Path:
    """Four good pairs, and one with this mask."""
    good = np.zeros((64, 64), np.uint8)
    good[32:] = 1
    for split in ("train", "val"):
        for index in range(2):
            write_pair(root, split, f"good{index}", good)
    write_pair(root, "train", "odd", mask)
    return root


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["trian", "x"], ["'trian'", "did you mean 'train'"]),
        (["train", "x", "--out", "r", "--epoch", "3"], ["unrecognized option --epoch", "did you mean --epochs?"]),
        (["train", "x", "--out", "r", "optim.lrr=1"], ["optim.lrr", "did you mean 'optim.lr'"]),
        (["train", "x", "--out", "r", "epochs=1"], ["'epochs'", "did you mean 'train.epochs'"]),
        (["train", "x", "--out", "r", "--lr", "fast"], ["optim.lr='fast'"]),
        (["train", "x", "--out", "r", "--dropout", "1.0"], ["model.dropout=1.0", "less than 1"]),
        (["train", "x", "--out", "r", "train.watch=val_mio"], ["val_mio", "did you mean 'val_miou'"]),
        (["train", "x", "--out", "r", "--config", "absent.yaml"], ["absent.yaml", "no such configuration file"]),
        (["train", "nowhere", "--out", "r"], ["nowhere: no such file or folder"]),
        (["train", "x"], ["--out"]),
        (["predict", "absent.safetensors", "x.jpg", "--out", "o"], ["absent.safetensors", "no such file"]),
        (["evaluate", "absent.safetensors", "x"], ["absent.safetensors", "no such file"]),
        (["evaluate", "a", "b", "--bach-size", "3"], ["--bach-size", "did you mean --batch-size?"]),
        (["describe", "resnett50"], ["resnett50", "did you mean 'resnet50'"]),
        (["train", "x", "--data", "y"], ["unrecognized option --data", "did you mean --device or"]),
        (["predict", "x", "y", "--out", "o", "--save", "overlays"], ["--save: 'overlays'", "did you mean 'overlay'?"]),
        (["predict", "x", "y", "--out", "o", "--save", "zzzz"], ["labelme, mask, masks, overlay"]),
        (["predict", "x", "y", "--out", "o", "--save", "mask,,overlay"], ["'mask,,overlay'", "by commas"]),
        (["benchmark", "x", "--backends", "onnx"], ["--backends: 'onnx'", "did you mean 'onnxruntime'?"]),
        (["describe", "vgg16", "finest_stride=3"], ["model.finest_stride=3"]),
        (["describe", "resnet18", "--size", "big"], ["--size: 'big' is not a size", "512x1024"]),
        (["train", "x", "--out", "r", "data.scale=["], ["data.scale=[: not readable as YAML"]),
        (["train", "x", "--out", "r", "optim.stepsize=1"], ["optim.stepsize", "known: optim.clip_norm"]),
        (["train", ".", "--out", "r", "--encoder", "[foo"], ["encoder=[foo: not a family"]),
        (["train", ".", "--out", "r", "--device", "cuda:77"], ["cuda:77"]),
        (["train", ".", "--out", "r", "--weights", "run #2/best.safetensors"], ["run #2/best.safetensors: no such"]),
        (["describe", "."], [".: a folder, not a file"]),
        (["evaluate", "a", "b", "model.dropout=0.5"], ["model.dropout=0.5: has no effect here", "data.ignore"]),
        (["evaluate", "a", "b", "data.crop=64"], ["data.crop=64: has no effect here"]),
        (["evaluate", "a", "b", "data.binry=true"], ["data.binry", "did you mean 'data.binary'"]),
        (["inspect", ".", "train.epochs=3"], ["train.epochs=3: has no effect here", "data.ignore"]),
        (["inspect", ".", "data.flip=0"], ["data.flip=0: has no effect here"]),
        (["compare", "x", "--out", "o", "--encoders", "a", "b", "c"], ["by commas: --encoders a,b,c"]),
        (
            ["compare", "x", "--out", "o", "--encoders", "a,b", "--config", "no.yaml"],
            ["no.yaml: no such configuration"],
        ),
        (["curve", "x", "--out", "o", "--config", "no.yaml"], ["no.yaml: no such configuration"]),
        (["demo", "--scenes", "0"], ["--scenes 0: at least 1"]),
        (["demo", "--epochs", "0"], ["train.epochs=0"]),
    ],
)
def test_misspelt_commands_flags_and_settings(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: Sequence[str],
    words: Sequence[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    line = complaint(capsys, *arguments)
    for word in words:
        assert word in line
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("value", "words"),
    [(7, ["odd.png", "7"]), (254, ["odd.png", "254"])],
)
def test_a_value_that_is_no_class(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, value: int, words: Sequence[str]
) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[5, 5] = value
    data = dataset_with(tmp_path / "data", mask)
    out = tmp_path / "run"
    line = complaint(capsys, "train", data, "--out", out, *TINY, "data.classes=[ground,thing]")
    for word in words:
        assert word in line
    assert not out.exists()


def test_a_label_of_ones_own_mask_source_that_is_no_class(tmp_path: Path) -> None:
    class Own:
        def read(self, record: ps.Record) -> np.ndarray:
            return np.asarray(cv2.imread(str(record.mask), cv2.IMREAD_UNCHANGED))

    mask = np.zeros((64, 64), np.uint8)
    mask[5, 5] = 200
    data = dataset_with(tmp_path / "data", mask)
    records = {
        split: [
            ps.Record(image.stem, image, data / split / "masks" / image.name)
            for image in sorted((data / split / "images").iterdir())
        ]
        for split in ("train", "val")
    }
    made = ps.dataset_from_records(**records, classes=[f"class {index}" for index in range(8)])
    with pytest.raises(PyramidSegError, match=r"odd\.png: Own\.read returns unknown labels: 200 \(1 pixels\)"):
        ps.train(replace(made, masks=Own()), out=tmp_path / "run", **TINY_SETTINGS)
    assert not (tmp_path / "run").exists()


def test_a_mask_of_another_size(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = dataset_with(tmp_path / "data", np.zeros((32, 64), np.uint8))
    line = complaint(capsys, "train", data, "--out", tmp_path / "run", *TINY)
    for word in ("odd", "32", "64"):
        assert word in line


def test_an_image_without_a_mask(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    data = dataset_with(tmp_path / "data", np.ones((64, 64), np.uint8))
    (data / "train/masks/odd.png").unlink()
    assert "odd" in complaint(capsys, "train", data, "--out", tmp_path / "run", *TINY)


def test_no_masks_at_all(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "data/images").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "data/images/a.png"), np.zeros((8, 8, 3), np.uint8))
    line = complaint(capsys, "train", tmp_path / "data", "--out", tmp_path / "run", *TINY)
    assert "known layouts" in line


def test_binary_has_to_be_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    mask = np.zeros((64, 64), np.uint8)
    mask[8:] = 255
    for split in ("train", "val"):
        write_pair(tmp_path / "data", split, "a", mask)
    assert main(["train", str(tmp_path / "data"), "--out", str(tmp_path / "run"), *TINY]) == 2
    line, *lines = capsys.readouterr().err.splitlines()
    assert line.startswith("error: ")
    assert str(tmp_path / "data" / "dataset.yaml") in line
    assert lines == [  # ready to paste
        "# 255 is the foreground (data.binary=true):",
        "binary: true",
    ]


def test_a_gpu_where_there_is_none(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    line = complaint(capsys, "train", scenes, "--out", tmp_path / "run", "--device", "cuda", *TINY)
    assert "no CUDA GPU" in line
    assert not (tmp_path / "run").exists()


def test_an_existing_run_or_foreign_folder_is_left_alone(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / "thesis.txt").write_text("mine")
    for more in ([], ["--resume"], ["--overwrite"]):
        line = complaint(capsys, "train", scenes, "--out", out, *TINY, *more)
        assert "exists already" in line
    (out / "config.yaml").write_text(Config().to_yaml())
    line = complaint(capsys, "train", scenes, "--out", out, *TINY)
    assert "--resume" in line
    assert "--overwrite" in line
    assert (out / "thesis.txt").read_text() == "mine"


def test_resume_and_overwrite_together(capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path) -> None:
    line = complaint(capsys, "train", scenes, "--out", tmp_path / "run", "--resume", "--overwrite", *TINY)
    assert "give only one of them" in line


def test_a_batch_that_batch_norm_cannot_serve(capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path) -> None:
    line = complaint(capsys, "train", scenes, "--out", tmp_path / "run", *TINY, "data.crop=32", "--batch-size", "1")
    assert "one value per channel" in line
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("limit_kb", [1, 900])
def test_a_full_disk_is_one_line(scenes: Path, tmp_path: Path, limit_kb: int) -> None:
    """A limit on the size of files stands in for a full disk: both fail in the middle of a write.

    Python must not write bytecode under it: what it cuts off, later processes could not import.
    """

    done = run_python(
        *("-c", WITHOUT_FIGURES, "train", scenes, "--out", tmp_path / "run", *TINY, "train.epochs=1"),
        limits={resource.RLIMIT_FSIZE: limit_kb * 1024},
        environment={**process_environment(), "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert done.returncode == 2, done.stderr
    errors = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1
    assert "cannot be written" in errors[0]
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.rglob("*.part"))


def test_a_dry_run_says_what_would_be_done_and_writes_nothing(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path
) -> None:
    assert main(["train", str(scenes), "--out", str(tmp_path / "run"), "--dry-run", *TINY]) == 0
    said = capsys.readouterr().out
    for words in ("train: 20 images", "steps per epoch", "nothing was trained"):
        assert words in said
    assert not (tmp_path / "run").exists()


def test_a_dry_run_downloads_no_weights_and_says_which_the_run_would_load(
    capsys: pytest.CaptureFixture[str], scenes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(encoder_weights, "fetch_weights", None)
    monkeypatch.setattr(encoder_weights, "find_package", lambda name: None)
    words = ["train", str(scenes), "--dry-run", "--crop", "64", "--encoder", "resnet18", "data.normalization=encoder"]
    assert main(words) == 0
    said = capsys.readouterr().out
    assert "encoder weights resnet18.tv_in1k" in said
    assert "mean 0.485, 0.456, 0.406" in said
    assert main([*words, "--encoder-weights", "a_tag"]) == 2
    assert "encoder_weights=a_tag is neither a file nor a pretrained tag" in capsys.readouterr().err


def test_a_dry_run_needs_no_run_folder(
    capsys: pytest.CaptureFixture[str], scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["train", str(scenes), "--dry-run", *TINY]) == 0
    assert "nothing was trained" in capsys.readouterr().out
    assert not list(tmp_path.iterdir())
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("")
    assert main(["train", str(scenes), "--dry-run", "--out", "run", *TINY]) == 2
    assert "run: exists already" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--dry-run", "--resume"]])
def test_a_run_needs_its_folder(capsys: pytest.CaptureFixture[str], scenes: Path, flags: list[str]) -> None:
    assert main(["train", str(scenes), *flags, *TINY]) == 2
    assert "--out RUN is required" in capsys.readouterr().err


def test_help_answers_without_loading_torch() -> None:
    code = (
        "import sys\n"
        "from pyramidseg.cli.main import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "heavy = {'torch', 'timm', 'pydantic', 'numpy', 'cv2', 'rich', 'matplotlib'} & set(sys.modules)\n"
        "assert not heavy, heavy"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    for command in ("demo", "train", "evaluate", "predict", "describe"):
        assert command in done.stdout
