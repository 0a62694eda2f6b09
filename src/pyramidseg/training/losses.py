"""Losses, as sums over pixels divided by what counts in the whole step: all micro-batches of all processes.

Every loss is this process's *share*: the shares of all processes add up to the loss of the joined batch, and so do
their gradients. `IGNORE` pixels count nowhere.

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
from pyramidseg.base.device import sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError

SMALLEST = 1e-12
"""Stands in for a divisor of 0 where nothing is labelled: the loss is 0 then."""


@dataclass(frozen=True)
class Targets:
    """What logits are compared with.

    Attributes:
        labels: (B, H, W) int64 with `IGNORE`.
        class_weights: (K,).
        weight_total: sum of the class weights of all labelled pixels of the step, over all processes and micro-batches.
        micro_batches: number of micro-batches in the step.
        focal_gamma: exponent of the focal loss.
        joined: whether all processes compute this loss together (training), or each for itself (validation).
    """

    labels: Tensor
    class_weights: Tensor
    weight_total: Tensor
    micro_batches: int = 1
    focal_gamma: float = 2.0
    joined: bool = True


@dataclass(frozen=True)
class Loss:
    """A loss as sums over pixels, and what is made of the sums over all pixels.

    So it can be had image by image: nothing of the logits' full size is ever held in a wider dtype.

    Attributes:
        sums: of one image, from its log-probabilities (K, N) and labels (N,).
        of_sums: this process's share of the loss, from these sums added up.
    """

    sums: Callable[[Tensor, Tensor, Targets], Tensor]
    of_sums: Callable[[Tensor, Targets], Tensor]


def weighted_mean(total: Tensor, targets: Targets) -> Tensor:
    """What cross entropy and focal loss make of their sums: the quotient by the weights of all labelled pixels."""
    return total / targets.weight_total


def cross_entropy_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * -log p[y]. `nll_loss` would first copy log p to one row for each pixel, and the gradient back."""
    weights, log_p_true = _of_true_class(log_p, labels, targets)
    return -(weights * log_p_true).sum()


def focal_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """Sum of w[y] * (1 - p[y]) ** gamma * -log p[y]."""
    weights, log_p_true = _of_true_class(log_p, labels, targets)
    # expm1 keeps the gradient finite where p is close to 1.
    modulation = (-torch.expm1(log_p_true)).clamp_min(1e-12) ** targets.focal_gamma
    return -(weights * modulation * log_p_true).sum()


def _of_true_class(log_p: Tensor, labels: Tensor, targets: Targets) -> tuple[Tensor, Tensor]:
    """Weight (0 where ignored) and log-probability of each pixel's own class, (N,) each."""
    labelled = labels != IGNORE
    true = labels.where(labelled, 0)
    return targets.class_weights[true] * labelled, log_p.gather(0, true[None])[0]


def dice_sums(log_p: Tensor, labels: Tensor, targets: Targets) -> Tensor:
    """By class, (3, K): probability on its own labelled pixels, on all labelled pixels, and the number of its own."""
    labelled = labels != IGNORE
    true = labels.where(labelled, 0)
    counted = labelled.to(log_p.dtype)
    p = log_p.exp()
    p_true = p.gather(0, true[None])[0] * counted
    none = torch.zeros_like(p[:, 0])
    return torch.stack([none.index_add(0, true, p_true), p @ counted, none.index_add(0, true, counted)])


def dice_of_sums(sums: Tensor, targets: Targets) -> Tensor:
    """One minus soft Dice, averaged over the classes present in the joined micro-batch.

    Intersections and sizes are added over all processes before the quotient is taken, so the loss is that of the
    joined batch; micro-batches are averaged. A pixel is added to both terms, so that tiny classes stay smooth.
    """
    overlap, predicted, present = (_over_ranks(sums) if targets.joined else sums).unbind()
    scores = (2 * overlap + 1) / (predicted + present + 1)
    counted = present > 0
    if not counted.any():
        return (overlap * 0).sum()
    loss: Tensor = (1 - scores)[counted].mean() / targets.micro_batches
    return _shared(loss) if targets.joined else loss


LOSSES: dict[str, Loss] = {
    "cross_entropy": Loss(cross_entropy_sums, weighted_mean),
    "dice": Loss(dice_sums, dice_of_sums),
    "focal": Loss(focal_sums, weighted_mean),
}


def segmentation_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """The weighted sum of losses: this process's share of it, in the dtype of the class weights.

    Args:
        logits: (B, K, H, W) of any dtype; they are widened to that of the class weights, one image at a time.
    """
    weights = {name: float(getattr(config, name)) for name in LOSSES}
    chosen = [name for name, weight in weights.items() if weight]
    sums: tuple[Tensor, ...] = _PixelSums.apply(logits, targets, tuple(LOSSES[name].sums for name in chosen))
    terms = [weights[name] * LOSSES[name].of_sums(total, targets) for name, total in zip(chosen, sums, strict=True)]
    return torch.stack(terms).sum()


class _PixelSums(torch.autograd.Function):
    """Sums over all pixels of a batch, image by image; the backward pass computes each image's anew.

    The same values and gradients as widening all logits at once, without keeping anything of their size.
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
    # Class by class in memory: exponentials and sums run over whole rows of pixels then.
    wide = logits.to(targets.class_weights.dtype, memory_format=torch.contiguous_format).flatten(1)
    log_p = wide.log_softmax(dim=0)
    return [of(log_p, labels.flatten(), targets) for of in sums]


def validation_loss(logits: Tensor, labels: Tensor, class_weights: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The training loss of each image by itself, weighted by its labelled pixels, and the sum of these weights.

    By image, so that a mean over a data set depends neither on batches nor on the number of processes.

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
    """Binary cross entropy of the image-level head: is the class anywhere in the image?

    Args:
        image_logits: (B, K).
        labels: (B, H, W) int64.
        images_total: images of the step over all processes and micro-batches.
    """
    flat = labels.flatten(1)
    counts = image_logits.new_zeros(len(flat), IGNORE + 1).scatter_add_(
        1, flat, torch.ones_like(flat, dtype=image_logits.dtype)
    )
    present = (counts[:, : image_logits.shape[1]] > 0).to(image_logits.dtype)
    total = F.binary_cross_entropy_with_logits(image_logits, present, reduction="sum")
    return total / (images_total * image_logits.shape[1])


def labelled_weight(labels: Tensor, class_weights: Tensor) -> Tensor:
    """Sum of the class weights of all labelled pixels of one process's labels, uint8 or int64."""
    counts = torch.bincount(labels.flatten().long(), minlength=IGNORE + 1)[: len(class_weights)]
    return (counts * class_weights).sum()


def class_weights(
    kind: Literal["none", "sqrt_median_frequency", "median_frequency"] | tuple[float, ...],
    pixels: Sequence[int],
    pixels_where_present: Sequence[int],
) -> Tensor:
    """Weight by class, (K,) float32.

    A class's frequency is its pixels over all labelled pixels of the images that show it; its weight is the median
    frequency over its own, or the square root of that. A class that never occurs weighs 1; so do all where none does.

    Raises:
        ConfigError: a list of weights of another length than the classes.
    """
    if kind == "none":
        return torch.ones(len(pixels))
    if isinstance(kind, tuple):
        if len(kind) != len(pixels) or min(kind) < 0 or max(kind) == 0:
            raise ConfigError(
                f"loss.class_weights: {len(kind)} weights for {len(pixels)} classes: give one a class, none negative"
            )
        return torch.tensor(kind)
    frequency = torch.tensor(pixels, dtype=torch.float64) / torch.tensor(pixels_where_present).clamp_min(1)
    occurs = frequency > 0
    ratio = torch.ones_like(frequency)
    if not occurs.any():
        return ratio.float()
    # The mean of the two middle ones where their number is even, as NumPy's median.
    ratio[occurs] = frequency[occurs].quantile(0.5) / frequency[occurs]
    return (ratio.sqrt() if kind == "sqrt_median_frequency" else ratio).float()


def _over_ranks(mine: Tensor) -> Tensor:
    """The sum over all processes in value, this process's summand in gradient."""
    return mine + (sum_over_ranks(mine) - mine.detach())


def _shared(loss: Tensor) -> Tensor:
    """A loss that all processes hold whole, as this one's share: one part of the value, all of its own gradient."""
    return loss - loss.detach() * (1 - 1 / world_size())
