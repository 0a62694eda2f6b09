"""Models, pictures and settings that the campaigns share."""

from pathlib import Path

import numpy as np
from PIL import Image

TINY = ("model.pyramid_channels=8", "model.segmentation_channels=8", "data.crop=64", "data.workers=0")
TRAINING = ("--encoder", "test_resnet", "--encoder-weights", "none", "--batch-size", "2", "--device", "cpu", *TINY)
"""Settings of a network whose steps take milliseconds."""


def make_images(folder: Path, count: int) -> Path:
    """Pictures of random shades, in two subfolders."""
    rng = np.random.default_rng(0)
    for index in range(count):
        path = folder / f"{index % 2}" / f"{index:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.repeat(np.repeat(rng.integers(0, 256, (6, 8, 3), np.uint8), 16, 0), 16, 1)).save(path)
    return folder


def make_model(path: Path, *, seed: int = 0) -> Path:
    """A tiny untrained model; that of seed 0 does not find class 0 everywhere in any picture of the campaigns."""
    import torch

    from pyramidseg.model.segmenter import Segmenter

    torch.manual_seed(seed)
    model = Segmenter(
        num_classes=4, encoder="test_resnet", encoder_weights="none", pyramid_channels=8, segmentation_channels=8
    )
    path.parent.mkdir(exist_ok=True)
    model.save(path)
    return path


def make_scenes(folder: Path, *, train: int = 4, val: int = 2) -> Path:
    """A dataset of synthetic scenes."""
    from pyramidseg.demo.scenes import write_scenes

    write_scenes(folder, train=train, val=val, height=72, width=96)
    return folder
