"""Losses of segmentation, normalised over the whole step: all micro-batches of all processes.

A loss function returns this process's *share*: the shares of all processes add up to the loss of the joined batch, and
so do their gradients. `IGNORE` pixels are ignored.

Sources: Dice, Milletari et al. 2016, arXiv 1606.04797; focal, Lin et al. 2017, arXiv 1708.02002; median frequency
weights, Eigen & Fergus 2015, arXiv 1411.4734.

Legend: B batch, H W pixels, K classes, N pixels of an image.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.base.classes import IGNORE
from pyramidseg.base.config import LossConfig
from pyramidseg.base.distributed import sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError

SMALLEST = 1e-12
"""Replaces a divisor of 0 if no pixel is labelled; the loss is then 0."""

NEAR_PX = 2
"""A pixel is at a border if another class is in the window of so many pixels to each side."""


@dataclass(frozen=True)
class Targets:
    """Labels, and the normalisation of the losses.

    Attributes:
        labels: (B, H, W) int64 with `IGNORE`.
        class_weights: (K,).
        weight_total: sum of the class weights of all labelled pixels of the step, over all processes and micro-batches.
        micro_batches: number of micro-batches in the step.
        focal_gamma: exponent of the focal loss.
        joined: whether all processes compute one loss together (training), or each its own (validation).
    """

    labels: Tensor
    class_weights: Tensor
    weight_total: Tensor
    micro_batches: int = 1
    focal_gamma: float = 2.0
    joined: bool = True


@dataclass(frozen=True)
class Loss:
    """A loss in two parts: sums over the pixels of an image, and the loss as a function of the sums over all images.

    It can therefore be computed image by image, without a float32 copy of all logits.

    Attributes:
        sums: the sums of one image, from its log-probabilities (K, N) and labels (N,).
        of_sums: this process's share of the loss, from the sums over all images.
    """

    sums: Callable[[Tensor, Tensor, Targets], Tensor]
    of_sums: Callable[[Tensor, Targets], Tensor]


def weighted_mean(total: Tensor, targets: Targets) -> Tensor:
    """Sum () divided by the class weights of all labelled pixels: the second part of cross entropy and focal loss."""
    return total / targets.weight_total


def cross_entropy_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * -log p[y]. `nll_loss` would transpose log p, and its gradient, in memory."""
    weights, log_p_true = _of_true_class(log_p, labels, targets)
    return -(weights * log_p_true).sum()


def focal_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * (1 - p[y]) ** gamma * -log p[y] (Lin et al. 2017, section 3)."""
    weights, log_p_true = _of_true_class(log_p, labels, targets)
    # expm1 keeps the gradient finite for p close to 1.
    modulation = (-torch.expm1(log_p_true)).clamp_min(1e-12) ** targets.focal_gamma
    return -(weights * modulation * log_p_true).sum()


def border_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * -log p[y] over the pixels at borders between classes; ignored pixels are of none."""
    weights, log_p_true = _of_true_class(log_p, labels, targets)
    plane, size = labels.view(1, *targets.labels.shape[1:]).to(log_p.dtype), 2 * NEAR_PX + 1
    highest = F.max_pool2d(plane.where(plane != IGNORE, -1), size, stride=1, padding=NEAR_PX)
    lowest = -F.max_pool2d(-plane, size, stride=1, padding=NEAR_PX)  # `IGNORE` is above all classes
    return -(weights * log_p_true)[(highest > lowest).flatten()].sum()


def _of_true_class(log_p: Tensor, labels: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Weight (0 if ignored) and log-probability of each pixel's true class, (N,) each."""
    labelled = labels != IGNORE
    true = labels.where(labelled, 0)
    return targets.class_weights[true] * labelled, log_p.gather(0, true[None])[0]


def dice_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """(3, K): a class's probability summed over its own pixels, over all labelled pixels, and its number of pixels."""
    labelled = labels != IGNORE
    true = labels.where(labelled, 0)
    counted = labelled.to(log_p.dtype)
    p = log_p.exp()
    p_true = p.gather(0, true[None])[0] * counted
    none = torch.zeros_like(p[:, 0])
    return torch.stack([none.index_add(0, true, p_true), p @ counted, none.index_add(0, true, counted)])


def dice_of_sums(sums: Tensor, targets: Targets) -> Tensor:
    """One minus soft Dice (Milletari et al. 2016, section 3), averaged over the classes in the joined micro-batch.

    Intersections and sizes are summed over all processes before the division, so that the loss is that of the joined
    batch; micro-batches are averaged. Numerator and denominator are increased by 1, which smooths tiny classes.
    """
    if targets.joined:  # the sum over all processes, with the gradient of this process's summand
        sums = sums + (sum_over_ranks(sums) - sums.detach())
    overlap, predicted, present = sums.unbind()
    scores = (2 * overlap + 1) / (predicted + present + 1)
    counted = present > 0
    if not counted.any():
        return (overlap * 0).sum()
    loss: Tensor = (1 - scores)[counted].mean() / targets.micro_batches
    # This process's share of a loss that all processes know: 1/world_size of the value, the full gradient.
    return loss - loss.detach() * (1 - 1 / world_size()) if targets.joined else loss


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy_sums, weighted_mean),
    "dice": Loss(dice_sums, dice_of_sums),
    "focal": Loss(focal_sums, weighted_mean),
    "border": Loss(border_sums, weighted_mean),
}


def segmentation_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """The weighted sum of losses: this process's share of it, in the dtype of the class weights.

    Args:
        logits: (B, K, H, W) of any dtype; they are converted to that of the class weights, one image at a time.
    """
    weights = {name: float(getattr(config, name)) for name in LOSSES}
    chosen = [name for name, weight in weights.items() if weight]
    sums: tuple[Tensor, ...] = _PixelSums.apply(logits, targets, tuple(LOSSES[name].sums for name in chosen))
    terms = [weights[name] * LOSSES[name].of_sums(total, targets) for name, total in zip(chosen, sums, strict=True)]
    return torch.stack(terms).sum()


class _PixelSums(torch.autograd.Function):
    """Sums over all pixels of a batch, computed image by image, and again in the backward pass.

    Values and gradients are those of converting all logits to float32 at once, without storing a tensor of that size.
    """

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, targets: Targets, sums: tuple[Callable[[Tensor, Tensor, Targets], Tensor], ...]
    ) -> tuple[Tensor, ...]:
        ctx.save_for_backward(logits)
        ctx.targets, ctx.sums = targets, sums
        found = [_sums_of_image(*pair, targets, sums) for pair in zip(logits, targets.labels, strict=True)]
        return tuple(torch.stack(parts).sum(dim=0) for parts in zip(*found, strict=True))

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        (logits,) = ctx.saved_tensors
        gradient = torch.empty_like(logits)
        for image, labels, part in zip(logits, ctx.targets.labels, gradient, strict=True):
            with torch.enable_grad():
                leaf = image.detach().requires_grad_()
                sums = _sums_of_image(leaf, labels, ctx.targets, ctx.sums)
            part.copy_(torch.autograd.grad(sums, leaf, gradients)[0])
        return gradient, None, None


def _sums_of_image(
    logits: Tensor, labels: Tensor, targets: Targets, sums: Sequence[Callable[[Tensor, Tensor, Targets], Tensor]]
) -> list[Tensor]:
    """From logits (K, H, W) and labels (H, W)."""
    # Contiguous by class, so that exponentials and sums run over whole rows of pixels.
    wide = logits.to(targets.class_weights.dtype, memory_format=torch.contiguous_format).flatten(1)
    log_p = wide.log_softmax(dim=0)
    return [of(log_p, labels.flatten(), targets) for of in sums]


def validation_loss(logits: Tensor, labels: Tensor, class_weights: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """Sum over images of their loss times their weight (that of their labelled pixels), and the sum of the weights.

    Each image has its own loss, so that the mean over a dataset depends neither on batches nor on processes.

    Args:
        logits: (B, K, H, W).
        labels: (B, H, W) int64.
    """
    losses, weights = [], []
    for image_logits, image_labels in zip(torch.split(logits, 1), torch.split(labels, 1), strict=True):
        weight = labelled_weight(image_labels, class_weights)
        divisor = weight.clamp_min(SMALLEST)
        targets = Targets(image_labels, class_weights, divisor, focal_gamma=config.focal_gamma, joined=False)
        losses.append(segmentation_loss(image_logits, targets, config) * weight)
        weights.append(weight)
    return torch.stack(losses).sum(), torch.stack(weights).sum()


def presence_loss(image_logits: Tensor, labels: Tensor, *, images_total: int) -> Tensor:
    """Binary cross entropy of the image-level head, which predicts the classes that occur in an image.

    Args:
        image_logits: (B, K).
        labels: (B, H, W) int64.
        images_total: number of images of the step, over all processes and micro-batches.
    """
    flat = labels.flatten(1)
    counts = image_logits.new_zeros(len(flat), IGNORE + 1).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=image_logits.dtype)
    )
    present = (counts[:, : image_logits.shape[1]] > 0).to(image_logits.dtype)
    total = F.binary_cross_entropy_with_logits(image_logits, present, reduction="sum")
    return total / (images_total * image_logits.shape[1])


def labelled_weight(labels: Tensor, class_weights: Tensor) -> Tensor:
    """Sum () of the class weights (K,) of all labelled pixels; labels are uint8 or int64 of any shape, 255 ignored."""
    counts = torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[: len(class_weights)]
    return (counts * class_weights).sum()


def class_weights(
    kind: Literal["none", "sqrt_median_frequency", "median_frequency"] | tuple[float, ...],
    pixels: Sequence[int],
    pixels_where_present: Sequence[int],
) -> Tensor:
    """Class weights, (K,) float32.

    The frequency of a class is its number of pixels divided by that of all labelled pixels in the images where it
    occurs. Its weight is the median frequency divided by its own (Eigen & Fergus 2015, section 6.3.2), or the square
    root of that. A class that never occurs has the weight 1.

    Raises:
        ConfigError: a list of weights whose length is not the number of classes, or with unusable values.
    """
    if kind == "none":
        return torch.ones(len(pixels))
    if isinstance(kind, tuple):
        if len(kind) != len(pixels) or min(kind) < 0 or max(kind) == 0:
            raise ConfigError(
                f"loss.class_weights={list(kind)}: {len(kind)} weights for {len(pixels)} classes; give one per class, "
                "none negative and not all zero"
            )
        return torch.tensor(kind)
    frequency = torch.tensor(pixels, dtype=torch.float64) / torch.tensor(pixels_where_present).clamp_min(1)
    occurs = frequency > 0
    ratio = torch.ones_like(frequency)
    if not occurs.any():
        return ratio.float()
    # The mean of the two middle values if their number is even, as in numpy.median.
    ratio[occurs] = frequency[occurs].quantile(0.5) / frequency[occurs]
    return (ratio.sqrt() if kind == "sqrt_median_frequency" else ratio).float()
