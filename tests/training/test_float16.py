"""float16 with loss scaling: gradients of the plain step, overflows that lower the scale, and exact resume."""

import json
import signal
from pathlib import Path

import pytest
import torch

from pyramidseg.base.config import LossConfig
from pyramidseg.cli.main import main
from pyramidseg.data.loading import Batch
from pyramidseg.model.tensor_files import read_metadata
from pyramidseg.training import progress as progress_module
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.checkpoint import KIND
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.segmentation_gradients import TrainingModel, segmentation_gradients
from pyramidseg.training.segmentation_training import train
from support import TINY_SETTINGS, tiny_segmenter
from training.test_resume import arguments, assert_same_bits, kill_when, reached

SMALLEST = {"pyramid_channels": 8, "segmentation_channels": 8, "coarsest_stride": 8, "crop": 32}
"""Processors compute float16 slowly: as small as the network gets."""


def gradients(precision: str, *, loss_scale: float = 1.0, factor: float = 1.0) -> list[torch.Tensor]:
    """Gradients of one step; `factor` makes the loss small."""
    torch.manual_seed(0)
    narrow = {"pyramid_channels": 16, "segmentation_channels": 16, "coarsest_stride": 8}
    model = tiny_segmenter(num_classes=4, dropout=0.0, **narrow).train()
    images = torch.randint(0, 256, (2, 3, 32, 48), dtype=torch.uint8)
    labels = torch.randint(0, 4, (2, 32, 48), dtype=torch.uint8)
    segmentation_gradients(
        Accelerator(torch.device("cpu"), precision, seed=0),  # type: ignore[arg-type]
        TrainingModel(model),
        [Batch(images, labels, ())],
        0,
        loss=LossConfig(cross_entropy=factor, dice=0),
        class_weights=torch.ones(4),
        loss_scale=loss_scale,
    )
    return [parameter.grad for parameter in model.parameters() if parameter.grad is not None]


def norm(tensors: list[torch.Tensor]) -> float:
    return float(torch.nn.utils.get_total_norm(tensors))


def test_gradients_are_those_of_float32_at_any_scale() -> None:
    plain = gradients("fp32")
    scaled = gradients("fp32", loss_scale=2.0**12)
    assert all(torch.equal(found, expected) for found, expected in zip(scaled, plain, strict=True)), "powers of two"
    half = gradients("fp16", loss_scale=2.0**10)
    difference = [found - expected for found, expected in zip(half, plain, strict=True)]
    assert norm(difference) < 0.02 * norm(plain)


def test_small_gradients_survive_by_the_scale() -> None:
    small = 2.0**-20
    plain = [gradient * small for gradient in gradients("fp32")]
    unscaled = gradients("fp16", factor=small)
    scaled = gradients("fp16", factor=small, loss_scale=2.0**28)
    errors = [norm([a - b for a, b in zip(found, plain, strict=True)]) / norm(plain) for found in (unscaled, scaled)]
    assert errors[1] < 0.02 < 5 * errors[1] < errors[0], errors


def test_an_overflow_halves_the_scale_and_skips_the_step(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(progress_module, "FIRST_LOSS_SCALE", 2.0**24)
    settings = (
        TINY_SETTINGS
        | SMALLEST
        | {"batch_size": 4, "epochs": 2, "precision": "fp16", "max_skipped_steps": 2, "ema": 0.0}
    )
    run = train(scenes, out=tmp_path / "run", **settings)  # type: ignore[arg-type]
    row = run.history[-1]
    assert row["skipped_steps"] >= 3, "more in a row than train.max_skipped_steps, as the scale explains them"
    assert row["updates"] > 0
    assert row["train_loss"] < 5
    stored = json.loads(read_metadata(max((run.folder / "checkpoint").iterdir()), kind=KIND)["position"])
    assert stored["loss_scale"] == 2.0 ** (24 - row["skipped_steps"])
    assert stored["steps_since_overflow"] > 0
    assert "not finite" not in caplog.text


def test_the_scale_doubles_after_finite_steps_and_ends_at_one() -> None:
    progress = TrainingProgress.start("fp16")
    for _ in range(progress_module.STEPS_TO_DOUBLE):
        progress.count_step(1.0)
    assert progress.loss_scale == 2.0**17
    for _ in range(17):
        progress.count_step(None)
    assert (progress.loss_scale, progress.skipped_in_a_row) == (1.0, 0)
    progress.count_step(None)
    assert (progress.loss_scale, progress.skipped_in_a_row) == (1.0, 1), "from here on the scale is not the reason"
    assert TrainingProgress.start("bf16").loss_scale is None


def test_a_killed_run_goes_on_in_equal_bits(scenes: Path, tmp_path: Path) -> None:
    sections = {"crop": "data"}
    smallest = [f"{sections.get(name, 'model')}.{name}={value}" for name, value in SMALLEST.items()]
    options = ("train.precision=fp16", "train.epochs=1", *smallest)
    assert main(arguments(scenes, tmp_path / "reference", *options)) == 0
    out = tmp_path / "run"
    again = arguments(scenes, out, "--resume", *options)
    assert kill_when(again, lambda: reached(out, 3), signal.SIGKILL) == -signal.SIGKILL
    assert main(again) == 0
    assert_same_bits(out, tmp_path / "reference")
