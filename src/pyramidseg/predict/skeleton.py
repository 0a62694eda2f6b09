"""A network without its weights, for questions that only its structure answers: what it needs, how far it reaches."""

import itertools

import torch

from pyramidseg.config import ModelConfig
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.tiling import GRID_PX

PROBE_PX = 2048
"""Width of the image that probes the reach; networks that reach further than half of it reach everywhere."""


def skeleton(settings: ModelConfig, num_classes: int) -> Segmenter:
    """The network of some settings on the meta device, where tensors have shapes and no values."""
    arguments = {**settings.model_dump(), "encoder_weights": "none", "weights": "random"}
    with torch.device("meta"):
        return Segmenter(num_classes=num_classes, **arguments).to("meta").eval()


def reach_px(network: Segmenter) -> int | None:
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
