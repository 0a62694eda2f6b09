"""Backends without a network, for tests of what happens around them."""

import os
import signal
import time
from pathlib import Path

import torch
from torch import Tensor

from pyramidseg.backends import LogitGeometry
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import DataError
from pyramidseg.predict.input_images import ImageLike
from pyramidseg.predict.predictor import PredictionResult, Predictor


class Brightness:
    """Finds class 1 where a pixel's first channel is above the middle of its range; it notes its batches."""

    name = "brightness"
    classes = Classes.from_names(["dark", "bright", "absent"])
    in_channels = 3
    geometry = LogitGeometry(stride=1, align_corners=False)

    def __init__(self) -> None:
        self.batches: list[tuple[int, ...]] = []

    def coarse_logits(self, images: Tensor) -> Tensor:
        self.batches.append(tuple(images.shape))
        unit = 1 if images.is_floating_point() else 255
        bright = images[:, :1].float() / unit - 0.5
        return torch.cat((-bright, bright, torch.full_like(bright, -9)), dim=1)

    def __call__(self, images: Tensor) -> Tensor:
        return self.coarse_logits(images)


class Mortal(Brightness):
    """Ends its process at images of 13 pixels in height, does not return from those of 17, and fails at those of 19."""

    def coarse_logits(self, images: Tensor) -> Tensor:
        if images.shape[-2] == 13:
            os.kill(os.getpid(), signal.SIGSEGV)
        if images.shape[-2] == 17:
            time.sleep(1000)
        if images.shape[-2] == 19:
            raise RuntimeError("a defect of the model")
        return super().coarse_logits(images)


def mortal_predictor(path: str) -> Predictor:
    """Its decoder ends the process at files with `crash` in them. A path that does not exist is an error."""
    if path and not Path(path).exists():
        raise DataError(f"{path}: no such file")
    predictor = Predictor(Mortal())
    load = predictor.load

    def load_or_crash(source: ImageLike, **options: bool) -> PredictionResult:
        if isinstance(source, bytes) and b"crash" in source:
            os.kill(os.getpid(), signal.SIGSEGV)
        return load(source, **options)

    predictor.load = load_or_crash  # type: ignore[method-assign]
    return predictor


class OfFile(Brightness):
    """With the digest of a file."""

    def __init__(self, checksum: str) -> None:
        super().__init__()
        self.checksum = checksum


def predictor_of_file(path: str) -> Predictor:
    """With what is in the file as its digest."""
    return Predictor(OfFile(Path(path).read_text()))
