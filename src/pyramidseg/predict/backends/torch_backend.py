"""PyTorch itself as a backend, eager or compiled."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.backends.protocol import SMALLER, ModelBackend, RunPrecision
from pyramidseg.runtime import choose_device, memory_explained


class TorchBackend(ModelBackend):
    """PyTorch, eager: norms folded into convolutions, channels last.

    A `Segmenter` that is handed in is copied as it is now, and neither moved nor changed.

    Args:
        precision: `bf16` for encoder, decoder and classifier; logits are upsampled in float32. Fast where the
            processor multiplies in it natively (`runtime.has_fast_bf16`).

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
        precision: RunPrecision = "auto",
    ) -> None:
        place = choose_device(device) if isinstance(device, str) else device
        segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
        super().__init__(
            classes=segmenter.classes,
            settings=segmenter.settings,
            precision="bf16" if precision == "bf16" else "fp32",
            device=place,
            place=str(place),
        )
        with memory_explained(SMALLER):
            copy = inference_copy(segmenter, dtype=torch.bfloat16 if precision == "bf16" else None)
            self.model: Segmenter = copy.to(place).to(memory_format=torch.channels_last)
        self._network: Callable[[Tensor], Tensor] = partial(logits_of_padded, self.model)

    @torch.inference_mode()
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32 on the backend's device."""
        with memory_explained(SMALLER):
            normalised = self.model.normalize(images.to(self.device, non_blocking=True))
            return self._network(self.model.pad(normalised)).float()


class CompiledTorchBackend(TorchBackend):
    """PyTorch compiled for this machine (`torch.compile`), for images of any size: worth it for many images on a GPU.

    Compiling takes about a minute, at once and not at the first image. Where it fails, for want of a compiler or of
    support for an operation, the model runs eager, and `note` says why.
    """

    name = "torch-compiled"

    def __init__(
        self,
        model: Segmenter | str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
    ) -> None:
        super().__init__(model, device=device, precision=precision)
        eager = self._network
        self._network = torch.compile(eager, dynamic=True)
        stride = self.settings.coarsest_stride
        # Sides that differ and are not multiples of the stride: the general case, which later images are instances of.
        sample = torch.zeros(2, self.in_channels, 4 * stride + 1, 5 * stride + 2, dtype=torch.uint8)
        try:
            self.coarse_logits(sample)
        except Exception as error:  # the compiler, its tools and the GPU's driver raise their own kinds
            self._network = eager
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self.note = f"eager, as torch.compile failed ({reason})"
