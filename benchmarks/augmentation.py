"""Augmentation: OpenCV on arrays (ours) against torchvision.transforms.v2, alternating, median of rounds.

    python benchmarks/augmentation.py

The same steps on one 480x360 image with its mask, one thread: random scale 0.5-2, crop of 256, flip, brightness,
contrast and saturation. Figures: README.md beside this file.
"""

from collections.abc import Callable

import cv2
import numpy as np
import torch
from torchvision import tv_tensors
from torchvision.transforms import v2

from pyramidseg.base.augmentation_config import AugmentationConfig
from pyramidseg.base.timing import alternate
from pyramidseg.data.transforms import Augmentation
from pyramidseg.demo.scenes import draw_scene

ROUNDS, IMAGES = 15, 40


def main() -> None:
    """Time both and print the ratio."""
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    scene = draw_scene(0, height=360, width=480)
    ours = Augmentation(AugmentationConfig(crop=(256, 256), scale=(0.5, 2.0), color=0.3))
    rng = np.random.default_rng(0)
    theirs = v2.Compose(
        [
            v2.ScaleJitter((360, 480), scale_range=(0.5, 2.0), antialias=True),
            v2.RandomCrop((256, 256), pad_if_needed=True, fill={tv_tensors.Image: 0, tv_tensors.Mask: 255}),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(0.3, 0.3, 0.3),
        ]
    )
    image = tv_tensors.Image(torch.from_numpy(scene.image).permute(2, 0, 1))
    mask = tv_tensors.Mask(torch.from_numpy(scene.labels))
    contestants: dict[str, Callable[[], object]] = {
        "ours": lambda: [
            ours(scene.image, scene.labels, rng, other=lambda _: (scene.image, scene.labels)) for _ in range(IMAGES)
        ],
        "torchvision": lambda: [theirs(image, mask) for _ in range(IMAGES)],
    }
    timings = alternate(contestants, rounds=ROUNDS, warmup=0)
    for name, timing in timings.items():
        print(f"{name:<12} {timing.milliseconds / IMAGES:6.2f} ms an image")
    print(f"torchvision / ours: {timings['torchvision'].ratio_to(timings['ours']):.2f}")


if __name__ == "__main__":
    main()
