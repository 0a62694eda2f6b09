"""Images for timing prediction: synthetic scenes, as label maps of noise have unrealistically many borders.

Legend: B batch, C channels, H W pixels.
"""

import numpy as np
import torch
from torch import Tensor

from pyramidseg.backends import ModelBackend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.demo.scenes import SMALLEST_PX, draw_scene

DISTINCT = 8
"""Number of different scenes; a larger batch repeats them."""


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
