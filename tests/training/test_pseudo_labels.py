"""Labels by the teacher: which pixels are accepted, what is learned from them, and the rectangles that are mixed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import LossConfig
from pyramidseg.data.loading import Batch
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.training import segmentation_gradients as step
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.segmentation_gradients import (
    TrainingModel,
    accepted_shares,
    label_by_teacher,
    mix_rectangles,
    segmentation_gradients,
)
from support import tiny_segmenter

CPU = Accelerator(torch.device("cpu"), "fp64", seed=0)


class Teacher(nn.Module):
    """Class 1 where the red value is above 127, else class 0; sure of it where the green value is above 127."""

    def forward(self, images: Tensor) -> Tensor:
        assert not self.training
        red, green = images[:, 0] > 127, images[:, 1] > 127
        size = torch.where(green, 6.0, 1.0) * torch.where(red, 1.0, -1.0)
        return torch.stack([torch.zeros_like(size), size], dim=1)


def unlabelled(number: int = 2) -> Batch:
    generator = torch.Generator().manual_seed(number)
    images = torch.randint(0, 256, (number, 6, 8, 8), dtype=torch.uint8, generator=generator)
    labels = torch.zeros(number, 8, 8, dtype=torch.uint8)
    labels[0, :2] = IGNORE
    return Batch(images, labels, tuple((0, -1 - index) for index in range(number)))


@pytest.fixture
def unmixed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(step, "MIXED", 0.0)


@pytest.mark.usefixtures("unmixed")
def test_confident_pixels_are_accepted_and_counted() -> None:
    batch = unlabelled()
    found = label_by_teacher(CPU, Teacher().eval(), [batch], 0, loss=LossConfig(confidence=0.9))
    red, green, inside = batch.images[:, 0] > 127, batch.images[:, 1] > 127, batch.labels != IGNORE
    expected = torch.where(green & inside, red.long(), IGNORE)
    assert torch.equal(found.batches[0].labels, expected)
    assert torch.equal(found.batches[0].images, batch.images[:, 3:]), "the student gets the strong view"
    given = [(inside & (red == bool(class_id))).sum().item() for class_id in (0, 1)]
    accepted = [(expected == class_id).sum().item() for class_id in (0, 1)]
    assert found.counts.tolist() == [given, accepted]
    assert found.pixels.item() == 2 * 64 - 16
    shares = accepted_shares(found.counts, ("a", "b"))
    assert shares["accepted_b"] == accepted[1] / given[1]
    assert shares["unlabeled_accepted"] == sum(accepted) / sum(given)
    assert accepted_shares(torch.tensor([[5, 0], [5, 0]]), ("a", "b"))["accepted_b"] is None


@pytest.mark.usefixtures("unmixed")
def test_the_loss_is_the_cross_entropy_over_all_pixels_of_the_images() -> None:
    first, second = unlabelled(2), unlabelled(3)
    found = label_by_teacher(CPU, Teacher().eval(), [first, second], 0, loss=LossConfig(confidence=0.9))
    logits = [torch.randn(len(batch.keys), 2, 8, 8, dtype=torch.float64) for batch in (first, second)]
    total = sum(
        F.cross_entropy(some, batch.labels, ignore_index=IGNORE, reduction="sum")
        for some, batch in zip(logits, found.batches, strict=True)
    )
    mine = sum(found.share_of(index, some) for index, some in enumerate(logits))
    assert torch.allclose(mine, total / (5 * 64 - 2 * 16))


@pytest.mark.usefixtures("unmixed")
def test_a_teacher_that_is_not_finite_teaches_nothing() -> None:
    class Broken(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return torch.full((len(images), 2, 8, 8), torch.nan)

    found = label_by_teacher(CPU, Broken().eval(), [unlabelled()], 0, loss=LossConfig())
    assert (found.batches[0].labels == IGNORE).all()
    assert found.share_of(0, torch.randn(2, 2, 8, 8, dtype=torch.float64)) == 0


def test_rectangles_carry_their_labels_along() -> None:
    labels = torch.arange(3)[:, None, None].expand(3, 20, 30).clone()
    images = labels[:, None].expand(3, 2, 20, 30).to(torch.uint8)
    mixed = 0
    for seed in range(10):
        got_images, got = mix_rectangles(images, labels, np.random.default_rng(seed))
        assert torch.equal(got_images, got[:, None].expand(3, 2, 20, 30).to(torch.uint8))
        for index in range(3):
            assert set(got[index].unique().tolist()) <= {index, (index - 1) % 3}
            share = (got[index] != index).double().mean().item()
            assert share == 0 or 0.3**2 - 0.05 < share < 0.7**2 + 0.05
            mixed += share > 0
    assert 5 < mixed < 25
    assert torch.equal(labels[0], torch.zeros(20, 30, dtype=torch.int64)), "the batch itself is left as it is"
    alone = mix_rectangles(images[:1], labels[:1], np.random.default_rng(0))[1]
    assert torch.equal(alone, labels[:1])


def gradients(weight: float, *, teach: bool = True) -> tuple[float, list[Tensor], Tensor]:
    torch.manual_seed(0)
    small = {"pyramid_channels": 32, "segmentation_channels": 32, "norm": "group"}
    model = Segmenter(num_classes=2, encoder="test_resnet", encoder_weights="none", **small).double()
    images = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8)
    labelled = Batch(images, torch.randint(0, 2, (2, 8, 8), dtype=torch.uint8), ((0, 0), (0, 1)))
    loss = LossConfig(unlabeled_weight=weight)
    pseudo = label_by_teacher(CPU, Teacher().eval(), [unlabelled()], 3, loss=loss) if teach else None
    share, counts = segmentation_gradients(
        CPU, TrainingModel(model), [labelled], 3, loss=loss, class_weights=torch.ones(2).double(), pseudo=pseudo
    )
    return float(share), [parameter.grad for parameter in model.parameters() if parameter.grad is not None], counts


def test_labelled_images_are_learned_as_before_and_the_weight_scales_the_others() -> None:
    alone, off, once, twice = gradients(1.0, teach=False), gradients(0.0), gradients(1.0), gradients(2.0)
    assert alone[0] == off[0] == once[0], "the loss that is shown is that of labelled images"
    for without, zero, one, two in zip(alone[1], off[1], once[1], twice[1], strict=True):
        assert torch.allclose(without, zero, atol=1e-12)
        assert torch.allclose(two - zero, 2 * (one - zero), atol=1e-9)
    assert any(not torch.allclose(zero, one) for zero, one in zip(off[1], once[1], strict=True))
    assert alone[2].shape == (2, 2)
    assert once[2].shape == (4, 2)
    assert torch.equal(once[2][:2], alone[2])


class LastAlone(Accelerator):
    """Computes the last micro-batch only, after which DistributedDataParallel waits for every gradient."""

    def forward_backward(self, module: nn.Module, batches: Sequence[Batch], number: int, **how: Any) -> Tensor:
        last = len(batches) - 1
        return super().forward_backward(module, batches[-1:], number, loss=lambda _, output: how["loss"](last, output))


@pytest.mark.parametrize("image_head", [False, True])
def test_every_parameter_has_a_gradient_after_the_unlabelled_batch(image_head: bool) -> None:
    model = tiny_segmenter(num_classes=2, image_head=image_head, norm="group").double()
    accelerator, loss = LastAlone(torch.device("cpu"), "fp64", seed=0), LossConfig()
    labelled = Batch(
        torch.zeros(2, 3, 8, 8, dtype=torch.uint8), torch.zeros(2, 8, 8, dtype=torch.uint8), ((0, 0), (0, 1))
    )
    pseudo = label_by_teacher(accelerator, Teacher().eval(), [unlabelled()], 3, loss=loss)
    segmentation_gradients(
        accelerator, TrainingModel(model), [labelled], 3, loss=loss, class_weights=torch.ones(2).double(), pseudo=pseudo
    )
    assert [name for name, parameter in model.named_parameters() if parameter.grad is None] == []
    head = [parameter.grad for name, parameter in model.named_parameters() if name.startswith("head.")]
    assert bool(head) == image_head
    assert not any(gradient.any() for gradient in head)
