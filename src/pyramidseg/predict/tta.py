"""Test-time augmentation: the mean of what a model says of an image, its mirror image, and both at several sizes."""

import math
from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.backends import Backend, LogitGeometry
from pyramidseg.base.errors import ConfigError


class TestTimeAugmentation:
    """A `Backend` that averages the probabilities of another one over scales and horizontal flips.

    Its logits are the logarithm of those probabilities, at the input's size.

    Raises:
        ConfigError: no scale, or one that is not between 0.1 and 10.
    """

    def __init__(self, backend: Backend, *, scales: Sequence[float] = (0.75, 1.0, 1.25), flip: bool = True) -> None:
        if not scales or not all(0.1 <= scale <= 10 for scale in scales):
            raise ConfigError(f"scales {tuple(scales)}: one or more factors between 0.1 and 10 are needed")
        self.backend = backend
        self.scales = tuple(scales)
        self.flip = flip
        self.name = f"{backend.name} with test-time augmentation"
        self.classes = backend.classes
        self.in_channels = backend.in_channels
        self.geometry = LogitGeometry(stride=1, align_corners=False)

    def coarse_logits(self, images: Tensor) -> Tensor:
        """What a call gives: views of several sizes meet only at the image's own, so that nothing coarser is left."""
        return self(images)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to log probabilities (B, K, H, W) float32."""
        views = self._log_probabilities(images)
        total = next(views)
        count = 1
        for view in views:
            # Added as logarithms: probabilities of float32 would underflow to -inf for confident models.
            total = torch.logaddexp(total, view)
            count += 1
        return total - math.log(count)

    def _log_probabilities(self, images: Tensor) -> Iterator[Tensor]:
        """Log probabilities of one view after the other, brought back to the input's size and direction."""
        height, width = images.shape[-2:]
        for scale in self.scales:
            view = resize_images(images, max(1, round(height * scale)), max(1, round(width * scale)))
            yield F.log_softmax(_resize(self.backend(view), height, width), dim=1)
            if self.flip:
                mirrored = self.backend(view.flip(-1)).flip(-1)
                yield F.log_softmax(_resize(mirrored, height, width), dim=1)

    def __str__(self) -> str:
        return f"{self.backend}, scales {', '.join(map(str, self.scales))}{' and flipped' if self.flip else ''}"


def resize_images(images: Tensor, height: int, width: int) -> Tensor:
    """Images (B, C, H, W) at another size; the same images if it is theirs.

    Integers are rounded and keep their type, so that exported files for that type take them. Means of them cannot leave
    their range.
    """
    if images.shape[-2:] == (height, width):
        return images
    resized = F.interpolate(images.float(), size=(height, width), mode="bilinear", align_corners=False, antialias=True)
    return resized if images.is_floating_point() else resized.round_().to(images.dtype)


def _resize(logits: Tensor, height: int, width: int) -> Tensor:
    if logits.shape[-2:] == (height, width):
        return logits
    return F.interpolate(logits, size=(height, width), mode="bilinear", align_corners=False)
