"""PyTorch itself as a backend, eager or compiled.

Legend: B batch, C channels, H W pixels, K classes, h w cells of the finest stride.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.backends.protocol import SMALLER, ModelBackend, RunPrecision
from pyramidseg.base.device import channels_last, choose_device, memory_explained
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter

SAMPLE_PX = (513, 546)
"""Height and width of the images that a network is compiled on: they differ and need padding, the general case, which
others are instances of. As large as images usually are: on a CPU torch has other convolutions for small ones."""

SAMPLE_BATCHES = (2, 1)
"""Of a single image torch makes a program of its own, whatever is said of sizes that vary."""


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
        self, model: Segmenter | str | Path, *, device: str | torch.device = "auto", precision: RunPrecision = "auto"
    ) -> None:
        place = choose_device(device) if isinstance(device, str) else device
        segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
        super().__init__(
            classes=segmenter.classes,
            settings=segmenter.settings,
            precision="bf16" if precision == "bf16" else "fp32",
            device=place,
            computing_device=place,
            place=str(place),
        )
        with memory_explained(SMALLER):
            copy = inference_copy(segmenter, dtype=torch.bfloat16 if precision == "bf16" else None)
            self.model: Segmenter = channels_last(copy.to(place))
        self._network: Callable[[Tensor], Tensor] = partial(logits_of_padded, self.model)

    @torch.inference_mode()
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32 on the backend's device."""
        with memory_explained(SMALLER):
            normalised = self.model.normalize(images.to(self.device, non_blocking=True))
            return self._network(self.model.pad(normalised)).float()


class CompiledTorchBackend(TorchBackend):
    """PyTorch compiled for this machine (`torch.compile`), for images of any size: worth it for many images on a GPU.

    Compiling takes a minute or two, at once and not at the first image: for batches and for single images. For an image
    with a side of at most the coarsest stride torch compiles when it comes; on a CPU, where the size decides which
    convolution it takes, also for some others. Where compiling fails, for want of a compiler or of support for an
    operation, the model runs eager, and `note` says why.
    """

    name = "torch-compiled"

    def __init__(
        self, model: Segmenter | str | Path, *, device: str | torch.device = "auto", precision: RunPrecision = "auto"
    ) -> None:
        super().__init__(model, device=device, precision=precision)
        eager = self._network
        self._network = _in_one_layout(torch.compile(eager, dynamic=True))
        try:
            for batch in SAMPLE_BATCHES:
                sample_BHWC = torch.zeros(batch, *SAMPLE_PX, self.in_channels, dtype=torch.uint8)
                self.coarse_logits(sample_BHWC.permute(0, 3, 1, 2))  # as files give them: one channel lies either way
        except Exception as error:  # the compiler, its tools and the GPU's driver raise their own kinds
            self._network = eager
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            self.note = f"eager, as torch.compile failed ({reason})"


def _in_one_layout(network: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
    """A network that gets all images channels last, as those of files are: of each layout torch makes a program."""

    def run(image_BCHW: Tensor) -> Tensor:
        return network(image_BCHW.contiguous(memory_format=torch.channels_last))

    return run
