"""Convolution roofline: the rate that a machine reaches with convolutions alone, an upper limit for networks."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.timing import alternate

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
"""On a GPU, torch computes fp32 convolutions in TF32 by default, as it does for the models."""


@dataclass(frozen=True)
class Convolution:
    """A convolution with equal numbers of input and output channels, stride 1 and padding that keeps the size."""

    batch: int
    channels: int
    side_px: int
    kernel: int

    @property
    def flop(self) -> int:
        """Operations: two per multiply-accumulate, as in `model.cost`."""
        return 2 * self.batch * self.channels**2 * self.kernel**2 * self.side_px**2


ON_CPU = (Convolution(2, 128, 64, 3), Convolution(2, 256, 64, 3), Convolution(2, 256, 128, 1))
ON_GPU = (Convolution(64, 256, 64, 3), Convolution(64, 512, 64, 3), Convolution(64, 512, 64, 1))
"""Typical layers of networks, large enough for the device; the fastest one is the roofline."""


@dataclass(frozen=True)
class Roofline:
    """Rate of a machine's convolutions.

    Attributes:
        flop_per_second: by precision; bf16 unless the device only emulates it, then fp16 on a CUDA GPU.
    """

    flop_per_second: Mapping[str, float]

    def floor_seconds(self, macs: int, precision: str) -> float | None:
        """Least time for this many multiply-accumulates; None for a precision that was not measured."""
        rate = self.flop_per_second.get(precision)
        return None if rate is None else 2 * macs / rate

    def share(self, macs: int, precision: str, seconds: float) -> float | None:
        """Floor divided by the measured time: 1 is as fast as convolution alone."""
        floor = self.floor_seconds(macs, precision)
        return None if floor is None else floor / seconds

    def __str__(self) -> str:
        rates = " and ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in self.flop_per_second.items())
        return f"convolution alone reaches {rates}"


def measure_roofline(
    device: torch.device, *, rounds: int = 9, layers: tuple[Convolution, ...] | None = None
) -> Roofline:
    """Time the layers in alternating rounds in each native precision of the device; uses the median of the best layer.

    Args:
        layers: by default `ON_CPU` or `ON_GPU`.
    """
    layers = layers or (ON_CPU if device.type == "cpu" else ON_GPU)
    half = "bf16" if has_fast_bf16(device) else "fp16" if device.type == "cuda" else None
    precisions = ["fp32", *([half] if half else [])]
    calls = {
        (precision, layer): _call(layer, DTYPES[precision], device) for precision in precisions for layer in layers
    }
    rates: dict[str, float] = {}
    for (precision, layer), timing in alternate(calls, rounds=rounds, device=device).items():
        rates[precision] = max(rates.get(precision, 0.0), layer.flop / timing.median)
    return Roofline(rates)


@torch.inference_mode()
def _call(layer: Convolution, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    shapes = (
        (layer.batch, layer.channels, layer.side_px, layer.side_px),
        (layer.channels, layer.channels, layer.kernel, layer.kernel),
    )
    maps, weight = (
        (torch.rand(shape, device=device) - 0.5).to(dtype, memory_format=torch.channels_last) for shape in shapes
    )
    return torch.inference_mode()(partial(F.conv2d, maps, weight, padding=layer.kernel // 2))
