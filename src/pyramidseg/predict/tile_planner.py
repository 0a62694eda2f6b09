"""Which images are cut into tiles, and how: as asked for, or by the memory that is free."""

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
from pyramidseg.base.errors import ConfigError, DeviceError
from pyramidseg.base.machine import free_bytes
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.tiling import GRID_PX, SMALLEST_TILE_PX, Tiles, check_side, round_up
from pyramidseg.predict.tta import TestTimeAugmentation

# A network without its weights, for questions that only its structure answers: what it needs, how far it reaches.

PROBE_PX = 2048
"""Width of the image that probes the reach; networks that reach further than half of it reach everywhere."""


def skeleton(settings: ModelConfig, num_classes: int) -> Segmenter:
    """The network of some settings on the meta device, where tensors have shapes and no values."""
    with torch.device("meta"):
        model = Segmenter(settings, num_classes=num_classes, encoder_weights="none", weights="random")
    return model.to("meta").eval()


def receptive_field_px(network: Segmenter) -> int | None:
    """How far an image's border spoils what lies beside it: the theoretical receptive field, on one side.

    Found by letting NaN spread. Whatever a NaN touches becomes NaN: sums, products with any weight, maxima, means. So
    an image whose right half is NaN has coarse logits that are NaN exactly where they depend on anything beyond its
    middle, by whichever way through the network. A window that ends there has zeros in that place, at every layer.

    Args:
        network: what `skeleton` gives. All its weights become one small number, none an accidental zero.

    Returns:
        Pixels, for a border anywhere on the grid of the coarsest level. None where that makes no sense: a statistic
        over the whole image (group norm, squeeze-excite) reaches everywhere; attention in windows depends on where
        these begin, so that a border reaches here further than there; `align_corners` stretches maps by the image's
        size.
    """
    if network.settings.align_corners:
        return None
    probed = network.to_empty(device="cpu")
    with torch.no_grad():
        for tensor in itertools.chain(probed.parameters(), probed.buffers()):
            tensor.fill_(1e-3 if tensor.is_floating_point() else 0)
    middle = PROBE_PX // 2
    spoilt = _spoilt_px(probed, middle)
    if spoilt >= middle or _spoilt_px(probed, middle + GRID_PX) != spoilt:
        return None
    return max(spoilt, _spoilt_px(probed, middle, mirrored=True))


@torch.inference_mode()
def _spoilt_px(network: Segmenter, border_px: int, *, mirrored: bool = False) -> int:
    """Pixels before the border whose logits are NaN if all pixels from the border on are."""
    image = torch.full((1, network.settings.in_channels, GRID_PX, PROBE_PX), 0.5)
    image[..., border_px:] = torch.nan
    logits = network.coarse_logits(image.flip(-1) if mirrored else image)[0]
    columns = logits.isnan().any(dim=0).any(dim=0)
    stride = network.settings.finest_stride
    return int((columns.flip(0) if mirrored else columns)[: border_px // stride].sum()) * stride


# How much memory a network needs for a pixel.

USABLE_SHARE = 0.5
"""Of the free memory: the rest is for scratch memory, fragments, images that wait, and other programs."""

_SAMPLE_PX = 512


def bytes_per_pixel(network: Segmenter) -> float:
    """Memory that a pixel of an image takes at the peak of `coarse_logits` in float32, the weights aside.

    Args:
        network: on the meta device (`skeleton`).
    """
    image = torch.empty(1, network.settings.in_channels, _SAMPLE_PX, _SAMPLE_PX, dtype=torch.uint8, device="meta")
    with torch.inference_mode(), _LiveBytes() as live:
        network.coarse_logits(image)
    return float(live.peak / _SAMPLE_PX**2)


class _LiveBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Adds up the storages that operators make, and takes off those that go."""

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
                weakref.finalize(storage, self._gone, storage.nbytes())
        return result

    def _gone(self, size: int) -> None:
        self.live -= size


TilePx = int | Literal["auto", "whole"]

ALWAYS_WHOLE_PIXELS = 2**21
"""Up to here `auto` looks neither at the memory nor at the network."""

LEAST_AUTO_TILE_PX = 256
"""Smaller windows see too little: then `auto` says that memory is short."""

UNKNOWN_BYTES_PER_PIXEL = 1000.0
"""For a backend of somebody's own: twice what our larger networks take."""

FLOAT_BYTES = 4


class TileChoice:
    """How to cut an image of some size for a backend.

    Args:
        tile_px: side of the windows; `auto`: the whole image where it fits into memory, else the largest windows that
            do; `whole`: never cut.
        overlap_px: by default, what makes tiles give the same as the whole image where that is at most a quarter of
            the tile, else an eighth of the tile.

    Raises:
        ConfigError: sides that are off the grid, or an overlap of more than half the tile.
    """

    def __init__(self, backend: Backend, *, tile_px: TilePx = "auto", overlap_px: int | None = None) -> None:
        if isinstance(tile_px, str) and tile_px not in ("auto", "whole"):
            raise ConfigError(f"tile_px={tile_px}: auto, whole, or a number of pixels")
        if overlap_px is not None:
            check_side("overlap_px", overlap_px, least=0)
        if isinstance(tile_px, int):
            check_side("tile_px", tile_px, least=SMALLEST_TILE_PX)
            Tiles(tile_px, overlap_px or 0)
        self._backend = backend
        self._network = backend.backend if isinstance(backend, TestTimeAugmentation) else backend
        self._tile_px = tile_px
        self._overlap_px = overlap_px

    def tiles(self, height: int, width: int) -> Tiles | None:
        """How to cut an image; None if it is predicted whole.

        Raises:
            DeviceError: not even small tiles fit into memory.
        """
        if self._tile_px == "whole":
            return None
        if isinstance(self._tile_px, int):
            side_px = self._tile_px
        elif height * width <= ALWAYS_WHOLE_PIXELS:
            return None
        else:
            side_px = self._largest_that_fits(height, width)
        if max(height, width) <= side_px:
            return None
        reach = self._reach_px
        overlap_px = default_overlap(side_px, reach) if self._overlap_px is None else self._overlap_px
        return Tiles(side_px, overlap_px, margin_within(overlap_px, reach))

    def _largest_that_fits(self, height: int, width: int) -> int:
        usable = USABLE_SHARE * free_bytes(self._device)
        least = max(LEAST_AUTO_TILE_PX, 2 * (self._overlap_px or 0))
        for side_px in range(round_up(max(height, width), GRID_PX), least - 1, -GRID_PX):
            if self.needed_bytes(side_px, height, width) <= usable:
                return side_px
        raise DeviceError(
            f"an image of {height}x{width}: even tiles of {least} pixels need "
            f"{self.needed_bytes(least, height, width) / 2**20:.0f} MiB, and {usable / 2**20:.0f} MiB are usable "
            f"(half of what is free on {self._device}); free some memory, or take another device or a smaller tile_px"
        )

    def needed_bytes(self, side_px: int, height: int, width: int) -> float:
        """Peak memory with windows of this side: one of them, and two rows of windows as coarse logits."""
        seen_height, seen_width = (round_up(min(side_px, length), GRID_PX) for length in (height, width))
        needed = self._bytes_per_pixel * seen_height * seen_width
        if max(height, width) > side_px:
            points = seen_height * round_up(width, GRID_PX) / self._backend.geometry.stride**2
            needed += 2 * FLOAT_BYTES * len(self._backend.classes) * points
        return needed

    @property
    def _device(self) -> torch.device:
        """Whose memory decides: that of what computes; the machine's where torch does not know that."""
        known = self._network.computing_device if isinstance(self._network, ModelBackend) else None
        return torch.device("cpu") if known is None else known

    @cached_property
    def _bytes_per_pixel(self) -> float:
        classes = len(self._backend.classes)
        needed = UNKNOWN_BYTES_PER_PIXEL
        if isinstance(self._network, ModelBackend):
            needed = bytes_per_pixel(skeleton(self._network.settings, classes))
        if isinstance(self._backend, TestTimeAugmentation):
            largest = max(self._backend.scales) ** 2
            # Two maps of full-size logits of the largest view, and four of the image's own size.
            needed = largest * needed + (2 * largest + 4) * FLOAT_BYTES * classes
        return needed

    @cached_property
    def _reach_px(self) -> int | None:
        """None where it is not known, too: of scaled views, and of a backend of somebody's own."""
        if not isinstance(self._backend, ModelBackend):
            return None
        return receptive_field_px(skeleton(self._backend.settings, len(self._backend.classes)))


def margin_within(overlap_px: int, receptive_field_px: int | None) -> int:
    """What the border spoils, where the overlap has room for it on both sides; else three eighths of the overlap.

    Blending alone lets the worst predictions count: with 128 pixels of overlap, six times as many labels of a trained
    model differed from the whole image's. Where the border reaches everywhere, its neighbourhood is no worse than the
    rest, and nothing is dropped (docs/prediction.md has the figures).
    """
    if receptive_field_px is None:
        return 0
    return receptive_field_px if 2 * receptive_field_px <= overlap_px else overlap_px * 3 // 8


def default_overlap(tile_px: int, receptive_field_px: int | None) -> int:
    """Twice the reach, if known and no more than a quarter of the tile; else an eighth of it."""
    if receptive_field_px is not None and (exact := round_up(2 * receptive_field_px, GRID_PX)) <= tile_px // 4:
        return exact
    return round_up(tile_px // 8, GRID_PX)
