"""How smp's network wants its images: mean and std, from the surest source there is."""

from collections.abc import Mapping
from typing import Any

from timm.models import get_pretrained_cfg
from torch import Tensor

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD, EncoderSource
from pyramidseg.model.imports.foreign_checkpoint import Choices
from pyramidseg.model.imports.smp.network import Network

Statistics = tuple[float, ...]


def normalization(
    network: Network,
    config: Mapping[str, Any],
    choices: Choices,
    *,
    stored: Mapping[str, Tensor],
    assumed: EncoderSource,
) -> tuple[Statistics, Statistics, str]:
    """Mean and std for images in [0, 1], with a note where they are from.

    Args:
        stored: every tensor of the checkpoint, the network's or not.
        assumed: statistics where nothing is known.

    Raises:
        ConfigError: flags that contradict each other.
    """
    if bool(choices.mean) != bool(choices.std):
        raise ConfigError("--mean and --std: give both or neither")
    if not choices.input_range > 0:
        raise ConfigError(f"--input-range {choices.input_range:g}: the largest value of an image, such as 1 or 255")
    buffers = _buffers(stored, network.in_channels)
    weights = config.get("encoder_weights")
    table = of_encoder(network.encoder, weights) if weights and network.in_channels == 3 else None
    if choices.mean:
        (mean, std), source = (choices.mean, choices.std), "as given"
    elif buffers is not None:
        (mean, std), source = buffers, "the checkpoint's own buffers of these names"
    elif table is not None:
        (mean, std), source = table, f"smp's for {network.encoder} started from {weights} weights"
    else:
        (mean, std), source = (assumed.mean, assumed.std), "ImageNet's, assumed; --mean and --std set others"
    top = choices.input_range
    scaled = tuple(value / top for value in mean), tuple(value / top for value in std)
    return *scaled, f"mean {_joined(mean)}, std {_joined(std)} for images in [0, {top:g}]: {source}"


def of_encoder(encoder: str, weights: str | bool) -> tuple[Statistics, Statistics] | None:
    """Mean and std of smp's `get_preprocessing_params`, for RGB in [0, 1]; None where it has none.

    It fetches them from the network by encoder and weights. Up to 0.4 they were a table in its source
    (encoders/_legacy_pretrained_settings.py), of which this is what can be imported.
    """
    if encoder.startswith("tu-"):
        pretrained = get_pretrained_cfg(encoder.removeprefix("tu-"))
        return (tuple(pretrained.mean), tuple(pretrained.std)) if pretrained is not None else None
    if weights == "advprop" or "_lite" in encoder:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET_MEAN, IMAGENET_STD


def _buffers(stored: Mapping[str, Tensor], channels: int) -> tuple[Statistics, Statistics] | None:
    """The buffers `mean` and `std` that smp's examples for Lightning keep beside the network."""
    found: list[Statistics] = []
    for last in ("mean", "std"):
        values = [tensor for name, tensor in stored.items() if name.rpartition(".")[2] == last]
        if len(values) != 1 or values[0].numel() != channels:
            return None
        found.append(tuple(values[0].flatten().tolist()))
    return found[0], found[1]


def _joined(values: Statistics) -> str:
    return " ".join(f"{value:.4g}" for value in values)
