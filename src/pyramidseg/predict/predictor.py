"""Predictor: images in, segmentations out. The command line, the server and Python all use this one.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pyramidseg.classes import Classes
from pyramidseg.data.images import read_image
from pyramidseg.errors import ConfigError, DataError
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.backends import Backend, make_backend
from pyramidseg.predict.tta import FlipAndScales

Image = NDArray[Any]
"""(H, W, C) uint8, uint16 or float32."""

DECODERS = 2
"""Threads that decode images while the model computes."""

BATCH_PIXELS = 2**21
"""Pixels in a batch at most, unless a single image has more: what bounds the memory of the logits."""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """What a model says of one image.

    Attributes:
        labels: (H, W) uint8 class ids.
        confidence: (H, W) float32 in (0, 1], the probability of the label.
        probabilities: (K, H, W) float32 where they were asked for.
    """

    labels: NDArray[np.uint8]
    confidence: NDArray[np.float32]
    classes: Classes
    probabilities: NDArray[np.float32] | None = None

    def shares(self) -> dict[str, float]:
        """Share of the image's pixels by name of the classes found, largest first; they sum to 1."""
        counts = np.bincount(self.labels.ravel(), minlength=len(self.classes))
        found = sorted(np.flatnonzero(counts), key=lambda index: (-counts[index], index))
        return {self.classes.names[index]: float(counts[index] / self.labels.size) for index in found}

    def colorize(self) -> NDArray[np.uint8]:
        """(H, W, 3) uint8 RGB: every pixel in the colour of its class."""
        return self.classes.colorize(self.labels)

    def overlay(self, image: Image, *, alpha: float = 0.5) -> NDArray[np.uint8]:
        """The image with the classes' colours over it, (H, W, 3) uint8 RGB.

        Args:
            image: (H, W, C) of the same height and width.
            alpha: weight of the colours, from 0 (the image) to 1 (`colorize`).
        """
        if image.shape[:2] != self.labels.shape:
            raise DataError(f"overlay: an image of {image.shape[:2]} for labels of {self.labels.shape}: sizes differ")
        if not 0 <= alpha <= 1:
            raise ConfigError(f"overlay: alpha={alpha} is not between 0 and 1")
        blend = (1 - alpha) * viewable(image).astype(np.float32) + alpha * self.colorize().astype(np.float32)
        return blend.round().astype(np.uint8)


@dataclass(frozen=True, eq=False)
class Outcome:
    """What became of one input: either `error`, or the image with its segmentation."""

    source: str | Path | Image
    image: Image | None = None
    segmentation: Segmentation | None = None
    error: DataError | None = None


class Predictor:
    """A model with all that it takes to segment people's images.

    Args:
        model: a bundle, a `Segmenter`, or a `Backend` of one's own.
        backend: name in `BACKENDS`; `auto` takes torch.
        tta: average over flips and scales, which takes about seven times as long.
    """

    def __init__(
        self,
        model: str | Path | Segmenter | Backend,
        *,
        backend: str = "auto",
        device: str | torch.device = "auto",
        tta: bool = False,
    ) -> None:
        ready = make_backend(model, backend, device=device) if isinstance(model, (str, Path, Segmenter)) else model
        self.backend: Backend = FlipAndScales(ready) if tta else ready
        self.classes = self.backend.classes

    def predict(self, image: str | Path | Image, *, probabilities: bool = False) -> Segmentation:
        """Segment one image: a file, or an (H, W, C) array (channels as in the training data, RGB by default).

        Raises:
            DataError: unreadable, or with other channels than the model takes.
        """
        return next(iter(self.predict_many([image], probabilities=probabilities)))

    def predict_many(
        self, images: Iterable[str | Path | Image], *, batch_size: int = 4, probabilities: bool = False
    ) -> Iterator[Segmentation]:
        """Segment images one after the other, in their order, holding only a few of them at a time.

        Raises:
            DataError: at the first image that cannot be read; `outcomes` goes on instead.
        """
        for outcome in self.outcomes(images, batch_size=batch_size, probabilities=probabilities):
            if outcome.error is not None:
                raise outcome.error
            assert outcome.segmentation is not None
            yield outcome.segmentation

    def outcomes(
        self, images: Iterable[str | Path | Image], *, batch_size: int = 4, probabilities: bool = False
    ) -> Iterator[Outcome]:
        """As `predict_many`, with images that cannot be read as outcomes of their own.

        Neighbours of one size and type share a batch, of at most `batch_size` images and `BATCH_PIXELS`. Threads
        decode the next images while the model computes.
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: at least 1 is needed")
        batch: list[Outcome] = []
        for loaded in self._loaded(images, ahead=2 * batch_size):
            if batch and not _fits(loaded, batch, batch_size):
                yield from self._segmented(batch, probabilities)
                batch = []
            if loaded.error is not None:
                yield loaded
            else:
                batch.append(loaded)
        yield from self._segmented(batch, probabilities)

    def _loaded(self, images: Iterable[str | Path | Image], *, ahead: int) -> Iterator[Outcome]:
        pool = ThreadPoolExecutor(DECODERS, thread_name_prefix="decode")
        waiting: deque[Future[Outcome]] = deque()
        try:
            for image in images:
                waiting.append(pool.submit(self._load, image))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=True, cancel_futures=True)

    def _load(self, source: str | Path | Image) -> Outcome:
        channels = self.backend.in_channels
        try:
            if isinstance(source, np.ndarray):
                return Outcome(source, _checked(source, channels, "image"))
            return Outcome(source, _checked(read_image(Path(source), channels=channels), channels, str(source)))
        except DataError as error:
            return Outcome(source, error=error)

    def _segmented(self, batch: Sequence[Outcome], probabilities: bool) -> Iterator[Outcome]:
        if not batch:
            return
        images = np.stack([outcome.image for outcome in batch if outcome.image is not None])
        logits = self.backend(torch.from_numpy(images).permute(0, 3, 1, 2))
        for outcome, logits_KHW in zip(batch, logits, strict=True):
            segmentation = segmentation_of(logits_KHW, self.classes, probabilities=probabilities)
            yield Outcome(outcome.source, outcome.image, segmentation)


@torch.inference_mode()
def segmentation_of(logits_KHW: Tensor, classes: Classes, *, probabilities: bool = False) -> Segmentation:
    """Labels and confidence of one image's logits (K, H, W), already at the image's size."""
    best, labels = logits_KHW.max(dim=0)
    confidence = (best - logits_KHW.logsumexp(dim=0)).exp()
    return Segmentation(
        labels.to(torch.uint8).cpu().numpy(),
        confidence.cpu().numpy(),
        classes,
        logits_KHW.softmax(dim=0).cpu().numpy() if probabilities else None,
    )


def viewable(image: Image) -> NDArray[np.uint8]:
    """(H, W, C) of any type and channel count as RGB for eyes, (H, W, 3) uint8.

    One or two channels give grey of the first; more give the first three. Floats outside [0, 1] and signed integers
    are stretched from their least to their greatest value.
    """
    colors = image[..., :3] if image.shape[2] >= 3 else np.repeat(image[..., :1], 3, axis=2)
    if colors.dtype == np.uint8:
        return colors
    if colors.dtype == np.uint16:
        return (colors // 257).astype(np.uint8)
    low, high = float(colors.min()), float(colors.max())
    if np.issubdtype(colors.dtype, np.floating) and low >= 0 and high <= 1:
        low, high = 0.0, 1.0
    return ((colors.astype(np.float32) - low) * (255 / max(high - low, 1e-12))).round().astype(np.uint8)


def _fits(loaded: Outcome, batch: Sequence[Outcome], batch_size: int) -> bool:
    """Whether an image may join a batch; an image that could not be read ends it, which keeps the order."""
    image, first = loaded.image, batch[0].image
    if image is None or first is None or image.shape != first.shape or image.dtype != first.dtype:
        return False
    return len(batch) < batch_size and (len(batch) + 1) * image.shape[0] * image.shape[1] <= BATCH_PIXELS


def _checked(image: Image, channels: int, name: str) -> Image:
    """An array as the model takes it: (H, W, C), of a type whose range `Segmenter` knows."""
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] != channels or image.size == 0:
        raise DataError(f"{name}: shape {image.shape}; this model takes (H, W, {channels}) with at least one pixel")
    if image.dtype in (np.uint8, np.uint16, np.int16, np.float32):
        checked = np.ascontiguousarray(image)
    elif image.dtype in (np.float16, np.float64):
        checked = image.astype(np.float32)
    else:
        raise DataError(f"{name}: values of type {image.dtype}; uint8, uint16, int16 and floats can be read")
    if checked.dtype == np.float32 and not np.isfinite(checked).all():
        raise DataError(f"{name}: holds values that are not finite; replace them first, for instance by the mean")
    return checked
