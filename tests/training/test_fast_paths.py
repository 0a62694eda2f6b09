"""Every fast path of a training step computes what the plain one does."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from pyramidseg.base.config import LossConfig, OptimConfig
from pyramidseg.base.device import Precision
from pyramidseg.data.loading import Batch
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.optim import make_optimizer
from pyramidseg.training.segmentation_task import TrainingModel, segmentation_gradients

CPU = torch.device("cpu")
CLASSES = 4


def small_model() -> Segmenter:
    torch.manual_seed(0)
    return Segmenter(
        num_classes=CLASSES,
        encoder="test_resnet",
        encoder_weights="none",
        pyramid_channels=32,
        segmentation_channels=32,
        dropout=0.0,
    ).train()


def gradients_of(
    model: Segmenter, precision: Precision = "fp32", prepare: Callable[[TrainingModel], None] = lambda trained: None
) -> Tensor:
    """All gradients of one step on one batch, in a row."""
    generator = torch.Generator().manual_seed(1)
    images = torch.randint(0, 256, (4, 3, 64, 96), generator=generator, dtype=torch.uint8)
    labels = torch.randint(0, CLASSES, (4, 64, 96), generator=generator, dtype=torch.uint8)
    trained = TrainingModel(model)
    prepare(trained)
    segmentation_gradients(
        Accelerator(CPU, precision, seed=0),
        trained,
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


def test_a_compiled_step(plain: Tensor) -> None:
    compiled = gradients_of(small_model(), prepare=lambda trained: trained.compile(mode="default"))
    assert relative_difference(compiled, plain) < 1e-4


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
