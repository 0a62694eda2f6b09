"""Backends: whatever turns a batch of images into logits. Prediction, evaluation and the server need only this.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Literal, Protocol

import torch
from torch import Tensor

from pyramidseg.classes import Classes
from pyramidseg.errors import ConfigError, nearest
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.runtime import autocast, choose_device, memory_explained

SMALLER = "use smaller images or batches, or device=cpu"


class Backend(Protocol):
    """A model ready to predict, whatever runs it. `str()` of it says what runs where."""

    @property
    def name(self) -> str:
        """The key of `BACKENDS`, with what wraps it."""
        ...

    @property
    def classes(self) -> Classes:
        """What the K logits stand for."""
        ...

    @property
    def in_channels(self) -> int:
        """Channels that the images must have."""
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any dtype that `Segmenter` takes to logits (B, K, H, W) float32, without gradient."""
        ...


class TorchBackend:
    """PyTorch itself, eager, with channels-last convolutions.

    A `Segmenter` that is handed in is used, not copied: it moves to the device and into evaluation mode.

    Args:
        precision: `fp32`, `bf16` (convolutions only; logits are upsampled in float32), or `auto`, which is fp32 here.

    Raises:
        WeightsError: the file is no readable bundle.
        DeviceError: the device is not on this machine.
    """

    name = "torch"

    def __init__(
        self,
        model: Segmenter | str | Path,
        *,
        device: str | torch.device = "auto",
        precision: Literal["auto", "fp32", "bf16"] = "auto",
    ) -> None:
        self.device = choose_device(device) if isinstance(device, str) else device
        self.precision: Literal["fp32", "bf16"] = "bf16" if precision == "bf16" else "fp32"
        segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
        with memory_explained(SMALLER):
            self.model = segmenter.to(self.device).to(memory_format=torch.channels_last).eval()
        self.classes = self.model.classes
        self.in_channels = self.model.settings.in_channels

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        # A batch that passed through batch norm in training mode would spoil its statistics.
        assert not self.model.training, "the model of a TorchBackend was put back into training mode"
        with memory_explained(SMALLER):
            batch = images.to(self.device, non_blocking=True)
            with autocast(self.precision, self.device):
                coarse = self.model.coarse_logits(batch)
            logits: Tensor = self.model.upsample(coarse.float(), *images.shape[-2:])
            return logits

    def __str__(self) -> str:
        return f"torch {self.precision} on {self.device}"


BACKENDS: dict[str, Callable[..., Backend]] = {"torch": TorchBackend}
"""Backend by name; each takes the model and `device`."""


def make_backend(model: Segmenter | str | Path, name: str = "auto", *, device: str | torch.device = "auto") -> Backend:
    """The backend of a name; `auto` is torch.

    Raises:
        ConfigError: no backend has this name.
    """
    if name == "auto":
        name = "torch"
    if name not in BACKENDS:
        raise ConfigError(f"backend={name}: no such backend; {nearest(name, ['auto', *BACKENDS])}")
    return BACKENDS[name](model, device=device)
