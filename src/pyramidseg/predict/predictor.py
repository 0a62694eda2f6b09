"""Predictor: images in, segmentations out; used by the command line and in Python alike.

Legend: B batch, C channels, H W pixels, K classes.
"""

import logging
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from pyramidseg.backends import Backend, ModelBackend, RunPrecision, make_backend
from pyramidseg.backends.protocol import REDUCE_MEMORY_HINT
from pyramidseg.base.device import out_of_memory_explained
from pyramidseg.base.errors import ConfigError, DataError, MissingExtra, OutOfMemory
from pyramidseg.base.parallel import map_in_order
from pyramidseg.images.georeference import Georeference, ground_resolution, read_georeference
from pyramidseg.images.value_range import RangeCheck
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.input_images import ImageLike, image_name, load_image, pixels_of_source
from pyramidseg.predict.pipeline import batch_by_key, decode_ahead, restore_order, stage_threads
from pyramidseg.predict.segmentation import (
    Image,
    OutputOptions,
    Segmentation,
    all_finite,
    not_finite,
    segment_batch,
    segment_tiled,
)
from pyramidseg.predict.tile_planner import TilePlanner, TilePx
from pyramidseg.predict.tiling import Tiles
from pyramidseg.predict.tta import TestTimeAugmentation

logger = logging.getLogger(__name__)

COMPUTED_AHEAD, MAX_RESOLUTION_FACTOR = 2, 1.1
"""Most batches of coarse logits that wait for their label maps; and between ground resolutions without a warning."""


@dataclass(frozen=True, eq=False)
class PredictionResult:
    """Result for one input: `segmentation` and `image`, or `error`.

    Attributes:
        image: (H, W, C), as the model received it.
        error: the image cannot be read, needs more memory than there is, or gives logits that are not finite.
        tiles: how the image was divided; None if it was predicted whole.
        georeference: of a file, if it was requested or compared with the training images.
    """

    source: ImageLike
    image: Image | None = None
    segmentation: Segmentation | None = None
    tiles: Tiles | None = None
    error: DataError | None = None
    georeference: Georeference | None = None

    @property
    def found(self) -> Segmentation:
        """The segmentation of a result without an error."""
        assert self.segmentation is not None
        return self.segmentation


ModelOutput = tuple[Sequence[tuple[int, PredictionResult]], Tensor | None]
"""A batch after the model: results with their positions, and the coarse logits (B, K, h, w) to compute their
segmentations from; None if the results are complete."""


class Predictor:
    """Segments images with a model.

    Args:
        model: path of a bundle or an exported file, a `Segmenter` (also compiled, or in DataParallel), whose weights
            are copied: make another predictor once they have been trained further; or any other `Backend`.
        backend: name in `BACKENDS`; `make_backend` explains `auto`.
        as_written: compute every layer of the decoder, instead of fewer operations with equal results.
        tta: average over flips and scales, which takes about seven times as long.
        tile_px: side of the windows that larger images are divided into; `auto` divides images that do not fit into
            memory, `whole` none.
        overlap_px: of these windows; `TilePlanner` explains the default.

    Raises:
        ConfigError: `model` has another type, or an argument that `make_backend` or `TilePlanner` rejects.
    """

    def __init__(
        self,
        model: str | Path | Segmenter | Backend,
        *,
        backend: str = "auto",
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        as_written: bool = False,
        tta: bool = False,
        tile_px: TilePx = "auto",
        overlap_px: int | None = None,
    ) -> None:
        self.arguments = {name: value for name, value in locals().items() if name != "self"}
        plain: Backend
        if not isinstance(model, (str, Path, type, nn.Module)) and hasattr(model, "coarse_logits"):
            plain = model
        else:
            # Whatever else it is, the error names it.
            plain = make_backend(model, backend, device=device, precision=precision, as_written=as_written)  # type: ignore[arg-type]
        self.backend: Backend = TestTimeAugmentation(plain) if tta else plain
        self.classes = self.backend.classes
        self.tile_planner = TilePlanner(self.backend, tile_px=tile_px, overlap_px=overlap_px)
        self.check_range = RangeCheck(getattr(plain, "value_range", None))
        self.resolution_m: float | None = getattr(plain, "resolution_m", None)
        self.channels = plain.settings.channels if isinstance(plain, ModelBackend) else plain.in_channels

    def predict(self, image: ImageLike, *, confidence: bool = False, probabilities: bool = False) -> Segmentation:
        """Segment one image: a file, its bytes, an array (H, W, C), a tensor (C, H, W), or an image of PIL.

        Channels are as in the training data, RGB by default; other numbers are converted as those of files are.

        Labels alone are fastest: unlike confidence and probabilities, they need no logits at full size.

        Raises:
            DataError: the image cannot be read, does not have the channels of the model, or is not in the units of the
                training images.
        """
        return next(iter(self.predict_many([image], confidence=confidence, probabilities=probabilities)))

    def predict_many(
        self, images: Iterable[ImageLike], *, batch_size: int = 4, confidence: bool = False, probabilities: bool = False
    ) -> Generator[Segmentation, None, None]:
        """Segment images one after the other, in order and in constant memory.

        Raises:
            DataError: at the first image that cannot be read; `predict_results` continues with the next one.
        """
        with closing(
            self.predict_results(images, batch_size=batch_size, confidence=confidence, probabilities=probabilities)
        ) as results:
            for result in results:
                if result.error is not None:
                    raise result.error
                yield result.found

    def predict_results(
        self,
        images: Iterable[ImageLike],
        *,
        batch_size: int = 4,
        confidence: bool = False,
        probabilities: bool = False,
        georeference: bool = False,
    ) -> Generator[PredictionResult, None, None]:
        """As `predict_many`, but yields an image that cannot be read as a result with its `error`, and goes on.

        Threads decode the next images and compute label maps while the model runs. Images of equal size and type share
        a batch, even if others are between them (`batch_by_key`).

        Raises:
            ConfigError: `batch_size` is below 1.
            DataError: `images` is a single image.
            OutOfMemory: a batch of several images does not fit.
        """
        if batch_size < 1:
            raise ConfigError(f"`batch_size={batch_size}`: must be at least 1")
        if isinstance(images, (str, os.PathLike, bytes)):
            raise DataError(
                f"{image_name(images)}: a single image where a list of images is needed; pass a list, or use predict"
            )
        options, load = OutputOptions(confidence, probabilities), partial(self.load, georeference=georeference)
        with closing(
            decode_ahead(load, images, pixels=pixels_of_source, threads=stage_threads(), ahead=2 * batch_size)
        ) as loaded:
            batches = batch_by_key(loaded, key=batch_key, pixels=result_pixels, batch_size=batch_size)
            with closing(
                map_in_order(
                    partial(self.segment, options=options),
                    (self.compute(batch, options) for batch in batches),
                    threads=1,  # takes a fraction of the model's time, and memory for one image at a time
                    ahead=COMPUTED_AHEAD,
                    pixels=lambda output: sum(result_pixels(result) for _, result in output[0]),
                    name="segment",
                )
            ) as segmented:
                yield from restore_order(segmented)

    # The steps of `predict_results`, for a caller with a queue of its own, such as the server.

    def load(self, source: ImageLike, *, georeference: bool = False) -> PredictionResult:
        """The image as the model takes it, or the error that it cannot be read with."""
        try:
            image = load_image(source, channels=self.channels)
            self.check_range(image, image_name(source))
            place = None
            if isinstance(source, (str, Path)) and (georeference or (self.resolution_m and find_spec("rasterio"))):
                place = read_georeference(Path(source))
                self.check_resolution(source, place, *image.shape[:2])
            return PredictionResult(source, image, georeference=place)
        except DataError as error:
            return PredictionResult(source, error=error)
        except MissingExtra as error:  # HEIC, for instance: the other images need no extra
            return PredictionResult(source, error=DataError(str(error)))

    def check_resolution(self, name: object, place: Georeference | None, height: int, width: int) -> None:
        """Warn of the first image whose ground resolution differs from that of the training images."""
        trained, found = self.resolution_m, ground_resolution(place, height, width) if self.resolution_m else None
        if trained and found and max(found / trained, trained / found) > MAX_RESOLUTION_FACTOR:
            self.resolution_m = None
            logger.warning(
                f"{name}: has pixels of {found:.3g} m, where the model was trained on {trained:.3g} m; to resample "
                f"images, predict with `resample={trained:.3g}` (further images are not mentioned)"
            )

    def compute(self, batch: Sequence[tuple[int, PredictionResult]], options: OutputOptions) -> ModelOutput:
        """Run the model on a batch of images of equal size, or pass on an image that could not be read."""
        images = [result.image for _, result in batch if result.image is not None]
        if not images:
            return batch, None
        try:
            tiles = self.tile_planner.plan(*images[0].shape[:2])
            if tiles is None:
                return batch, self.backend.coarse_logits(_as_batch(images))
        except (DataError, OutOfMemory) as error:  # an exported file does not accept every type of pixels
            if isinstance(error, OutOfMemory) and len(images) > 1:  # smaller batches may fit
                raise
            return [(position, _failed(result, error)) for position, result in batch], None
        return [(position, self._tiled(result, tiles, options)) for position, result in batch], None

    def _tiled(self, result: PredictionResult, tiles: Tiles, options: OutputOptions) -> PredictionResult:
        assert result.image is not None
        try:
            with out_of_memory_explained(REDUCE_MEMORY_HINT):
                segmentation = segment_tiled(self.backend, _as_batch([result.image])[0], tiles, options)
        except (DataError, OutOfMemory) as error:
            return _failed(result, error)
        return replace(result, segmentation=segmentation, tiles=tiles)

    def segment(self, output: ModelOutput, *, options: OutputOptions) -> Sequence[tuple[int, PredictionResult]]:
        """Compute the segmentations of a batch from its coarse logits."""
        batch, coarse = output
        if coarse is None:
            return batch
        image = batch[0][1].image
        assert image is not None
        height, width = image.shape[:2]
        try:
            with out_of_memory_explained(REDUCE_MEMORY_HINT):
                segmentations = segment_batch(coarse, height, width, self.backend.geometry, self.classes, options)
        except OutOfMemory as error:
            return [(position, _failed(result, error)) for position, result in batch]
        results = []
        for (position, result), segmentation, logits in zip(batch, segmentations, coarse, strict=True):
            assert result.image is not None
            if all_finite(logits):
                results.append((position, replace(result, segmentation=segmentation)))
            else:
                results.append((position, _failed(result, not_finite(result.image))))
        return results


def _failed(result: PredictionResult, error: DataError | OutOfMemory) -> PredictionResult:
    failure = DataError(f"{image_name(result.source)}: {error}")
    failure.__cause__ = error
    return PredictionResult(result.source, error=failure)


def _as_batch(images: Sequence[Image]) -> Tensor:
    """Images (H, W, C) of one size and type as (B, C, H, W); a single writable image is not copied."""
    alone = len(images) == 1 and images[0].flags.writeable
    return torch.from_numpy(images[0][None] if alone else np.stack(images)).permute(0, 3, 1, 2)


def result_pixels(result: PredictionResult) -> int:
    """Number of pixels; 0 for an image that could not be read."""
    return 0 if result.image is None else result.image.shape[0] * result.image.shape[1]


def batch_key(result: PredictionResult) -> tuple[object, ...] | None:
    """Equal for images that can share a batch; None for an image that could not be read."""
    return None if result.image is None else (result.image.shape, result.image.dtype)
