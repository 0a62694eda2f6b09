"""One optimiser step: forward and backward over its micro-batches, then a finite check, then the update.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.config import LossConfig
from pyramidseg.data.loading import Batch
from pyramidseg.evaluation.confusion import confusion_matrix
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.runtime import autocast, position_seed, rank, sum_over_ranks, world_size
from pyramidseg.training.losses import SMALLEST, Targets, labelled_weight, presence_loss, segmentation_loss


class TrainingModel(nn.Module):
    """The Segmenter as it is trained: logits, and those of the image-level head where it has one.

    One `forward` for both, because DistributedDataParallel sees only what goes through `forward`.
    """

    def __init__(self, segmenter: Segmenter) -> None:
        super().__init__()
        self.segmenter = segmenter

    def forward(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor | None]:
        """(B, C, H, W) to logits (B, K, H, W) and image-level logits (B, K) or None."""
        if self.segmenter.head is None:
            return self.segmenter(image_BCHW), None
        return self.segmenter.logits_with_image_logits(image_BCHW)


@dataclass(frozen=True)
class Step:
    """What a step needs besides its batches.

    Attributes:
        class_weights: (K,) on the device.
    """

    device: torch.device
    precision: Literal["fp32", "bf16", "fp64"]
    loss: LossConfig
    class_weights: Tensor
    seed: int

    def gradients(self, model: nn.Module, batches: Sequence[Batch], number: int) -> tuple[Tensor, Tensor]:
        """Leave the gradients of the step's loss in `model`, equal on all processes.

        Args:
            model: a `TrainingModel`, possibly inside DistributedDataParallel.
            number: the step's number in the run, from which dropout's randomness follows.

        Returns:
            This process's share of the loss (the shares add up to it), and its confusion (K, K) int64.
        """
        labels = [batch.labels.to(self.device, torch.int64, non_blocking=True) for batch in batches]
        totals = torch.stack(
            [
                *(labelled_weight(part, self.class_weights) for part in labels),
                torch.tensor(sum(map(len, labels)), device=self.device),
            ]
        )
        totals = sum_over_ranks(totals)
        weight_total, images_total = totals[:-1].sum().clamp_min(SMALLEST), int(totals[-1])
        share = torch.zeros((), device=self.device, dtype=self.class_weights.dtype)
        confusion = torch.zeros(len(self.class_weights), len(self.class_weights), dtype=torch.int64, device=self.device)
        for index, (batch, truth) in enumerate(zip(batches, labels, strict=True)):
            targets = Targets(truth, self.class_weights, weight_total, len(batches), self.loss.focal_gamma)
            torch.manual_seed(position_seed("step", self.seed, number, index, rank()))
            last = index == len(batches) - 1
            with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
                with autocast(self.precision, self.device):
                    logits, image_logits = model(batch.images.to(self.device, non_blocking=True))
                logits = _widened(logits)
                part = segmentation_loss(logits, targets, self.loss)
                if image_logits is not None:
                    part = part + self.loss.presence * presence_loss(
                        _widened(image_logits), truth, images_total=images_total
                    )
                # DistributedDataParallel averages gradients; the shares want their sum.
                torch.autograd.backward(part * world_size())
            share += part.detach()
            confusion += confusion_matrix(logits.detach().argmax(dim=1), truth, len(self.class_weights))
        return share, confusion


class StatisticsGuard:
    """Keeps the model's buffers (BatchNorm's statistics) from before a step, to undo a step that was not finite."""

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the present values."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            kept.copy_(buffer)

    @torch.no_grad()
    def undo(self) -> None:
        """Put the remembered values back."""
        for kept, buffer in zip(self._kept, self._buffers, strict=True):
            buffer.copy_(kept)


def gradient_norm(model: nn.Module) -> Tensor:
    """L2 norm of all gradients together; not finite if any of them is not."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(model: nn.Module, norm: Tensor, limit: float) -> None:
    """Scale gradients so that their norm is at most `limit`; 0 switches clipping off."""
    if limit:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)


def _widened(logits: Tensor) -> Tensor:
    return logits if logits.dtype == torch.float64 else logits.float()
