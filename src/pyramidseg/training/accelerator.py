"""Device and precision of a run, the gradients of one step, and the guard against values that are not finite."""

import math
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from pyramidseg.base.config import Config
from pyramidseg.base.device import Precision, autocast, choose_device, resolve_precision
from pyramidseg.base.distributed import rank, sum_over_ranks, world_size
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.seeds import position_seed
from pyramidseg.data.loading import Batch
from pyramidseg.training.grouped_convolutions import fast_grouped_gradients


@dataclass(frozen=True)
class Accelerator:
    """Device, precision and seed of a run."""

    device: torch.device
    precision: Precision
    seed: int

    @classmethod
    def from_config(cls, config: Config) -> "Accelerator":
        """The accelerator that the settings ask for.

        Raises:
            DeviceError: the device does not exist on this machine.
            ConfigError: CUDA graphs are requested on another device than a CUDA GPU.
        """
        device = choose_device(config.train.device)
        if config.train.compile == "cuda_graphs" and device.type != "cuda":
            raise ConfigError(f"train.compile=cuda_graphs: needs a CUDA GPU, but the device is {device}; use default")
        if config.train.deterministic:
            torch.use_deterministic_algorithms(True)
        return cls(device, resolve_precision(config.train.precision, device), config.train.seed)

    @property
    def dtype(self) -> torch.dtype:
        """Type of parameters and losses: float64 for `fp64`, otherwise float32 (bfloat16 is too coarse for a loss)."""
        return torch.float64 if self.precision == "fp64" else torch.float32

    def forward_backward(
        self,
        module: nn.Module,
        batches: Sequence[Batch],
        number: int,
        *,
        loss: Callable[[int, Any], Tensor],
        loss_scale: float = 1.0,
    ) -> Tensor:
        """Add up the gradients of all micro-batches; they are equal on all processes.

        Args:
            module: possibly inside DistributedDataParallel.
            number: the step's number in the run, which seeds dropout.
            loss: this process's share of the step's loss, from the index of a micro-batch and the module's output.
            loss_scale: factor of the loss in the backward pass, a power of two, which keeps small gradients above 0 in
                float16; the gradients are divided by it.

        Returns:
            This process's share of the step's loss.
        """
        share = torch.zeros((), device=self.device, dtype=self.dtype)
        for index, batch in enumerate(batches):
            torch.manual_seed(position_seed("step", self.seed, number, index, rank()))
            is_last = index == len(batches) - 1
            with module.no_sync() if isinstance(module, DistributedDataParallel) and not is_last else nullcontext():
                with autocast(self.precision, self.device), fast_grouped_gradients(self.precision, self.device):
                    output = module(batch.images.to(self.device, non_blocking=True))
                part = loss(index, output)
                # DistributedDataParallel averages gradients, and the shares need their sum.
                torch.autograd.backward(part * (world_size() * loss_scale))
            share += part.detach()
        if loss_scale != 1:
            gradients = [parameter.grad for parameter in module.parameters() if parameter.grad is not None]
            torch._foreach_div_(gradients, loss_scale)
        return share

    def labels(self, labels: Tensor) -> Tensor:
        """Labels on the device as int64; converted there, because uint8 is an eighth of the transfer."""
        return labels.to(self.device, non_blocking=True).long()


class StatisticsGuard:
    """Copy of a model's buffers (BatchNorm's running statistics), to restore them after a step that is not finite.

    A variance can overflow where the loss does not.
    """

    def __init__(self, model: nn.Module) -> None:
        self._buffers = [buffer for buffer in model.buffers() if buffer.numel()]
        self._copies = [buffer.clone() for buffer in self._buffers]

    @torch.no_grad()
    def store(self) -> None:
        """Copy the current values."""
        torch._foreach_copy_(self._copies, self._buffers)

    def norm(self) -> Tensor:
        """L2 norm of all current values; not finite if any of them is not."""
        return torch.nn.utils.get_total_norm([buffer for buffer in self._buffers if buffer.is_floating_point()])

    @torch.no_grad()
    def restore(self) -> None:
        """Write the copied values back."""
        torch._foreach_copy_(self._buffers, self._copies)


class ReducedStep(NamedTuple):
    """What all processes know of a step: its loss, whether all of its values are finite, and what follows it.

    Attributes:
        stops: a process was asked to stop.
        saves: a process has a checkpoint due.
    """

    loss: float
    is_finite: bool
    stops: bool
    saves: bool


def all_reduce_step(loss_share: Tensor, norm: Tensor, *, stop: bool, save: bool) -> ReducedStep:
    """Add up the processes' values after a step's gradients, with one exchange and one wait for the GPU per step.

    Args:
        norm: of gradients and statistics; not finite if any of them is not.
    """
    values = torch.stack([loss_share, norm.to(loss_share), loss_share.new_tensor(stop), loss_share.new_tensor(save)])
    loss, norms, stops, saves = sum_over_ranks(values).tolist()
    return ReducedStep(loss, math.isfinite(loss) and math.isfinite(norms), bool(stops), bool(saves))


def gradient_norm(model: nn.Module) -> Tensor:
    """L2 norm of all gradients together; not finite if any of them is not."""
    gradients = [parameter.grad for parameter in model.parameters() if parameter.grad is not None]
    return torch.nn.utils.get_total_norm(gradients)
