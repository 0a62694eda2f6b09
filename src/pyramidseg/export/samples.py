"""Images to check an export on: a labelled split or synthetic scenes, and crops of odd sizes of these.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.config import DataConfig
from pyramidseg.base.setting_types import Channels
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.demo.scenes import draw_scene
from pyramidseg.evaluation.pair_batches import read_batches
from pyramidseg.evaluation.scoring import with_classes
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import pixel_count, read_header
from pyramidseg.model.segmenter import Segmenter

ODD_SIZES = ((1, 1), (1, 97), (31, 33), (64, 64), (95, 130), (161, 111))
"""Heights and widths of the crops: a pixel, a line, on and off the grid of the pyramid, portrait and landscape."""

SCENES, SCENE_HEIGHT, SCENE_WIDTH = 4, 223, 290

WINDOW_PX = 1536
"""Images with more pixels than a square of this side are compared in windows of it."""

Sample = tuple[Tensor, Tensor | None]
"""Images (B, C, H, W) and their labels (B, H, W) uint8, or None."""


@dataclass(frozen=True)
class Samples:
    """Images that an export is checked on.

    Attributes:
        name: description.
        dtype: the key of `INPUT_DTYPES` that fits these images.
        whole: gives batches of whole images, or of windows that cover them, with labels if known.
        crops: crops of odd sizes: single images, and a batch at the end.
        files: the images' files.
    """

    name: str
    dtype: str
    whole: Callable[[], Iterator[Sample]]
    crops: tuple[Tensor, ...]
    files: tuple[Path, ...] = ()

    def __str__(self) -> str:
        if len(self.crops) == 1:  # the file takes images of one size
            return self.name
        single = sum(len(crop) == 1 for crop in self.crops)
        batches = ", ".join(f"a batch of {len(crop)}" for crop in self.crops if len(crop) > 1)
        return f"{self.name}, {single} crops of odd sizes and {batches}"


def labelled_samples(model: Segmenter, dataset: str | Path, split: str, data: DataConfig) -> Samples:
    """The images and labels of a split of a dataset with the model's classes.

    Raises:
        DataError: the dataset cannot be read, or has other classes.
    """
    opened = open_dataset(dataset, data, fallback_classes=model.classes)
    opened = with_classes(opened, model.classes)
    records = opened.split(split)
    channels = opened.bands or model.settings.channels
    dtype = read_header(records[0].image).dtype
    first, _ = read_pair(records[0], opened.masks, channels=channels)
    large = any(pixel_count(record.image) > WINDOW_PX**2 for record in records)
    windows = f" (large ones in windows of {WINDOW_PX} x {WINDOW_PX})" if large else ""
    return Samples(
        name=f"{len(records)} images of {Path(opened.source).name}, split {split}{windows}",
        dtype=dtype if dtype in ("uint8", "uint16") else "float32",
        whole=partial(_read, records, opened.masks, channels),
        crops=_crops(torch.from_numpy(first).permute(2, 0, 1)),
        files=tuple(record.image for record in records),
    )


def synthetic_samples(model: Segmenter, dtype: str) -> Samples:
    """Synthetic street scenes (`demo.scenes`) in the channels and units of the model."""
    convert = partial(_convert_scene, model, dtype)
    scenes = [
        convert(draw_scene(index, seed=5, height=SCENE_HEIGHT, width=SCENE_WIDTH).image) for index in range(SCENES)
    ]
    halves = [(torch.stack(half), None) for half in (scenes[: SCENES // 2], scenes[SCENES // 2 :])]
    return Samples(
        name=f"{SCENES} synthetic scenes",
        dtype=dtype,
        whole=lambda: iter(halves),
        crops=_crops(scenes[0]),
    )


def default_dtype(model: Segmenter) -> str:
    """`uint8` for a model with the mean and deviation of its encoder, which are of 8-bit images; else `float32`.

    A model with those of its dataset may have seen uint8, uint16, floats or raw units (a mean in [0, 1] does not
    distinguish the first three), and `float32` accepts them all.
    """
    statistics = torch.stack((model.mean, model.std))
    own = statistics.new_tensor((model.encoder_source.mean, model.encoder_source.std))
    in_range = bool(((model.mean >= 0) & (model.mean <= 1)).all())
    return "uint8" if in_range and torch.equal(statistics, own) else "float32"


def _read(records: Sequence[Record], masks: MaskSource, channels: Channels) -> Iterator[Sample]:
    for batch in read_batches(records, masks, channels=channels, batch_size=1, task="checking"):
        if batch.labels[0].numel() <= WINDOW_PX**2:
            yield batch.images, batch.labels
        else:  # full-size logits of all classes might not fit into memory
            yield from windows(batch.images, batch.labels, WINDOW_PX)


def windows(images: Tensor, labels: Tensor | None, side_px: int) -> Iterator[Sample]:
    """Images and labels in windows that cover them."""
    height, width = images.shape[-2:]
    for top, left in product(range(0, height, side_px), range(0, width, side_px)):
        window = (..., slice(top, top + side_px), slice(left, left + side_px))
        yield images[window], None if labels is None else labels[window]


def _crops(image_CHW: Tensor) -> tuple[Tensor, ...]:
    """Centre crops (B, C, H, W) of `ODD_SIZES`, then a batch of the last one and its mirror images."""
    height, width = image_CHW.shape[-2:]
    crops = []
    for rows, columns in ((min(rows, height), min(columns, width)) for rows, columns in ODD_SIZES):
        top, left = (height - rows) // 2, (width - columns) // 2
        crops.append(image_CHW[None, :, top : top + rows, left : left + columns])
    last = crops[-1]
    return (*crops, torch.cat((last, last.flip(-1), last.flip(-2))))


def _convert_scene(model: Segmenter, dtype: str, image_HWC: NDArray[Any]) -> Tensor:
    """Convert an RGB image (H, W, 3) uint8 to (C, H, W) with the channels of a model, in a type and its units."""
    channels = np.resize(np.arange(3), model.settings.in_channels)
    image_CHW = torch.from_numpy(image_HWC[..., channels]).permute(2, 0, 1)
    if dtype == "uint8":
        return image_CHW
    if dtype == "uint16":
        return (image_CHW.int() * 257).to(torch.uint16)
    # With the mean and deviation of the model's own data.
    standard = (image_CHW.float() / 255 - 0.45) / 0.225
    return standard * model.std[:, None, None] + model.mean[:, None, None]
