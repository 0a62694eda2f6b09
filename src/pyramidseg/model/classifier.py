"""Classifier: an encoder with its fully connected layer, as it is pretrained on folders of images.

Legend: B batch, C channels, H W pixels, K classes.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

import pyramidseg
from pyramidseg.errors import ConfigError
from pyramidseg.model.encoder import resolve_encoder
from pyramidseg.model.encoder_weights import create_network
from pyramidseg.model.normalization import normalize
from pyramidseg.model.tensor_files import write_tensors

KIND = "pyramidseg classifier"


class Classifier(nn.Module):
    """Images in, a logit for each class out; whole networks of timm, normalised as the Segmenter normalises.

    Input: (B, C, H, W) as `Segmenter` takes it.

    Raises:
        ConfigError: an unknown network, or one without a classifier.
        WeightsError: weights that cannot be had or do not fit.
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
        self.network, self.source = create_network(
            self.name,
            weights=encoder_weights,
            in_channels=in_channels,
            options={"num_classes": len(self.classes), "drop_rate": dropout},
        )
        if self.network.get_classifier() is None:  # type: ignore[operator]
            raise ConfigError(f"encoder={self.name}: has no classifier to train; choose another network")
        self.register_buffer("mean", torch.tensor(self.source.mean))
        self.register_buffer("std", torch.tensor(self.source.std))

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K)."""
        logits: Tensor = self.network(normalize(image_BCHW, self.mean, self.std))
        return logits

    def save(self, path: Path, *, facts: Mapping[str, Any]) -> None:
        """Write the tensors under timm's names, which `--encoder-weights` takes, with classes and facts beside them."""
        metadata = {
            "format": KIND,
            "version": pyramidseg.__version__,
            "encoder": self.name,
            "classes": json.dumps(self.classes),
            "mean": json.dumps(self.source.mean),
            "std": json.dumps(self.source.std),
            "facts": json.dumps(dict(facts)),
        }
        write_tensors(path, self.network.state_dict(), metadata)
