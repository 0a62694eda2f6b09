"""Predictor: images in, segmentations out. The command line, the server and Python all use this one.

Legend: B batch, C channels, H W pixels, K classes.
"""

import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pyramidseg.backends import Backend, ModelBackend, RunPrecision, make_backend
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.images.decode import pixel_count, read_image
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.pipeline import in_equal_batches, in_order, restored, stage_threads
from pyramidseg.predict.segmentation import Image, OutputOptions, Segmentation, segment_batch
from pyramidseg.predict.tile_planner import TileChoice, TilePx
from pyramidseg.predict.tiling import Tiles, segment_tiled
from pyramidseg.predict.tta import TestTimeAugmentation

Source = str | Path | Image

COMPUTED_AHEAD = 2
"""Batches of coarse logits that wait for their label maps at most."""


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """What became of one input: either `error`, or the image with its segmentation.

    Attributes:
        tiles: how the image was cut; None if it was predicted whole.
    """

    source: Source
    image: Image | None = None
    segmentation: Segmentation | None = None
    tiles: Tiles | None = None
    error: DataError | None = None


@dataclass(frozen=True, eq=False)
class _Computed:
    """A batch that has passed the model.

    Attributes:
        outcomes: with their positions.
        coarse: logits (B, K, h, w) of which the segmentations are still to be made; None where nothing is left to do.
    """

    outcomes: Sequence[tuple[int, PredictionResult]]
    coarse: Tensor | None = None


class Predictor:
    """A model with all that it takes to segment people's images.

    Args:
        model: a bundle, an exported file, a `Segmenter`, or a `Backend` of one's own.
        backend: name in `BACKENDS`; `make_backend` says what `auto` takes.
        tta: average over flips and scales, which takes about seven times as long.
        tile_px: `auto` cuts images that do not fit into memory; else `whole`, or the side of the windows.
        overlap_px: of these windows; `TileChoice` says what is taken by default.

    Raises:
        ConfigError: `model` is none of these, or what `make_backend` and `TileChoice` refuse.
    """

    def __init__(
        self,
        model: str | Path | Segmenter | Backend,
        *,
        backend: str = "auto",
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        tta: bool = False,
        tile_px: TilePx = "auto",
        overlap_px: int | None = None,
    ) -> None:
        ready: Backend
        if isinstance(model, (str, Path, Segmenter)):
            ready = make_backend(model, backend, device=device, precision=precision)
        elif isinstance(getattr(model, "classes", None), Classes) and hasattr(model, "coarse_logits"):
            ready = model
        else:
            raise ConfigError(f"model={model!r}: a bundle, an exported file, a Segmenter or a Backend is needed")
        self.backend: Backend = TestTimeAugmentation(ready) if tta else ready
        self.classes = self.backend.classes
        self._channels = ready.settings.channels if isinstance(ready, ModelBackend) else ready.in_channels
        self.tile_choice = TileChoice(self.backend, tile_px=tile_px, overlap_px=overlap_px)

    def predict(self, image: Source, *, confidence: bool = False, probabilities: bool = False) -> Segmentation:
        """Segment one image: a file, or an (H, W, C) array (channels as in the training data, RGB by default).

        Labels alone are the fastest: they need no logits at full size, which confidence and probabilities do.

        Raises:
            DataError: unreadable, or with other channels than the model takes.
        """
        return next(iter(self.predict_many([image], confidence=confidence, probabilities=probabilities)))

    def predict_many(
        self, images: Iterable[Source], *, batch_size: int = 4, confidence: bool = False, probabilities: bool = False
    ) -> Generator[Segmentation, None, None]:
        """Segment images one after the other, in their order, holding only a few of them at a time.

        Raises:
            DataError: at the first image that cannot be read; `outcomes` goes on instead.
        """
        with closing(
            self.outcomes(images, batch_size=batch_size, confidence=confidence, probabilities=probabilities)
        ) as outcomes:
            for outcome in outcomes:
                if outcome.error is not None:
                    raise outcome.error
                assert outcome.segmentation is not None
                yield outcome.segmentation

    def outcomes(
        self, images: Iterable[Source], *, batch_size: int = 4, confidence: bool = False, probabilities: bool = False
    ) -> Generator[PredictionResult, None, None]:
        """As `predict_many`, with images that cannot be read as outcomes of their own.

        Threads decode the next images and make the last ones' label maps while the model computes. Images of one size
        and type share a batch, also where some others stand between them (`in_equal_batches`).
        """
        if batch_size < 1:
            raise ConfigError(f"batch_size={batch_size}: at least 1 is needed")
        if isinstance(images, (str, os.PathLike)):
            raise DataError(f"{images}: one path, where several images are taken; give a list of them, or use predict")
        ahead, threads = 2 * batch_size, stage_threads()
        wanted = OutputOptions(confidence, probabilities)
        with (
            closing(in_order(_measured, images, threads=1, ahead=ahead, name="measure")) as sizes,
            closing(
                in_order(self._loaded, sizes, threads=threads, ahead=ahead, pixels=_pixels_ahead, name="decode")
            ) as loaded,
        ):
            batches = in_equal_batches(loaded, kind=_kind, pixels=_pixels, batch_size=batch_size)
            with closing(
                in_order(
                    partial(self._segmented, wanted=wanted),
                    (self._computed(batch, wanted) for batch in batches),
                    threads=1,  # it takes a fraction of the model's time, and memory for one image at a time
                    ahead=COMPUTED_AHEAD,
                    pixels=lambda computed: sum(_pixels(outcome) for _, outcome in computed.outcomes),
                    name="segment",
                )
            ) as segmented:
                yield from restored(segmented)

    def _loaded(self, measured: tuple[Source, int]) -> PredictionResult:
        source, _ = measured
        try:
            image = source if isinstance(source, np.ndarray) else read_image(_path(source), channels=self._channels)
            return PredictionResult(source, checked(image, self.backend.in_channels, _name(source)))
        except DataError as error:
            return PredictionResult(source, error=error)

    def _computed(self, batch: Sequence[tuple[int, PredictionResult]], wanted: OutputOptions) -> _Computed:
        """A batch of equal images, or of one that could not be read, through the model."""
        images = [outcome.image for _, outcome in batch if outcome.image is not None]
        if not images:
            return _Computed(batch)
        tiles = self.tile_choice.tiles(*images[0].shape[:2])
        try:
            if tiles is None:
                return _Computed(batch, self.backend.coarse_logits(_as_batch(images)))
            cut = [segment_tiled(self.backend, _as_batch([image])[0], tiles, wanted) for image in images]
        except DataError as error:  # a type of pixels that an exported file does not take
            return _Computed(
                [
                    (position, PredictionResult(outcome.source, error=DataError(f"{_name(outcome.source)}: {error}")))
                    for position, outcome in batch
                ]
            )
        return _Computed(
            [
                (position, replace(outcome, segmentation=segmentation, tiles=tiles))
                for (position, outcome), segmentation in zip(batch, cut, strict=True)
            ]
        )

    def _segmented(self, computed: _Computed, *, wanted: OutputOptions) -> Sequence[tuple[int, PredictionResult]]:
        if computed.coarse is None:
            return computed.outcomes
        image = computed.outcomes[0][1].image
        assert image is not None
        height, width = image.shape[:2]
        segmentations = segment_batch(computed.coarse, height, width, self.backend.geometry, self.classes, wanted)
        return [
            (position, replace(outcome, segmentation=segmentation))
            for (position, outcome), segmentation in zip(computed.outcomes, segmentations, strict=True)
        ]


def _as_batch(images: Sequence[Image]) -> Tensor:
    """Images (H, W, C) of one size and type as (B, C, H, W); a single one is not copied, if torch can take it so."""
    alone = len(images) == 1 and images[0].flags.writeable
    return torch.from_numpy(images[0][None] if alone else np.stack(images)).permute(0, 3, 1, 2)


def _measured(source: Source) -> tuple[Source, int]:
    """A source with the number of its pixels, so that not too many of them are decoded at a time."""
    if isinstance(source, np.ndarray):
        return source, source.shape[0] * source.shape[1] if source.ndim > 1 else 0
    return source, pixel_count(Path(source)) if isinstance(source, (str, os.PathLike)) else 0


def _path(source: str | Path) -> Path:
    """Refuse what is no path either.

    Raises:
        DataError: says how images in memory are given.
    """
    if not isinstance(source, (str, os.PathLike)):
        raise DataError(
            f"image: of type {type(source).__name__}; a path or an array (H, W, C) is needed: np.asarray(image), or "
            "of a tensor (C, H, W) tensor.permute(1, 2, 0).cpu().numpy()"
        )
    return Path(source)


def _pixels_ahead(measured: tuple[Source, int]) -> int:
    return measured[1]


def _pixels(outcome: PredictionResult) -> int:
    return 0 if outcome.image is None else outcome.image.shape[0] * outcome.image.shape[1]


def _kind(outcome: PredictionResult) -> tuple[object, ...] | None:
    """Equal for images that can share a batch; None for one that could not be read."""
    return None if outcome.image is None else (outcome.image.shape, outcome.image.dtype)


def _name(source: Source) -> str:
    return "image" if isinstance(source, np.ndarray) else str(source)


def checked(image: Image, channels: int, name: str) -> Image:
    """An array as the model takes it: (H, W, C), of a type whose range `Segmenter` knows.

    Raises:
        DataError: of another shape or type, or with values that are not finite; `name` says which image.
    """
    if not image.dtype.isnative:  # byte order is no type
        image = image.astype(image.dtype.newbyteorder("="))
    if image.ndim == 2:
        image = image[..., None]
    if image.ndim != 3 or image.shape[2] != channels or image.size == 0:
        raise DataError(f"{name}: shape {image.shape}; this model takes (H, W, {channels}) with at least one pixel")
    if image.dtype in (np.uint8, np.uint16, np.int16, np.float32):
        taken = np.ascontiguousarray(image)
    elif image.dtype in (np.float16, np.float64):
        with np.errstate(over="ignore"):
            taken = image.astype(np.float32)
    else:
        raise DataError(f"{name}: values of type {image.dtype}; uint8, uint16, int16 and floats can be read")
    if taken.dtype == np.float32 and not np.isfinite(taken).all():
        kind = "beyond the range of float32" if np.isfinite(image).all() else "that are not finite"
        raise DataError(f"{name}: holds values {kind}; replace them first, for instance by the mean")
    return taken
