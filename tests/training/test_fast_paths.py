"""Every fast path of a training step computes what the plain one does."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from pyramidseg.base.config import LossConfig, OptimConfig
from pyramidseg.base.device import Precision
from pyramidseg.data.loading import Batch
from pyramidseg.model.bundle import read_bundle
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.optim import make_optimizer
from pyramidseg.training.segmentation_gradients import TrainingModel, segmentation_gradients
from pyramidseg.training.segmentation_task import SegmentationTask
from pyramidseg.training.segmentation_training import train
from support import TINY_SETTINGS, tiny_segmenter

CPU = torch.device("cpu")
CLASSES = 4


def small_model() -> Segmenter:
    torch.manual_seed(0)
    return tiny_segmenter(num_classes=CLASSES, dropout=0.0).train()


def gradients_of(model: Segmenter, precision: Precision = "fp32") -> Tensor:
    """All gradients of one step on one batch, in a row."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 64, 96), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (4, 64, 96), generator=generator, dtype=torch.uint8)
    segmentation_gradients(
        Accelerator(CPU, precision, seed=0),
        TrainingModel(model),
        [Batch(images, labels, ())],
        0,
        loss=LossConfig(cross_entropy=1, dice=1),
        class_weights=torch.ones(CLASSES),
    )
    return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])


def relative_difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@pytest.fixture(scope="module")
def plain() -> Tensor:
    return gradients_of(small_model())


def test_channels_last(plain: Tensor) -> None:
    assert relative_difference(gradients_of(small_model().to(memory_format=torch.channels_last)), plain) < 1e-4


def test_bfloat16_autocast(plain: Tensor) -> None:
    # Products of 8 bits of precision, rounded to nearest, add up to a few hundredths over a dozen layers.
    assert relative_difference(gradients_of(small_model(), "bf16"), plain) < 0.1


def test_a_compiled_run(scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One step of a network of two levels: each layer unlike the others takes seconds to compile."""
    gradients, plain_gradients = [], SegmentationTask.gradients

    def record(task: SegmentationTask, *arguments: Any, **options: Any) -> Any:
        returned = plain_gradients(task, *arguments, **options)
        found = [parameter.grad.flatten() for parameter in task.model.parameters() if parameter.grad is not None]
        gradients.append(torch.cat(found))
        return returned

    monkeypatch.setattr(SegmentationTask, "gradients", record)
    settings = {**TINY_SETTINGS, "coarsest_stride": 8, "dropout": 0.0, "crop": 32}
    plain, compiled = (
        train(
            scenes, out=tmp_path / mode, epochs=1, batch_size=20, workers=0, precision="fp32", compile=mode, **settings
        )
        for mode in ("none", "default")
    )
    assert relative_difference(gradients[1], gradients[0]) < 1e-4
    assert compiled.history[0]["train_loss"] == pytest.approx(plain.history[0]["train_loss"], rel=1e-4)
    assert read_bundle(plain.last).tensors.keys() == read_bundle(compiled.last).tensors.keys()


def test_the_fused_optimiser() -> None:
    assert relative_difference(_after_steps(fused=True), _after_steps(fused=False)) < 1e-6


def _after_steps(*, fused: bool) -> Tensor:
    model = small_model()
    optimizer = make_optimizer(model, OptimConfig(optimizer="adamw", lr=0.1, weight_decay=0.1))
    for group in optimizer.param_groups:
        assert group["fused"], "what is tested is what training uses"
        group["fused"] = fused
    for number in range(3):
        generator = torch.Generator().manual_seed(number)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape, generator=generator)
        optimizer.step()
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
