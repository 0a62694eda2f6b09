"""Latency of an encoder beside that of ResNet-18, alternating in one process: the ratio outlives a noisy machine."""

import statistics
import time
from dataclasses import dataclass

import torch
from torch import Tensor

from pyramidseg.base.device import channels_last
from pyramidseg.model.encoder import Encoder

REFERENCE = "resnet18"

ROUNDS = 9

ENOUGH_SECONDS = 5.0
"""No further round is begun after this, once there are three."""


@dataclass(frozen=True)
class Latency:
    """Of one image in float32, channels last, on the CPU.

    Attributes:
        median_ms: of the encoder.
        ratio: median over the rounds of the encoder's time by the reference's just before.
    """

    median_ms: float
    ratio: float


@torch.inference_mode()
def measure_latency(name: str, side_px: int) -> Latency:
    """Both encoders in turn on one image of `side_px` squared, after one round that does not count."""
    image = torch.rand(1, 3, side_px, side_px).to(memory_format=torch.channels_last)
    reference, encoder = (channels_last(Encoder(network, weights="none").eval()) for network in (REFERENCE, name))
    rounds: list[tuple[float, float]] = []
    began = time.perf_counter()
    for count in range(1 + ROUNDS):
        rounds.append((_milliseconds(reference, image), _milliseconds(encoder, image)))
        if count >= 3 and time.perf_counter() - began > ENOUGH_SECONDS:
            break
    counted = rounds[1:]
    return Latency(
        median_ms=statistics.median(own for _, own in counted),
        ratio=statistics.median(own / reference for reference, own in counted),
    )


def _milliseconds(encoder: Encoder, image: Tensor) -> float:
    began = time.perf_counter()
    encoder(image)
    return 1000 * (time.perf_counter() - began)
