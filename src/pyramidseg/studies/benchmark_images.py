"""Timing of prediction on synthetic scenes, as label maps of noise have unrealistically many borders.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Mapping
from functools import partial

import numpy as np
import torch
from torch import Tensor

from pyramidseg.backends import ModelBackend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.base.timing import Name, Timing, alternate
from pyramidseg.demo.scenes import SMALLEST_PX, draw_scene
from pyramidseg.predict.segmentation import predict_labels

DISTINCT = 8
"""Number of different scenes; a larger batch repeats them."""


def time_predictions(
    backends: Mapping[Name, ModelBackend],
    device: torch.device,
    *,
    batch: int = 1,
    height: int,
    width: int,
    rounds: int = 15,
    warmup: int = 3,
) -> dict[Name, Timing]:
    """Timings from images in memory to label maps; see `alternate`."""
    numbers = {backend.in_channels for backend in backends.values()}
    images = {number: scene_images(batch, channels=number, height=height, width=width) for number in numbers}
    calls = {
        name: partial(predict_labels, backend, to_input_dtype(images[backend.in_channels], backend))
        for name, backend in backends.items()
    }
    return alternate(calls, rounds=rounds, warmup=warmup, device=device)


def scene_images(batch: int, *, channels: int, height: int, width: int) -> Tensor:
    """(B, C, H, W) uint8 street scenes; with other numbers of channels, red, green and blue repeat."""
    large = max(height, SMALLEST_PX), max(width, SMALLEST_PX)
    drawn = [draw_scene(index, height=large[0], width=large[1]).image for index in range(min(batch, DISTINCT))]
    scenes_BHWC = np.stack([drawn[index % DISTINCT] for index in range(batch)])[:, :height, :width]
    order = np.resize(np.arange(3), channels)
    return torch.from_numpy(scenes_BHWC[..., order]).permute(0, 3, 1, 2).contiguous()


def to_input_dtype(images: Tensor, backend: ModelBackend) -> Tensor:
    """uint8 images as a backend accepts them: as uint16 of the same brightness if its file is for uint16 images."""
    if isinstance(backend, ExportedBackend) and backend.metadata.input_dtype == "uint16":
        return (images.int() * 257).to(torch.uint16)
    return images
