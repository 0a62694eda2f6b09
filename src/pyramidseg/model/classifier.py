"""Classifier: an encoder with its fully connected layer, for pretraining on folders of images.

Legend: B batch, C channels, H W pixels, K classes.
"""

import json
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call

from pyramidseg.base.errors import ConfigError
from pyramidseg.base.version import __version__
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.model.encoder_weights import CLASSIFIER, create_network
from pyramidseg.model.feature_levels import doubling_strides, find_levels
from pyramidseg.model.input_scaling import normalize
from pyramidseg.model.tensor_files import write_tensors

STRIDES = doubling_strides(4, 32)
"""Strides of the pyramid that the network must have maps for, so that it can be used for segmentation."""


class Classifier(nn.Module):
    """A timm network that maps images to class logits, with the normalisation of `Segmenter`.

    Input: (B, C, H, W) as `Segmenter` accepts it.

    Raises:
        ConfigError: an unknown network, one that segmentation cannot use (`find_levels`), or one without a classifier.
        WeightsError: weights that cannot be loaded or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        classes: Sequence[str],
        *,
        encoder: str = "resnet",
        encoder_depth: int | None = None,
        encoder_weights: str = "none",
        in_channels: int = 3,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.classes = tuple(classes)
        self.name = resolve_encoder(encoder, encoder_depth)
        self.in_channels = in_channels
        levels = find_levels(self.name, STRIDES)
        self.size_multiple = levels.size_multiple
        self.network, self.encoder_source = create_network(
            self.name,
            weights=encoder_weights,
            in_channels=in_channels,
            options={"num_classes": len(self.classes), "drop_rate": dropout, **levels.options},
        )
        if self.network.get_classifier() is None:  # type: ignore[operator]
            raise ConfigError(f"encoder={self.name}: has no classifier to train; choose another network")
        self.register_buffer("mean", torch.tensor(self.encoder_source.mean))
        self.register_buffer("std", torch.tensor(self.encoder_source.std))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.network(normalize(image_BCHW, self.mean, self.std))
        return logits

    @property
    def output_layers(self) -> tuple[nn.Module, ...]:
        """The fully connected layer; distilled networks (SwiftFormer) have two."""
        layers: nn.Module | tuple[nn.Module, ...] = self.network.get_classifier()  # type: ignore[operator]
        return (layers,) if isinstance(layers, nn.Module) else layers

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Replace the statistics, in the units of `normalize`."""
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor(std))

    @torch.no_grad()
    def check_training_batch(self, batch: int, height: int, width: int) -> None:
        """Reject crops that the network does not accept, and batches that leave batch norm one value per channel.

        Runs the network on the meta device, which has shapes and no arithmetic.

        Raises:
            ConfigError: before anything is computed.
        """
        tensors = {name: tensor.to("meta") for name, tensor in (*self.named_parameters(), *self.named_buffers())}
        images = torch.zeros(batch, self.in_channels, height, width, device="meta")
        try:
            functional_call(self, tensors, (images,))
        except Exception as error:  # of many types
            reason = textwrap.shorten(f"{type(error).__name__}: {error}", 100, placeholder=" ...")
            raise ConfigError(
                f"encoder={self.name}: cannot be trained on a batch of {batch} x {height}x{width} pixels ({reason}); "
                f"choose data.crop among the multiples of {self.size_multiple}, or larger batches or crops"
            ) from None

    def save(self, path: Path, *, facts: Mapping[str, Any]) -> None:
        """Write the tensors under timm's names, as `--encoder-weights` reads them, with classes and facts."""
        metadata = {
            "format": CLASSIFIER,
            "version": __version__,
            "encoder": self.name,
            "classes": json.dumps(self.classes),
            "mean": json.dumps(self.mean.tolist()),
            "std": json.dumps(self.std.tolist()),
            "facts": json.dumps(dict(facts)),
        }
        write_tensors(path, self.network.state_dict(), metadata)
