"""Images to check an export on: a labelled split, or made scenes, and pieces of odd sizes of either.

Legend: B batch, C channels, H W pixels.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.base.config import Channels, DataConfig
from pyramidseg.base.log import track
from pyramidseg.data.pairs import read_pair
from pyramidseg.data.records import MaskSource, Record
from pyramidseg.demo.scenes import draw_scene
from pyramidseg.evaluation.pair_batches import batch_pairs, prefetch_pairs
from pyramidseg.evaluation.scoring import check_same_classes
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import pixel_count, read_header
from pyramidseg.model.segmenter import Segmenter

ODD_SIZES = ((1, 1), (1, 97), (31, 33), (64, 64), (95, 130), (161, 111))
"""Heights and widths of the pieces: a single pixel, a line, beside and on the pyramid's grid, upright and lying."""

SCENES, SCENE_HEIGHT, SCENE_WIDTH = 4, 223, 290

WINDOW_PX = 1536
"""Sides of what is compared at most: images with more pixels than such a window are cut into windows of it."""

READERS = 2
"""Threads that decode while models compute."""

Sample = tuple[Tensor, Tensor | None]
"""Images (B, C, H, W) and their labels (B, H, W) uint8 where there are any."""


@dataclass(frozen=True)
class Samples:
    """What an export is checked on.

    Attributes:
        name: in words.
        dtype: a key of `INPUT_DTYPES` that takes these images.
        whole: whole images, or windows that cover them, labelled or not, in batches.
        count: of the whole images.
        pieces: of odd sizes, cut from them: images one by one, and a batch.
    """

    name: str
    dtype: str
    whole: Iterator[Sample]
    count: int
    pieces: tuple[Tensor, ...]

    def __str__(self) -> str:
        alone = sum(len(piece) == 1 for piece in self.pieces)
        batches = ", ".join(f"a batch of {len(piece)}" for piece in self.pieces if len(piece) > 1)
        return f"{self.name}, {alone} pieces of odd sizes and {batches}"

    def takes(self, input_dtype: str) -> bool:
        """Whether a file for this type of images takes these."""
        return input_dtype in ("float32", self.dtype)


def labelled_samples(model: Segmenter, dataset: str | Path, split: str, data: DataConfig) -> Samples:
    """A split of a dataset with the model's classes.

    Raises:
        DataError: it cannot be read, or has other classes.
    """
    opened = open_dataset(
        dataset,
        data,
        fallback_classes=model.classes,
    )
    check_same_classes(opened, model.classes)
    records = opened.split(split)
    channels = opened.bands or model.settings.channels
    dtype = read_header(records[0].image).dtype
    first, _ = read_pair(records[0], opened.masks, channels=channels)
    large = any(pixel_count(record.image) > WINDOW_PX**2 for record in records)
    windows = f" (large ones in windows of {WINDOW_PX} x {WINDOW_PX})" if large else ""
    return Samples(
        name=f"{len(records)} images of {Path(opened.source).name}, split {split}{windows}",
        dtype=dtype if dtype in ("uint8", "uint16") else "float32",
        whole=_read(records, opened.masks, channels),
        count=len(records),
        pieces=_pieces(torch.from_numpy(first).permute(2, 0, 1)),
    )


def made_samples(model: Segmenter, dtype: str) -> Samples:
    """Street scenes of `data.synthetic` in the model's channels, type and units."""
    convert = partial(_in_units_of, model, dtype)
    scenes = [
        convert(draw_scene(index, seed=5, height=SCENE_HEIGHT, width=SCENE_WIDTH).image) for index in range(SCENES)
    ]
    halves = (scenes[: SCENES // 2], scenes[SCENES // 2 :])
    return Samples(
        name=f"{SCENES} made scenes",
        dtype=dtype,
        whole=((torch.stack(half), None) for half in halves),
        count=SCENES,
        pieces=_pieces(scenes[0]),
    )


def default_dtype(model: Segmenter) -> str:
    """`uint8` for a model with its encoder's own mean and deviation, which are of 8-bit pictures; else `float32`.

    A model with its dataset's may have seen uint8, uint16, floats or raw units, and `float32` takes them all: a mean in
    [0, 1] does not tell the first three from each other.
    """
    statistics = torch.stack((model.mean, model.std))
    own = statistics.new_tensor((model.encoder_source.mean, model.encoder_source.std))
    in_range = bool(((model.mean >= 0) & (model.mean <= 1)).all())
    return "uint8" if in_range and torch.equal(statistics, own) else "float32"


def _read(records: Sequence[Record], masks: MaskSource, channels: Channels) -> Iterator[Sample]:
    items = prefetch_pairs(records, masks, channels=channels, threads=READERS)
    for batch in batch_pairs(track(items, total=len(records), task="checking"), batch_size=1):
        yield from _windows(batch.images, batch.labels)


def _windows(images: Tensor, labels: Tensor) -> Iterator[Sample]:
    """Images as they are, or in windows that cover them, where full-size logits of all classes might not fit."""
    height, width = labels.shape[-2:]
    if height * width <= WINDOW_PX**2:
        yield images, labels
        return
    for top, left in product(range(0, height, WINDOW_PX), range(0, width, WINDOW_PX)):
        seen = (..., slice(top, top + WINDOW_PX), slice(left, left + WINDOW_PX))
        yield images[seen], labels[seen]


def _pieces(image_CHW: Tensor) -> tuple[Tensor, ...]:
    """(B, C, H, W) from the middle of an image, no larger than it is; then the last one with its mirror images."""
    height, width = image_CHW.shape[-2:]
    pieces = []
    for rows, columns in ((min(rows, height), min(columns, width)) for rows, columns in ODD_SIZES):
        top, left = (height - rows) // 2, (width - columns) // 2
        pieces.append(image_CHW[None, :, top : top + rows, left : left + columns])
    last = pieces[-1]
    return (*pieces, torch.cat((last, last.flip(-1), last.flip(-2))))


def _in_units_of(model: Segmenter, dtype: str, image_HWC: NDArray[Any]) -> Tensor:
    """An RGB image, (H, W, 3) uint8, as (C, H, W) of a model's channels, in a type and the units that go with it."""
    channels = np.resize(np.arange(3), model.settings.in_channels)
    image_CHW = torch.from_numpy(image_HWC[..., channels]).permute(2, 0, 1)
    if dtype == "uint8":
        return image_CHW
    if dtype == "uint16":
        return (image_CHW.int() * 257).to(torch.uint16)
    # As bright and as rich in contrast as what the model's mean and deviation were taken from.
    standard = (image_CHW.float() / 255 - 0.45) / 0.225
    return standard * model.std[:, None, None] + model.mean[:, None, None]
