"""What is measured, how large, how often; and what the sections share."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from benchmarks.speed.models import Workshop

from pyramidseg.studies.roofline import Roofline

Say = Callable[[str], object]


@dataclass(frozen=True)
class Settings:
    """Sizes and repetitions.

    Attributes:
        side_px: of square images, for prediction.
        batch: images at once, for throughput and training.
        rounds: in which contestants take turns; those of batches, which take as much longer, are half as many.
        crop_px: of square crops, for training.
        images: in the folder that is predicted.
        camvid: a dataset in the SegNet layout, for the epoch; None for synthetic scenes.
        precisions: of the contestants in prediction, besides SMP as users run it; empty for all.
    """

    encoders: tuple[str, ...] = ("resnet18", "resnet50", "efficientnet_b0", "tf_efficientnet_lite0")
    classes: int = 19
    side_px: int = 512
    batch: int = 8
    rounds: int = 9
    crop_px: int = 256
    images: int = 24
    camvid: str | None = None
    precisions: tuple[str, ...] = ()

    @property
    def batch_rounds(self) -> int:
        """For batches."""
        return -(-self.rounds // 2)


@dataclass(frozen=True)
class Bench:
    """What a section is given."""

    settings: Settings
    device: torch.device
    roofline: Roofline
    workshop: Workshop
    say: Say
