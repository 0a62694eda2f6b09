"""PyTorch itself as a backend, eager or compiled.

Legend: B batch, C channels, H W pixels, K classes, h w cells of the finest stride.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT, ModelBackend, RunPrecision
from pyramidseg.base.device import channels_last, choose_device, loading_without_threads, out_of_memory_explained
from pyramidseg.base.errors import ConfigError
from pyramidseg.base.text import first_line
from pyramidseg.model.bundle import KIND, ground_resolution_of
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import CHECKSUM, read_metadata

SAMPLE_PX = (513, 546)
"""Height and width of the images that a network is compiled on. They differ and need padding, which is the general
case; the size is typical, because on a CPU torch selects other convolutions for small images."""

SAMPLE_BATCHES = (2, 1)
"""torch.compile specialises a batch of one, even with dynamic shapes, so that both cases are compiled."""


class TorchBackend(ModelBackend):
    """PyTorch, eager, with norms folded into convolutions and channels-last memory.

    A `Segmenter` is copied, and neither moved nor changed.

    Args:
        precision: `bf16` for encoder, decoder and classifier; logits are upsampled in float32. Fast on
            processors with native bf16 (`base.device.has_fast_bf16`).
        as_written: compute every layer of the decoder, instead of fewer operations with equal results
            (`model.reassociation`); always so on a GPU, where the other way has not been measured.

    Raises:
        WeightsError: the file is not a readable bundle.
        DeviceError: this machine does not have the device.
    """

    name = "torch"

    def __init__(
        self,
        model: Segmenter | str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        as_written: bool = False,
    ) -> None:
        place = choose_device(device) if isinstance(device, str) else device
        segmenter = model if isinstance(model, Segmenter) else Segmenter.load(model)
        bundle = {} if isinstance(model, Segmenter) else read_metadata(Path(model), kind=KIND)
        super().__init__(
            classes=segmenter.classes,
            settings=segmenter.settings,
            precision="bf16" if precision == "bf16" else "fp32",
            device=place,
            place=str(place),
            value_range=segmenter.value_range,
            resolution_m=ground_resolution_of(bundle),
            checksum=bundle.get(CHECKSUM),
        )
        with loading_without_threads(), out_of_memory_explained(REDUCE_MEMORY_HINT):
            dtype = torch.bfloat16 if precision == "bf16" else None
            copy = inference_copy(segmenter, dtype=dtype, as_written=as_written or place.type != "cpu")
            self.model: Segmenter = channels_last(copy.to(place))
        self._network: Callable[[Tensor], Tensor] = partial(logits_of_padded, self.model)
        self.prepare()

    def prepare(self) -> None:
        """What else a subclass does with the loaded network."""

    @torch.inference_mode()
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32 on the backend's device."""
        self.continue_after_fork()
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            normalised = self.model.normalize(images.to(self.device, non_blocking=True))
            return self._network(self.model.pad(normalised)).float()


class CompiledTorchBackend(TorchBackend):
    """PyTorch with `torch.compile`, for images of any size; worth its start-up time for many images on a GPU.

    The constructor compiles for batches and for single images, which takes a minute or two. torch compiles again for
    images with a side of at most the coarsest stride and, on a CPU, for some other sizes, since the size selects the
    convolution.

    Raises:
        ConfigError: compiling fails, because there is no compiler or an operation is not supported.
    """

    name = "torch-compiled"

    def prepare(self) -> None:
        """Compile the network."""
        compiled = torch.compile(self._network, dynamic=True)
        # A program is compiled for each layout in memory: all images get that of decoded files.
        self._network = lambda image_BCHW: compiled(image_BCHW.contiguous(memory_format=torch.channels_last))
        try:
            for batch in SAMPLE_BATCHES:
                sample_BHWC = torch.zeros(batch, *SAMPLE_PX, self.in_channels, dtype=torch.uint8)
                self.coarse_logits(sample_BHWC.permute(0, 3, 1, 2))
        except Exception as error:  # the compiler, its tools and the driver raise many types
            raise ConfigError(
                f"`backend={self.name}`: torch.compile failed ({first_line(error)}); choose `backend='torch'`"
            ) from error

    def reopen(self) -> None:
        """Run eager: the compiled program starts threads, whatever their number in torch."""
        self._network = partial(logits_of_padded, self.model)
