"""Losses, as sums over pixels divided by what counts in the whole step: all micro-batches of all processes.

Every loss function returns this process's *share*: the shares of all processes add up to the loss of the joined batch,
and so do their gradients. `IGNORE` pixels count nowhere.

Sources: Dice, Milletari et al. 2016, arXiv 1606.04797; focal, Lin et al. 2017, arXiv 1708.02002; median frequency
weights, Eigen & Fergus 2015, arXiv 1411.4734.

Legend: B batch, H W pixels, K classes.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.classes import IGNORE
from pyramidseg.config import LossConfig
from pyramidseg.errors import ConfigError
from pyramidseg.runtime import sum_over_ranks, world_size

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


def cross_entropy(logits: Tensor, targets: Targets) -> Tensor:
    """Weighted cross entropy: sum of w[y] * -log p[y], divided by the sum of w[y]."""
    total = F.cross_entropy(logits, targets.labels, weight=targets.class_weights, ignore_index=IGNORE, reduction="sum")
    return total / targets.weight_total


def focal(logits: Tensor, targets: Targets) -> Tensor:
    """Focal loss: cross entropy of each pixel times (1 - p[y]) ** gamma, with the same weights and divisor."""
    surprise = F.cross_entropy(logits, targets.labels, ignore_index=IGNORE, reduction="none")
    labelled = targets.labels != IGNORE
    weights = targets.class_weights[targets.labels.where(labelled, 0)] * labelled
    # expm1 keeps the gradient finite where p is close to 1.
    modulation = (-torch.expm1(-surprise)).clamp_min(1e-12) ** targets.focal_gamma
    return (weights * modulation * surprise).sum() / targets.weight_total


def dice(logits: Tensor, targets: Targets) -> Tensor:
    """One minus soft Dice, averaged over the classes present in the joined micro-batch.

    Intersections and sizes are added over all processes before the quotient is taken, so the loss is that of the
    joined batch; micro-batches are averaged. A pixel is added to both terms, so that tiny classes stay smooth.
    """
    labelled = (targets.labels != IGNORE)[:, None]
    probabilities = logits.softmax(dim=1) * labelled
    truth = F.one_hot(targets.labels.where(labelled[:, 0], 0), logits.shape[1]).permute(0, 3, 1, 2) * labelled
    overlap = (probabilities * truth).sum(dim=(0, 2, 3))
    predicted = probabilities.sum(dim=(0, 2, 3))
    present = truth.sum(dim=(0, 2, 3)).to(logits.dtype)
    if targets.joined:
        overlap, predicted, present = _over_ranks(overlap), _over_ranks(predicted), sum_over_ranks(present)
    scores = (2 * overlap + 1) / (predicted + present + 1)
    counted = present > 0
    if not counted.any():
        return (overlap * 0).sum()
    loss = (1 - scores)[counted].mean() / targets.micro_batches
    return _shared(loss) if targets.joined else loss


LOSSES: dict[str, Callable[[Tensor, Targets], Tensor]] = {
    "cross_entropy": cross_entropy,
    "dice": dice,
    "focal": focal,
}


def segmentation_loss(logits: Tensor, targets: Targets, config: LossConfig) -> Tensor:
    """The weighted sum of losses: this process's share of it.

    Args:
        logits: (B, K, H, W), float32 or float64: bfloat16 has to be widened before.
    """
    weights = {name: float(getattr(config, name)) for name in LOSSES}
    terms = [weight * LOSSES[name](logits, targets) for name, weight in weights.items() if weight]
    return torch.stack(terms).sum()


def validation_loss(logits: Tensor, labels: Tensor, class_weights: Tensor, config: LossConfig) -> tuple[Tensor, Tensor]:
    """The training loss of each image by itself, weighted by its labelled pixels, and the sum of these weights.

    By image, so that a mean over a data set depends neither on batches nor on the number of processes.

    Args:
        logits: (B, K, H, W) float32.
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
    frequency over its own, or the square root of that. A class that never occurs weighs 1.

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
    # The mean of the two middle ones where their number is even, as NumPy's median.
    ratio[occurs] = frequency[occurs].quantile(0.5) / frequency[occurs]
    return (ratio.sqrt() if kind == "sqrt_median_frequency" else ratio).float()


def _over_ranks(mine: Tensor) -> Tensor:
    """The sum over all processes in value, this process's summand in gradient."""
    return mine + (sum_over_ranks(mine) - mine.detach())


def _shared(loss: Tensor) -> Tensor:
    """A loss that all processes hold whole, as this one's share: one part of the value, all of its own gradient."""
    return loss - loss.detach() * (1 - 1 / world_size())
