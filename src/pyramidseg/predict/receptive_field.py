"""Theoretical receptive field of a network, measured by letting NaN spread through it.

Every operation on a NaN gives NaN: sums, products with any weight, maxima, means. So an image whose right half is NaN
has logits that are NaN exactly where they depend on any pixel beyond its middle, by whichever path through the network.
A window of an image that ends there sees zero padding in that place, at every layer.
"""

import itertools

import torch

from pyramidseg.base.config import ModelConfig
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.tiling import GRID_PX

PROBE_PX = 2048
"""Width of the probed image; a receptive field of more than half of it is taken as unlimited."""


def meta_model(settings: ModelConfig, num_classes: int) -> Segmenter:
    """The network on the meta device, in evaluation mode: its tensors have shapes and no values."""
    with torch.device("meta"):
        model = Segmenter(settings, num_classes=num_classes, encoder_weights="none", weights="random")
    return model.to("meta").eval()


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
