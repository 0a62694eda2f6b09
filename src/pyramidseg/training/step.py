"""One optimiser step: forward and backward over its micro-batches, and its guard against values that are not finite.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.base.device import Precision, autocast, position_seed, rank, world_size
from pyramidseg.data.loading import Batch


@dataclass(frozen=True)
class Step:
    """What a step needs besides its batches and its loss."""

    device: torch.device
    precision: Precision
    seed: int

    @property
    def dtype(self) -> torch.dtype:
        """Of losses and of the logits that they are computed from."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def backward(
        self, model: nn.Module, batches: Sequence[Batch], number: int, *, loss: Callable[[int, Any], Tensor]
    ) -> Tensor:
        """Add up the gradients of all micro-batches in `model`, equal on all processes.

        Args:
            model: possibly inside DistributedDataParallel.
            number: the step's number in the run, from which dropout's randomness follows.
            loss: this process's share of the step's loss from a micro-batch's index and the model's output.

        Returns:
            This process's share of the step's loss.
        """
        share = torch.zeros((), device=self.device, dtype=self.dtype)
        for index, batch in enumerate(batches):
            torch.manual_seed(position_seed("step", self.seed, number, index, rank()))
            last = index == len(batches) - 1
            with model.no_sync() if isinstance(model, DistributedDataParallel) and not last else nullcontext():
                with autocast(self.precision, self.device):
                    output = model(batch.images.to(self.device, non_blocking=True))
                part = loss(index, output)
                # DistributedDataParallel averages gradients; the shares want their sum.
                torch.autograd.backward(part * world_size())
            share += part.detach()
        return share

    def widened(self, logits: Tensor) -> Tensor:
        """Logits in the dtype of losses: bfloat16 is too coarse for them."""
        return logits.to(self.dtype)

    def to_device(self, labels: Tensor) -> Tensor:
        """Labels as losses take them: int64, on the device."""
        return labels.to(self.device, non_blocking=True).long()  # a byte a pixel crosses over, and not eight


class StatisticsGuard:
    """Keeps the model's buffers (BatchNorm's statistics) from before a step, to undo a step that was not finite.

    A variance can overflow where the loss does not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._kept = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def keep(self) -> None:
        """Remember the present values."""
        torch._foreach_copy_(self._kept, self._buffers)

    def norm(self) -> Tensor:
        """L2 norm of the present values together; not finite if any of them is not."""
        return torch.nn.utils.get_total_norm([buffer for buffer in self._buffers if buffer.is_floating_point()])

    @torch.no_grad()
    def undo(self) -> None:
        """Put the remembered values back."""
        torch._foreach_copy_(self._buffers, self._kept)


def gradient_norm(model: nn.Module) -> Tensor:
    """L2 norm of all gradients together; not finite if any of them is not."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)


def clip_gradients(model: nn.Module, norm: Tensor, limit: float) -> None:
    """Scale gradients so that their norm is at most `limit`; 0 switches clipping off."""
    if limit:
        torch.nn.utils.clip_grads_with_norm_(model.parameters(), limit, norm)
