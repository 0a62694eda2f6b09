"""Mean and std of an imported smp network: as given, stored with the tensors, smp's for the encoder, or ImageNet's."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from pyramidseg.base.errors import ConfigError
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.imports.foreign_checkpoint import ImportOptions
from pyramidseg.model.imports.smp_encoders import Statistics, encoder_statistics


def smp_normalization(
    encoder_name: str,
    channels: int,
    config: Mapping[str, Any],
    options: ImportOptions,
    stored: Mapping[str, Tensor],
    default: EncoderSource,
) -> tuple[Statistics, Statistics, str]:
    """Mean and std for images in [0, 1] from the most reliable source available, and a note that names it."""
    if bool(options.mean) != bool(options.std):
        raise ConfigError("--mean and --std: give both or neither")
    if not options.input_range > 0:
        raise ConfigError(f"--input-range {options.input_range:g}: give the largest value of an image, such as 255")
    weights = config.get("encoder_weights")
    if options.mean:
        mean, std, source = options.mean, options.std, "as given"
    elif (buffers := _normalization_buffers(stored, channels)) is not None:
        mean, std, source = *buffers, "buffers of the checkpoint"
    elif weights and channels == 3 and (known := encoder_statistics(encoder_name, weights)):
        mean, std, source = *known, f"smp's for {encoder_name} with {weights} weights"
    else:
        mean, std, source = default.mean, default.std, "ImageNet's, assumed; --mean and --std set others"
    top = options.input_range
    note = f"mean {_joined(mean)}, std {_joined(std)} for images in [0, {top:g}]: {source}"
    return tuple(value / top for value in mean), tuple(value / top for value in std), note


def _normalization_buffers(stored: Mapping[str, Tensor], channels: int) -> tuple[Statistics, Statistics] | None:
    """The buffers `mean` and `std` that smp's examples for Lightning store with the network."""
    found: list[Statistics] = []
    for last in ("mean", "std"):
        values = [tensor for name, tensor in stored.items() if name.rpartition(".")[2] == last]
        if len(values) != 1 or values[0].numel() != channels:
            return None
        found.append(tuple(values[0].flatten().tolist()))
    return found[0], found[1]


def _joined(values: Statistics) -> str:
    return " ".join(f"{value:.4g}" for value in values)
