"""Test-time augmentation: the mean prediction over an image and its mirror image at several scales."""

import math
from collections.abc import Iterator
from functools import reduce

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.backends import Backend, LogitGeometry

SCALES = (0.75, 1.0, 1.25)


class TestTimeAugmentation:
    """A `Backend` that averages the probabilities of another one over scales and horizontal flips.

    Its logits are the logarithms of those probabilities, at the size of the input.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.name = f"{backend.name} with test-time augmentation"
        self.classes = backend.classes
        self.in_channels = backend.in_channels
        self.geometry = LogitGeometry(stride=1, align_corners=False)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """Full-size log probabilities: views at several scales can be averaged only at the size of the image."""
        return self(images)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to log probabilities (B, K, H, W) float32."""
        # Summed as logarithms: float32 probabilities of confident models underflow to 0, whose logarithm is -inf.
        total = reduce(torch.logaddexp, self._log_probabilities(images))
        return total - math.log(2 * len(SCALES))

    def _log_probabilities(self, images: Tensor) -> Iterator[Tensor]:
        """Log probabilities of each view, resized and flipped back to the input."""
        height, width = images.shape[-2:]
        for scale in SCALES:
            view = resize_images(images, max(1, round(height * scale)), max(1, round(width * scale)))
            yield F.log_softmax(resize_logits(self.backend(view), height, width), dim=1)
            mirrored = self.backend(view.flip(-1)).flip(-1)
            yield F.log_softmax(resize_logits(mirrored, height, width), dim=1)

    def __str__(self) -> str:
        return f"{self.backend}, scales {', '.join(map(str, SCALES))} and flipped"


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Resize images (B, C, H, W); returns the same tensor if it has that size already.

    Integers are rounded and keep their type, as exported files accept one type only. Antialiased bilinear values are
    means, so they stay in the range of the type.
    """
    if images.shape[-2:] == (height, width):
        return images
    resized = F.interpolate(images.float(), size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized if images.is_floating_point() else resized.round_().to(images.dtype)


def resize_logits(logits: Tensor, height: int, width: int) -> Tensor:
    """Resize logits (B, K, h, w) bilinearly; returns the same tensor if it has that size already."""
    if logits.shape[-2:] == (height, width):
        return logits
    return F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
