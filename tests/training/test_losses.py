"""Each loss against a loop or torch itself, in float64."""

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import LossConfig
from pyramidseg.base.errors import ConfigError
from pyramidseg.training.losses import (
    LOSSES,
    Targets,
    class_weights,
    labelled_weight,
    presence_loss,
    segmentation_loss,
    validation_loss,
)

K = 4


def sample(seed: int, *, ignored: float = 0.3) -> tuple[Tensor, Tensor, Tensor]:
    """Logits, labels and class weights."""
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, K, 5, 7, generator=generator, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, K, (2, 5, 7), generator=generator)
    labels[torch.rand(2, 5, 7, generator=generator) < ignored] = IGNORE
    return logits, labels, torch.rand(K, generator=generator, dtype=torch.float64) + 0.5


def targets_of(labels: Tensor, weights: Tensor, gamma: float = 2.0) -> Targets:
    return Targets(labels, weights, labelled_weight(labels, weights), focal_gamma=gamma)


def loss_of(name: str, logits: Tensor, targets: Targets) -> Tensor:
    return segmentation_loss(logits, targets, only(name))


def only(name: str) -> LossConfig:
    return LossConfig(**{"cross_entropy": 0, "dice": 0, name: 1})


def focal_by_loop(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> float:
    total = divisor = 0.0
    probabilities = logits.detach().softmax(1)
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label != IGNORE:
            p = float(probabilities[b, label, y, x])
            total += float(weights[label]) * (1 - p) ** gamma * -math.log(p)
            divisor += float(weights[label])
    return total / divisor


def dice_by_loop(logits: Tensor, labels: Tensor) -> float:
    probabilities = logits.detach().softmax(1)
    scores = []
    for k in range(K):
        overlap = predicted = present = 0.0
        for b, y, x in np.ndindex(*labels.shape):
            if labels[b, y, x] != IGNORE:
                p = float(probabilities[b, k, y, x])
                predicted += p
                present += int(labels[b, y, x] == k)
                overlap += p * int(labels[b, y, x] == k)
        if present:
            scores.append(1 - (2 * overlap + 1) / (predicted + present + 1))
    return sum(scores) / len(scores)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_cross_entropy_equals_torchs_weighted_mean(seed: int) -> None:
    logits, labels, weights = sample(seed)
    expected = F.cross_entropy(logits, labels, weight=weights, ignore_index=IGNORE)
    assert loss_of("cross_entropy", logits, targets_of(labels, weights)).item() == pytest.approx(expected.item())


@given(st.integers(0, 10_000), st.sampled_from([0.0, 1.0, 2.0, 3.5]))
@settings(max_examples=20, deadline=None)
def test_focal_equals_a_loop(seed: int, gamma: float) -> None:
    logits, labels, weights = sample(seed)
    ours = loss_of("focal", logits, targets_of(labels, weights, gamma)).item()
    assert ours == pytest.approx(focal_by_loop(logits, labels, weights, gamma))


def border_by_loop(logits: Tensor, labels: Tensor, weights: Tensor) -> float:
    total = divisor = 0.0
    log_p = logits.detach().log_softmax(1)
    for b, y, x in np.ndindex(*labels.shape):
        label = int(labels[b, y, x])
        if label != IGNORE:
            window = labels[b, max(0, y - 2) : y + 3, max(0, x - 2) : x + 3]
            at_border = bool(((window != label) & (window != IGNORE)).any())
            total -= float(weights[label] * log_p[b, label, y, x]) * at_border
            divisor += float(weights[label])
    return total / divisor


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=20, deadline=None)
def test_border_equals_a_loop(seed: int, even: bool) -> None:
    logits, labels, weights = sample(seed)
    if even:  # most pixels have no other class near
        labels[(labels != IGNORE) & (torch.arange(7) < 6)] = 1
    ours = loss_of("border", logits, targets_of(labels, weights)).item()
    assert ours == pytest.approx(border_by_loop(logits, labels, weights))


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_dice_equals_a_loop(seed: int) -> None:
    logits, labels, weights = sample(seed)
    assert loss_of("dice", logits, targets_of(labels, weights)).item() == pytest.approx(dice_by_loop(logits, labels))


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_pixels_have_no_gradient_and_no_influence(name: str) -> None:
    logits, labels, weights = sample(3)
    targets = targets_of(labels, weights)
    loss = loss_of(name, logits, targets)
    loss.backward()
    ignored = (labels == IGNORE)[:, None].expand_as(logits)
    assert logits.grad is not None
    assert logits.grad[ignored].abs().max() == 0
    assert logits.grad[~ignored].abs().max() > 0
    changed = logits.detach().clone()
    changed[ignored] += 100
    assert loss_of(name, changed, targets).item() == pytest.approx(loss.item(), rel=1e-12)


@pytest.mark.parametrize("name", LOSSES)
def test_gradients_agree_with_finite_differences(name: str) -> None:
    logits, labels, weights = sample(5)
    assert torch.autograd.gradcheck(lambda x: loss_of(name, x, targets_of(labels, weights)), logits)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("scale", [1e4, -1e4])
def test_extreme_logits_give_finite_gradients(name: str, scale: float) -> None:
    logits, labels, weights = sample(6)
    extreme = (logits.detach() * scale).float().requires_grad_()
    loss_of(name, extreme, targets_of(labels, weights.float())).backward()
    assert extreme.grad is not None
    assert extreme.grad.isfinite().all()


@pytest.mark.parametrize("name", LOSSES)
def test_nothing_labelled_is_a_loss_of_zero(name: str) -> None:
    logits, labels, weights = sample(7)
    labels[:] = IGNORE
    loss, weight = validation_loss(logits, labels, weights, only(name))
    loss.backward()
    assert loss.item() == weight.item() == 0
    assert logits.grad is not None
    assert logits.grad.isfinite().all()


def test_a_sum_of_losses_is_their_weighted_sum() -> None:
    logits, labels, weights = sample(8)
    targets = targets_of(labels, weights)
    config = LossConfig(cross_entropy=0.5, dice=2.0, focal=3.0)
    expected = 0.5 * loss_of("cross_entropy", logits, targets) + 2 * loss_of("dice", logits, targets)
    expected = expected + 3 * loss_of("focal", logits, targets)
    assert segmentation_loss(logits, targets, config).item() == pytest.approx(expected.item())


def test_validation_loss_does_not_depend_on_the_batch() -> None:
    logits, labels, weights = sample(9)
    config = LossConfig(cross_entropy=1, dice=1)
    together = validation_loss(logits, labels, weights, config)
    apart = [validation_loss(logits[i : i + 1], labels[i : i + 1], weights, config) for i in range(len(logits))]
    for whole, parts in zip(together, zip(*apart, strict=True), strict=True):
        assert whole.item() == pytest.approx(sum(part.item() for part in parts))


@pytest.mark.parametrize("name", LOSSES)
def test_bfloat16_logits_give_what_widening_them_at_once_gives(name: str) -> None:
    logits, labels, weights = sample(11)
    narrow = logits.detach().bfloat16().requires_grad_()
    wide = narrow.detach().float().requires_grad_()
    targets = targets_of(labels, weights.float())
    losses = [loss_of(name, narrow, targets), loss_of(name, wide, targets)]
    assert losses[0].dtype == torch.float32
    assert losses[0].item() == losses[1].item()
    for loss in losses:
        loss.backward()
    assert narrow.grad is not None
    assert wide.grad is not None
    assert torch.equal(narrow.grad, wide.grad.bfloat16())


def test_nothing_of_the_logits_size_is_kept_in_float32() -> None:
    largest = 0

    class Largest(TorchDispatchMode):
        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor) and out.dtype == torch.float32:
                largest = max(largest, out.numel())
            return out

    logits = torch.randn(8, K, 16, 16).bfloat16().requires_grad_()
    labels = torch.randint(0, K, (8, 16, 16))
    with Largest():
        segmentation_loss(
            logits, targets_of(labels, torch.ones(K)), LossConfig(cross_entropy=1, dice=1, focal=1)
        ).backward()
    assert largest == logits[0].numel()


def test_presence_loss_equals_torchs_on_the_presence_table() -> None:
    _, labels, _ = sample(10)
    labels[0][labels[0] == 2] = IGNORE
    image_logits = torch.randn(2, K, dtype=torch.float64)
    present = torch.tensor([[float((image == k).any()) for k in range(K)] for image in labels], dtype=torch.float64)
    expected = F.binary_cross_entropy_with_logits(image_logits, present)
    assert presence_loss(image_logits, labels, images_total=2).item() == pytest.approx(expected.item())


def test_median_frequency_weights_are_those_of_camvid() -> None:
    # Counts with round frequencies; a class that never occurs has weight 1.
    quoted = [0.279, 0.202, 4.789, 0.149, 1.0, 0.424, 3.846, 1.980, 0.789, 6.385, 8.819]
    images = 1_000_000
    pixels = [round(images * 0.05 / weight) for weight in quoted]
    weights = class_weights("median_frequency", [*pixels, 0], [images] * 11 + [0])
    assert weights[:11].tolist() == pytest.approx(quoted, rel=1e-3)
    assert weights[11] == 1
    roots = class_weights("sqrt_median_frequency", pixels, [images] * 11)
    assert roots.tolist() == pytest.approx(np.sqrt(quoted), rel=1e-3)


@pytest.mark.parametrize("kind", ["sqrt_median_frequency", "median_frequency"])
def test_class_weights_of_no_labelled_pixel_are_all_one(kind: Any) -> None:
    assert class_weights(kind, [0, 0], [0, 0]).tolist() == [1, 1]


def test_class_weights_by_hand_need_one_a_class() -> None:
    assert class_weights((1.0, 2.0), [5, 5], [9, 9]).tolist() == [1, 2]
    with pytest.raises(ConfigError, match="3 weights for 2 classes"):
        class_weights((1.0, 2.0, 3.0), [5, 5], [9, 9])
