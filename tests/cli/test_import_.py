"""pyramidseg import, and what its bundles are good for."""

from pathlib import Path

import pytest
import torch
from torch import nn

from peer import peer
from pyramidseg.cli.main import main

SMP_RESNET18 = ("--from", "smp", "--encoder", "resnet18", "--out", "b.safetensors")
CLASSES = "sky,road,pavement,building,tree,car,bus,person"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of the peer's network for the eight classes of the scenes."""
    path = tmp_path_factory.mktemp("peer") / "weights.pth"
    torch.save(peer(classes=8).state_dict(), path)
    return path


def run(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def test_its_bundle_works_in_describe_predict_evaluate_and_train(
    checkpoint: Path, scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = tmp_path / "bundle.safetensors"
    flags = ("--from", "smp", "--encoder", "resnet18", "--classes", CLASSES, "--dropout", "0.3")
    assert run("import", checkpoint, *flags, "--out", bundle) == 0
    said = capsys.readouterr().out
    for words in (
        "encoder_name resnet18, encoder_depth 5",
        "ImageNet's, assumed",
        "interpolation is not stored in tensors",
        f"imported: {bundle}",
    ):
        assert words in said
    assert "dropout" not in said

    assert run("describe", bundle, "--size", "64") == 0
    said = capsys.readouterr().out
    assert "imported from segmentation_models.pytorch: weights.pth, sha256 " in said
    assert "dropout=0.3" in said

    image = next((scenes / "val/images").iterdir())
    assert run("predict", bundle, image, "--out", tmp_path / "predictions") == 0
    assert "1 of 1 images predicted" in capsys.readouterr().out

    assert run("evaluate", bundle, scenes, "--out", tmp_path / "scores", "--batch-size", "2") == 0
    assert "mIoU" in capsys.readouterr().out

    assert run("train", scenes, "--out", tmp_path / "run", "--weights", bundle, "--crop", "64", "--dry-run") == 0
    assert f"weights {bundle}: " in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--from", "mmseg", "--out", "b.safetensors"), "--from mmseg: unknown library; known: smp"),
        (("--from", "spm", "--out", "b.safetensors"), "did you mean 'smp'"),
        (("--out", "b.safetensors"), "--from"),
        (("--from", "smp", "--out", "b.pth"), "write --out b.safetensors"),
        (("--from", "smp", "--out", "taken.safetensors"), "exists already; choose another file, or replace"),
        (("--from", "smp", "--out", "b.safetensors", "--mean", "a,b"), "--mean: 'a,b' are not numbers"),
        (("--from", "smp", "--out", "b.safetensors", "--class", "a,b"), "did you mean --classes?"),
        (
            (*SMP_RESNET18, "--classes", "a,b"),
            "2 names, and the network has 8 classes",
        ),
        ((*SMP_RESNET18, "--dropout", "1"), "dropout=1.0"),
        (("--from", "smp", "--out", "b.safetensors"), "such as --encoder resnet34"),
    ],
)
def test_mistakes_are_one_line_and_leave_nothing(
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    arguments: tuple[str, ...],
    words: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken.safetensors").touch()
    assert run("import", checkpoint, *arguments) == 2
    error = capsys.readouterr().err
    assert words in error
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert [path.name for path in tmp_path.iterdir()] == ["taken.safetensors"]


def test_a_bundle_is_replaced_where_asked(checkpoint: Path, tmp_path: Path) -> None:
    out = tmp_path / "bundle.safetensors"
    out.touch()
    assert run("import", checkpoint, "--from", "smp", "--encoder", "resnet18", "--out", out, "--overwrite") == 0
    assert out.stat().st_size > 0


def test_a_pickled_model_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save(nn.Conv2d(3, 3, 1), tmp_path / "model.pth")
    assert run("import", tmp_path / "model.pth", "--from", "smp", "--out", tmp_path / "bundle.safetensors") == 2
    error = capsys.readouterr().err
    assert "code from files is not run" in error
    assert error.count("\n") == 1
