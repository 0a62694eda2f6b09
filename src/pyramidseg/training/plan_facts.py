"""What `train --auto` knows of a dataset and a machine, and the settings that it has chosen so far."""

import math
from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import torch

from pyramidseg.base.device import choose_device
from pyramidseg.base.errors import OutOfMemory
from pyramidseg.base.machine import free_bytes
from pyramidseg.base.overrides import given_settings, load_config
from pyramidseg.data.records import Record
from pyramidseg.images.decode import ImageHeader
from pyramidseg.inspection.prepare_data import PreparedData
from pyramidseg.model.cost import meta_model
from pyramidseg.predict.pipeline import BATCH_PIXELS
from pyramidseg.predict.tile_planner import FLOAT_BYTES, LiveBytes, bytes_per_pixel
from pyramidseg.predict.tiling import GRID_PX, round_up

CPU_SHARE, GPU_SHARE, WORKERS_SHARE = 0.5, 0.75, 0.125
"""Shares of the free memory that are planned for steps on a CPU or GPU, and of main memory for loading workers; decoded
images may take a quarter of it (`data.cache=auto`). The rest is for scratch memory and other programs."""

LOSS_FLOATS = 4
"""Logits, log-probabilities and gradients of a pixel and class; the loss is computed one image at a time."""


class Facts:
    """What the rules look at, such as the `train` and `val` images' headers; `data.config` has the choices so far."""

    def __init__(
        self, data: PreparedData, given: Collection[str], train: Sequence[ImageHeader], val: Sequence[ImageHeader]
    ) -> None:
        self.data, self.given, self.notes = data, given, dict[str, str]()
        self.images, self.georeferenced = len(train), train[0].georeferenced
        self.height, self.width = (int(median(sides)) for sides in zip(*(one[:2] for one in train), strict=True))
        self.val = [(one[:2], record) for one, record in zip(val, data.dataset.split("val"), strict=True)]
        self.device = choose_device(data.config.train.device)
        self.on_cpu = self.device.type == "cpu"
        self.usable_share = CPU_SHARE if self.on_cpu else GPU_SHARE
        self.usable = self.usable_share * free_bytes(self.device)
        self.usable_by_workers = WORKERS_SHARE * free_bytes(torch.device("cpu"))
        pixels = [count for count in data.summary.splits["train"].pixels if count]
        self.rarest, self.ratio = min(pixels) / sum(pixels), max(pixels) / min(pixels)
        self.dtypes = data.summary.splits["train"].dtypes

    @property
    def crops(self) -> int:
        """Crops of an epoch."""
        return self.images * self.data.config.data.crops_per_image

    def choose(self, name: str, value: Any, reason: str) -> None:
        """Set a setting unless it is given, and note why."""
        section, _, key = name.partition(".")
        if name in self.given:
            reason = "given"
        else:
            config = load_config(None, {**given_settings(self.data.config), name: value})
            self.data = replace(self.data, config=config)
        value = getattr(getattr(self.data.config, section), key)
        if isinstance(value, tuple):
            value = ("x" if key == "crop" else ",").join(map(str, value))
        self.notes[name] = f"  {name}={value}: {reason}"

    def val_batch(self, most: int) -> tuple[tuple[int, int], tuple[Record, ...]]:
        """Height and width of the largest batch that `read_batches` can make of `val`, and its images."""
        by_size = defaultdict[tuple[int, int], list[Record]](list)
        for size, record in self.val:
            if len(by_size[size]) < max(1, min(most, BATCH_PIXELS // math.prod(size))):
                by_size[size].append(record)
        size, images = max(by_size.items(), key=lambda batch: len(batch[1]) * math.prod(batch[0]))
        return size, tuple(images)

    def step_bytes(self, batch: int) -> float:
        """Memory of a training step in float32, with unlabelled crops if there are any, counted on the meta device."""
        classes, model, crop = len(self.data.dataset.classes), self.data.config.model, self.data.config.data.crop
        with LiveBytes() as live:
            network = meta_model(model, classes).train()
            size = batch, model.in_channels, *crop
            views = [torch.empty(size, device="meta") for _ in range(3 if self.data.unlabeled else 1)]
            with torch.no_grad():  # the teacher labels the last one, and the network learns these labels of the second
                _labels = [network(weak).softmax(dim=1).argmax(dim=1) for weak in views[2:]]
            for view in views[:2]:
                logits = network(view)
                logits.backward(torch.empty_like(logits))
        moments_and_ema = 3 * sum(parameter.numel() for parameter in network.parameters())
        return float(live.peak) + FLOAT_BYTES * (moments_and_ema + LOSS_FLOATS * classes * math.prod(crop))

    def validation_bytes(self, batch: int) -> float:
        """Memory of validating the largest batch of at most so many images, in float32."""
        (height, width), images = self.val_batch(batch)
        pixels, classes = round_up(height, GRID_PX) * round_up(width, GRID_PX), len(self.data.dataset.classes)
        of_each = bytes_per_pixel(self.data.config.model, classes) + FLOAT_BYTES * classes  # and logits in full size
        return pixels * (len(images) * of_each + FLOAT_BYTES * LOSS_FLOATS * classes)

    def fitting(self, name: str, needed: Callable[[int], float]) -> tuple[int, str]:
        """A batch size, halved until it fits into memory unless it is given, and the reason for halving it."""
        wanted = fits = getattr(self.data.config.train, name.partition(".")[2])
        size = most = needed(wanted)
        while size > self.usable and name not in self.given:
            size = needed(fits := fits // 2)
        return fits, f"{wanted} that are wanted need {gigabytes(most)}, and {gigabytes(self.usable)} are usable"

    def refusal(self, found: str = "") -> OutOfMemory:
        """The error if not even the smallest plan fits, by counting or as `found` says."""
        (height, width), (largest, _), model = self.data.config.data.crop, self.val_batch(1), self.data.config.model
        step, validation = gigabytes(self.step_bytes(1)), gigabytes(self.validation_bytes(1))
        return OutOfMemory(
            f"{self.data.dataset.source}: a step of one {height}x{width} crop needs {step} with {model.encoder}, and "
            f"validating the largest image, {largest[0]}x{largest[1]}, {validation}; {gigabytes(self.usable)} "
            f"are usable ({self.usable_share:.0%} of the free memory of {self.device}){found}: set a smaller "
            "data.crop or model.encoder, cut up the images, or free memory"
        )


def gigabytes(size: float) -> str:
    """A size as text."""
    return f"{size / 1e9:.2g} GB"
