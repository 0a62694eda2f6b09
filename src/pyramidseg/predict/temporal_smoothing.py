"""Temporal smoothing: logits of a video's frames are mixed with those of the frames before."""

import copy

import torch
from torch import Tensor

from pyramidseg.backends import Backend
from pyramidseg.base.errors import ConfigError
from pyramidseg.predict.predictor import Predictor
from pyramidseg.predict.segmentation import all_finite
from pyramidseg.predict.tile_planner import TilePlanner


class TemporalSmoothing:
    """A `Backend` whose logits are an exponential moving average over the images that it gets, in their order.

    s[t] = weight * s[t-1] + (1 - weight) * x[t]; s[0] = x[0], and again after a frame without finite logits.
    """

    def __init__(self, backend: Backend, weight: float) -> None:
        self.backend, self.weight = backend, weight
        self.name = f"{backend.name}, smoothed"
        self.classes, self.in_channels, self.geometry = backend.classes, backend.in_channels, backend.geometry
        self._mean: Tensor | None = None

    @torch.inference_mode()
    def coarse_logits(self, images: Tensor) -> Tensor:
        """(B, C, H, W) to (B, K, h, w) at the stride."""
        smoothed = []
        for logits in self.backend.coarse_logits(images):
            mean = logits if self._mean is None else torch.lerp(logits, self._mean, self.weight)
            smoothed.append(mean)
            self._mean = mean if all_finite(mean) else None
        return torch.stack(smoothed)

    def __call__(self, images: Tensor) -> Tensor:
        """`geometry.upsample` of `coarse_logits`."""
        return self.geometry.upsample(self.coarse_logits(images), *images.shape[-2:])


def smoothed(predictor: Predictor, weight: float) -> Predictor:
    """A predictor for one video, of whole frames (ConfigError: it has tiles of a fixed size); itself if weight is 0."""
    if not weight:
        return predictor
    if isinstance(predictor.tile_planner.tile_px, int):
        raise ConfigError("smooth and tiles: frames are smoothed as a whole; leave --tile out, or --smooth")
    own = copy.copy(predictor)
    own.backend = TemporalSmoothing(predictor.backend, weight)
    own.tile_planner = TilePlanner(own.backend, tile_px="whole")
    return own
