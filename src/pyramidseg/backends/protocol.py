"""What a backend is: whatever turns a batch of images into logits; prediction and evaluation need only this.

Legend: B batch, C channels, H W pixels, K classes, h w cells of the finest stride.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, Literal, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.device import memory_explained

RunPrecision = Literal["auto", "fp32", "bf16"]
"""In what a runtime multiplies; `auto` is fp32, and for an exported file what it was exported and checked in.

bf16 is never taken unasked, however fast it is: it moves labels where classes are close, and the headline figures of
DESIGN section 5 are those of the model as it was trained."""

SMALLER = "use smaller images or batches, or device=cpu"


@dataclass(frozen=True)
class LogitGeometry:
    """How coarse logits lie over the pixels: all that it takes to go from one to the other.

    Attributes:
        stride: pixels to a cell, in both directions.
        align_corners: whether the outermost cells' centres are the outermost pixels' (else the cells' edges are).
    """

    stride: int
    align_corners: bool

    def upsample(self, coarse_logits: Tensor, height: int, width: int) -> Tensor:
        """(B, K, h, w) of the padded image to (B, K, height, width): bilinear, cropped; as `Segmenter.upsample`."""
        cells = coarse_logits.shape[-2:]
        if self.stride > 1:
            size = (cells[0] * self.stride, cells[1] * self.stride)
            coarse_logits = F.interpolate(coarse_logits, size=size, mode="bilinear", align_corners=self.align_corners)
        return coarse_logits[..., :height, :width]


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

    @property
    def geometry(self) -> LogitGeometry:
        """How `coarse_logits` lie over the image."""
        ...

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any dtype that `Segmenter` takes to logits before the last upsampling, without gradient.

        Returns:
            (B, K, h, w) float32 of the padded image, with h and w at least H and W over `geometry.stride`.
        """
        ...

    def __call__(self, images: Tensor) -> Tensor:
        """`geometry.upsample` of `coarse_logits`: (B, K, H, W) float32."""
        ...


class ModelBackend(ABC):
    """A `Backend` of one of our models: what `make_backend` gives, whichever the runtime.

    Attributes:
        settings: of the network.
        precision: in what it multiplies: `fp32`, `fp16` or `bf16`.
        device: where its logits lie.
        computing_device: what computes them, as torch names it; None where it is none of torch's.
        place: the same in words.
        note: what else is to be said of how it runs; empty if nothing.
    """

    name: ClassVar[str]

    def __init__(
        self,
        *,
        classes: Classes,
        settings: ModelConfig,
        precision: str,
        device: torch.device,
        computing_device: torch.device | None,
        place: str,
        note: str = "",
    ) -> None:
        self.classes = classes
        self.settings = settings
        self.in_channels = settings.in_channels
        self.geometry = LogitGeometry(settings.finest_stride, settings.align_corners)
        self.precision = precision
        self.device = device
        self.computing_device = computing_device
        self.place = place
        self.note = note

    @abstractmethod
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32 on `device`."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W) float32 on `device`."""
        coarse = self.coarse_logits(images)
        with memory_explained(SMALLER):
            return self.geometry.upsample(coarse, *images.shape[-2:])

    def __str__(self) -> str:
        return f"{self.name} {self.precision} on {self.place}" + (f": {self.note}" if self.note else "")
