"""Decides which images are predicted in tiles, and how large these are: as requested, or by the free memory.

The overlap of tiles follows from the network's theoretical receptive field, measured by letting NaN spread through it.
Every operation on a NaN gives NaN: sums, products with any weight, maxima, means. So an image whose right half is NaN
has logits that are NaN exactly where they depend on any pixel beyond its middle, by whichever path through the network.
A window of an image that ends there sees zero padding in that place, at every layer.
"""

import itertools
import weakref
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from pyramidseg.backends import Backend, ModelBackend
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import ConfigError, OutOfMemory
from pyramidseg.base.machine import free_bytes
from pyramidseg.model.cost import meta_model
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.tiling import GRID_PX, Tiles, check_side, round_up
from pyramidseg.predict.tta import SCALES, TestTimeAugmentation

TilePx = int | Literal["auto", "whole"]

ALWAYS_WHOLE_PIXELS = 2**21
"""Up to this size `auto` predicts images whole, without measuring memory or network."""

USABLE_SHARE = 0.5
"""Share of the free memory that `auto` uses; the rest is for scratch memory, waiting images and other programs."""

INEXACT_TILE_PX = 2048
"""Side of the windows of images larger than memory where no tiles are exact."""

MIN_AUTO_TILE_PX = 256
"""Smaller windows see too little context: `auto` reports a lack of memory instead."""

UNKNOWN_BYTES_PER_PIXEL = 1000.0
"""For a backend that is not one of ours: twice what our larger networks need."""

FLOAT_BYTES = 4


class TilePlanner:
    """Chooses the tiles of images for a backend.

    Args:
        tile_px: side of the windows; `auto`: the whole image if it fits into memory, else the largest windows that
            do; `whole`: never tiles.
        overlap_px: by default twice the receptive field, which makes tiles equal the whole image, if that is at most a
            quarter of the tile; else an eighth of the tile.

    Raises:
        ConfigError: a side is not a multiple of the grid, or the overlap exceeds half the tile.
    """

    shared_by = 1
    """Number of processes that share the free memory."""

    def __init__(self, backend: Backend, *, tile_px: TilePx = "auto", overlap_px: int | None = None) -> None:
        if isinstance(tile_px, str) and tile_px not in ("auto", "whole"):
            raise ConfigError(f"`tile_px={tile_px}`: must be auto, whole, or a number of pixels")
        if isinstance(tile_px, int):
            Tiles(tile_px, overlap_px or 0)
        elif overlap_px is not None:
            check_side("overlap_px", overlap_px, least=0)
        self._backend = backend
        self._network = backend.backend if isinstance(backend, TestTimeAugmentation) else backend
        self.tile_px = tile_px
        self.overlap_px = overlap_px

    def plan(self, height: int, width: int) -> Tiles | None:
        """Tiles for an image of this size; None if it is predicted whole.

        Raises:
            OutOfMemory: not even the smallest tiles fit into memory.
        """
        if self.tile_px == "whole" or (self.tile_px == "auto" and height * width <= ALWAYS_WHOLE_PIXELS):
            return None
        tiles = self.plan_windows(height, width, most_px=max(height, width))
        return None if max(height, width) <= tiles.tile_px else tiles

    def plan_windows(
        self, height: int, width: int, *, most_px: int | None = None, cache_bytes: Callable[[int], float] = lambda _: 0
    ) -> Tiles:
        """Tiles for an image that is never predicted whole.

        Args:
            most_px: largest side for `auto`, which takes the largest that fits into memory; by default, the smallest
                side at which the tiles are exact.
            cache_bytes: memory that reading windows of a side takes besides.
        """
        side_px, field_px = self.tile_px, self._receptive_field_px
        if isinstance(side_px, str):
            exact_px = INEXACT_TILE_PX if field_px is None else 4 * round_up(2 * field_px, GRID_PX)
            most_px = most_px or max(exact_px, MIN_AUTO_TILE_PX)
            side_px = self._largest_that_fits(height, width, most_px, cache_bytes)
        overlap_px = default_overlap(side_px, field_px) if self.overlap_px is None else self.overlap_px
        return Tiles(side_px, overlap_px, margin_within(overlap_px, field_px))

    def needed_bytes(self, side_px: int, height: int, width: int) -> float:
        """Peak memory with windows of this side: one window, and the coarse logits of two rows of windows."""
        window_height, window_width = (round_up(min(side_px, length), GRID_PX) for length in (height, width))
        needed = self._bytes_per_pixel * window_height * window_width
        if max(height, width) > side_px:
            points = window_height * round_up(width, GRID_PX) / self._backend.geometry.stride**2
            needed += 2 * FLOAT_BYTES * len(self._backend.classes) * points
        return needed

    def _largest_that_fits(self, height: int, width: int, most_px: int, cache_bytes: Callable[[int], float]) -> int:
        # Memory of the device that computes; of the machine if that is not a device of torch.
        known = self._network.compute_device if isinstance(self._network, ModelBackend) else None
        device = torch.device("cpu") if known is None else known
        usable = USABLE_SHARE * free_bytes(device) / self.shared_by
        least = max(MIN_AUTO_TILE_PX, 2 * (self.overlap_px or 0))

        def needed(side_px: int) -> float:
            return self.needed_bytes(side_px, height, width) + cache_bytes(side_px)

        for side_px in range(round_up(most_px, GRID_PX), least - 1, -GRID_PX):
            if needed(side_px) <= usable:
                return side_px
        raise OutOfMemory(
            f"an image of {height}x{width}: even tiles of {least} pixels need {needed(least) / 2**20:.0f} MiB, and "
            f"{usable / 2**20:.0f} MiB are usable (half of the free memory of {device}); free memory, or use another "
            "device or a smaller `tile_px`"
        )

    @cached_property
    def _bytes_per_pixel(self) -> float:
        classes = len(self._backend.classes)
        needed = UNKNOWN_BYTES_PER_PIXEL
        if isinstance(self._network, ModelBackend):
            needed = bytes_per_pixel(self._network.settings, classes)
        if isinstance(self._backend, TestTimeAugmentation):
            largest = max(SCALES) ** 2
            # Two maps of full-size logits of the largest view, and four of the image's own size.
            needed = largest * needed + (2 * largest + 4) * FLOAT_BYTES * classes
        return needed

    @cached_property
    def _receptive_field_px(self) -> int | None:
        """None also where it is unknown: for scaled views, and for a backend that is not one of ours."""
        return receptive_field_px(self._backend.settings) if isinstance(self._backend, ModelBackend) else None


def margin_within(overlap_px: int, receptive_field_px: int | None) -> int:
    """The receptive field if the overlap has room for it on both sides; else three eighths of the overlap.

    Blending alone gives weight to the worst predictions: with 128 pixels of overlap, six times as many labels of a
    trained model differed from those of the whole image. Without a receptive field, logits near the border are no worse
    than the others, and nothing is dropped (docs/prediction.md has the figures).
    """
    if receptive_field_px is None:
        return 0
    return receptive_field_px if 2 * receptive_field_px <= overlap_px else overlap_px * 3 // 8


def default_overlap(tile_px: int, receptive_field_px: int | None) -> int:
    """Twice the receptive field, if known and at most a quarter of the tile; else an eighth of the tile."""
    if receptive_field_px is not None and (exact := round_up(2 * receptive_field_px, GRID_PX)) <= tile_px // 4:
        return exact
    return round_up(tile_px // 8, GRID_PX)


PROBE_PX = 2048
"""Width of the probed image; a receptive field of more than half of it is taken as unlimited."""


def receptive_field_px(settings: ModelConfig) -> int | None:
    """Distance in pixels from the border of a window within which logits depend on pixels outside the window.

    Valid for a border anywhere on the grid of the coarsest level.

    Returns:
        None if there is no such number: statistics over the whole image (group norm, squeeze-and-excitation) depend on
        every pixel; windowed attention depends on where its windows start; `align_corners` stretches maps by the size
        of the image.
    """
    if settings.align_corners:
        return None
    network = meta_model(settings, num_classes=1).to_empty(device="cpu")
    with torch.no_grad():
        for tensor in itertools.chain(network.parameters(), network.buffers()):
            tensor.fill_(1e-3 if tensor.is_floating_point() else 0)  # none is zero by accident
    middle = PROBE_PX // 2
    reached = _nan_px(network, middle)
    if reached >= middle or _nan_px(network, middle + GRID_PX) != reached:
        return None
    return max(reached, _nan_px(network, middle, mirrored=True))


@torch.inference_mode()
def _nan_px(network: Segmenter, border_px: int, *, mirrored: bool = False) -> int:
    """Pixels before the border whose logits are NaN if all pixels from the border on are NaN."""
    image = torch.full((1, network.settings.in_channels, GRID_PX, PROBE_PX), 0.5)
    image[..., border_px:] = torch.nan
    logits = network.coarse_logits(image.flip(-1) if mirrored else image)[0]
    columns = logits.isnan().any(dim=0).any(dim=0)
    stride = network.settings.finest_stride
    return int((columns.flip(0) if mirrored else columns)[: border_px // stride].sum()) * stride


SAMPLE_PX = 512


def bytes_per_pixel(settings: ModelConfig, num_classes: int) -> float:
    """Memory per image pixel at the peak of `coarse_logits` in float32, without the weights.

    Measured on the meta device, which takes neither arithmetic nor memory.
    """
    image = torch.empty(1, settings.in_channels, SAMPLE_PX, SAMPLE_PX, dtype=torch.uint8, device="meta")
    network = meta_model(settings, num_classes)
    with torch.inference_mode(), LiveBytes() as live:
        network.coarse_logits(image)
    return float(live.peak / SAMPLE_PX**2)


class LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds the storages that operators allocate, and subtracts those that are freed."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.live = self.peak = 0
        self._known: weakref.WeakSet[torch.UntypedStorage] = weakref.WeakSet()

    def __torch_dispatch__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor) and (storage := tensor.untyped_storage()) not in self._known:
                self._known.add(storage)
                self.live += storage.nbytes()
                self.peak = max(self.peak, self.live)
                weakref.finalize(storage, self._free, storage.nbytes())
        return result

    def _free(self, size: int) -> None:
        self.live -= size
