"""The convolution roofline: how fast a machine convolves when nothing else is in the way.

A model's *floor* is the time that its own convolutions would take at that rate, and its share of the floor is how near
it comes: what is missing went on norms, upsampling, memory, and layers too small to keep the machine busy. (Williams,
Waterman & Patterson 2009, "Roofline", of which this is the flat part.)
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.benchmark.timing import alternate
from pyramidseg.runtime import has_fast_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""On a GPU fp32 is what torch's convolutions make of it by default, TF32, as it is for the models."""


@dataclass(frozen=True)
class Convolution:
    """A layer with as many channels in as out, stride 1 and maps that keep their size."""

    batch: int
    channels: int
    side_px: int
    kernel: int

    @property
    def flop(self) -> int:
        """Operations: two for each multiply-accumulate, as `model.cost` counts them."""
        return 2 * self.batch * self.channels**2 * self.kernel**2 * self.side_px**2


ON_CPU = (Convolution(2, 128, 64, 3), Convolution(2, 256, 64, 3), Convolution(2, 256, 128, 1))
ON_GPU = (Convolution(64, 256, 64, 3), Convolution(64, 512, 64, 3), Convolution(64, 512, 64, 1))
"""Layers as networks have them, large enough for the device; the fastest one is the roofline."""


@dataclass(frozen=True)
class Roofline:
    """What a machine's convolutions reach.

    Attributes:
        flop_per_second: by precision; without bf16 where the device would only emulate it.
    """

    flop_per_second: Mapping[str, float]

    def floor_seconds(self, macs: int, precision: str) -> float | None:
        """The least time for so many multiply-accumulates; None for a precision that was not measured."""
        rate = self.flop_per_second.get(precision)
        return None if rate is None else 2 * macs / rate

    def share(self, macs: int, precision: str, seconds: float) -> float | None:
        """The floor as a share of the time that was taken: 1 is as fast as convolution alone."""
        floor = self.floor_seconds(macs, precision)
        return None if floor is None else floor / seconds

    def __str__(self) -> str:
        rates = " and ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in self.flop_per_second.items())
        return f"convolution alone reaches {rates}"

    def to_dict(self) -> dict[str, float]:
        """GFLOP/s by precision."""
        return {name: round(rate / 1e9, 1) for name, rate in self.flop_per_second.items()}


def measure_roofline(
    device: torch.device, *, rounds: int = 9, layers: tuple[Convolution, ...] | None = None
) -> Roofline:
    """Time the layers in turn, in each precision that the device multiplies in; medians, and the best layer's counts.

    Args:
        layers: by default `ON_CPU` or `ON_GPU`.
    """
    layers = layers or (ON_CPU if device.type == "cpu" else ON_GPU)
    precisions = ["fp32", *(["bf16"] if has_fast_bf16(device) else [])]
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
    return partial(_convolve, maps, weight)


@torch.inference_mode()
def _convolve(maps: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(maps, weight, padding=weight.shape[-1] // 2)
