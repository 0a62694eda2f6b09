"""The interface of all backends: a batch of images in, coarse logits out. Prediction and evaluation need only this.

Legend: B batch, C channels, H W pixels, K classes, h w cells of the finest stride.
"""

import ctypes
import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cache
from typing import Any, ClassVar, Literal, Protocol
from weakref import WeakSet

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.device import out_of_memory_explained, use_one_thread_after_fork
from pyramidseg.base.errors import DeviceError
from pyramidseg.images.value_range import ValueRange

RunPrecision = Literal["auto", "fp32", "bf16", "int8"]
"""Precision of the multiplications. `auto` is fp32 or, for an exported file, the precision that it was checked in.

`auto` is never bf16, nor int8 for a bundle: they change labels where two classes have nearly equal logits, and reported
metrics are those of the model as it was trained."""

REDUCE_MEMORY_HINT = "use smaller images, batches (`batch_size=1`) or tiles (`tile_px=256`)"


@dataclass(frozen=True)
class LogitGeometry:
    """How the cells of coarse logits map to pixels of the image.

    Attributes:
        stride: pixels per cell, vertically and horizontally.
        align_corners: as in `torch.nn.functional.interpolate`.
    """

    stride: int
    align_corners: bool

    def upsample(self, coarse_logits: Tensor, height: int, width: int) -> Tensor:
        """(B, K, h, w) of the padded image to (B, K, height, width): bilinear, then cropped."""
        cells = coarse_logits.shape[-2:]
        if self.stride > 1:
            size = (cells[0] * self.stride, cells[1] * self.stride)
            coarse_logits = F.interpolate(coarse_logits, size=size, mode="bilinear", align_corners=self.align_corners)
        return coarse_logits[..., :height, :width]


_LOADED: "WeakSet[ModelBackend]" = WeakSet()


@cache
def _register_fork_handler() -> None:
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(after_in_child=_keep_threaded)


def _keep_threaded() -> None:
    """Never destroy, in a forked process, what has threads in its parent: it would wait for their end for ever."""
    for backend in list(_LOADED):
        for held in backend.threaded:
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(held))


class Backend(Protocol):
    """A model that is ready to predict. Its `str()` names runtime, precision and device."""

    @property
    def name(self) -> str:
        """Name of the runtime, a key of `BACKENDS`; wrappers add their own."""

    @property
    def classes(self) -> Classes:
        """The K classes."""

    @property
    def in_channels(self) -> int:
        """Channels that the images must have."""

    @property
    def geometry(self) -> LogitGeometry:
        """How the cells of `coarse_logits` map to pixels."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) of any dtype that `Segmenter` takes to logits before the last upsampling, without gradient.

        Returns:
            (B, K, h, w) float32 of the padded image, with h and w at least H and W over `geometry.stride`.
        """

    def __call__(self, images: Tensor) -> Tensor:
        """`geometry.upsample` of `coarse_logits`: (B, K, H, W) float32."""


@dataclass(kw_only=True, eq=False, repr=False)
class ModelBackend(ABC):
    """Base class of the backends that `make_backend` returns.

    Attributes:
        settings: of the network.
        precision: of the multiplications, `fp32`, `fp16`, `bf16` or `int8`.
        device: of the logits that it returns.
        compute_device: that computes the logits; None if torch has no name for it.
        place: name of that device, also for runtimes with devices of their own, such as `gpu.1`.
        threaded: objects of a runtime that has threads of its own.
        note: further information about how it runs, for `str()`; may be empty.
        value_range, resolution_m: of the model's training images, in metres per pixel; None if unknown.
        checksum: of the bundle, also of the one that an exported file was made from; None for a model in memory.
    """

    name: ClassVar[str]

    classes: Classes
    settings: ModelConfig
    precision: str
    device: torch.device
    place: str
    note: str = ""
    value_range: ValueRange | None = None
    resolution_m: float | None = None
    checksum: str | None = None

    def __post_init__(self) -> None:
        self.in_channels = self.settings.in_channels
        self.geometry = LogitGeometry(self.settings.finest_stride, self.settings.align_corners)
        named = self.place.partition(":")[0] in ("cpu", "cuda", "mps")
        self.compute_device = torch.device(self.place) if named else None
        self.threaded: tuple[object, ...] = ()
        self._loaded_here()

    def __setstate__(self, state: dict[str, Any]) -> None:
        """From a pickle, which this process loads."""
        self.__dict__.update(state)
        self._loaded_here()

    def _loaded_here(self) -> None:
        self._process = os.getpid()
        use_one_thread_after_fork()
        _register_fork_handler()
        _LOADED.add(self)

    def continue_after_fork(self) -> None:
        """Prepare a backend that was loaded before this process was forked; `coarse_logits` calls it.

        Raises:
            DeviceError: it runs on a GPU, which a forked process cannot use.
        """
        if self._process == os.getpid():
            return
        if self.place != "cpu":
            raise DeviceError(
                f"`device={self.place}`: the model was loaded before this process was forked, which only works on a "
                "CPU; load it in each process"
            )
        self._process = os.getpid()
        self.reopen()

    def reopen(self) -> None:  # noqa: B027 - most backends have nothing to do
        """Replace what has threads of its own, in a forked process; torch's are handled when the process is forked."""

    @abstractmethod
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) float32 on `device`."""

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, H, W) float32 on `device`."""
        coarse = self.coarse_logits(images)
        with out_of_memory_explained(REDUCE_MEMORY_HINT):
            return self.geometry.upsample(coarse, *images.shape[-2:])

    def __str__(self) -> str:
        return f"{self.name} {self.precision} on {self.place}" + (f": {self.note}" if self.note else "")
