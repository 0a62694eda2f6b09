"""Segmenter: normalise, encoder, Feature Pyramid decoder, spatial dropout, classifier.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Literal

import torch
import torch.nn.functional as F
from pydantic import ValidationError
from torch import Tensor, nn

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.overrides import explain
from pyramidseg.model.encoder import Encoder, resolve_encoder
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.fpn import FPNDecoder, SpatialDropout
from pyramidseg.model.normalization import normalize


class Segmenter(nn.Module):
    """Images in, logits of their own height and width out.

    The settings are those of DESIGN section 2 (see `ModelConfig`); give `classes`, or only their number.

    Input: (B, C, H, W), any H and W >= 1. Integers in their type's range (uint8 0-255, uint16 0-65535), floats in
    [0, 1]; rasters that are neither (int16, other floats) in raw units, with `set_normalization` in those units.

    Raises:
        ConfigError: settings that do not exist, are out of range or contradict each other.
        WeightsError: encoder weights that cannot be had or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        num_classes: int | None = None,
        classes: Classes | Iterable[str] | None = None,
        encoder: str = "resnet",
        encoder_depth: int | None = None,
        encoder_weights: str | None = "imagenet",
        weights: str | None = "random",
        dropout: float = 0.2,
        in_channels: int = 3,
        input_bands: tuple[int, ...] | None = None,
        finest_stride: Literal[2, 4] = 4,
        coarsest_stride: Literal[8, 16, 32] = 32,
        pyramid_channels: int = 256,
        segmentation_channels: int = 128,
        merge: Literal["add", "concat"] = "add",
        norm: Literal["batch", "group"] = "batch",
        smoothing: bool = True,
        align_corners: bool = False,
        interpolation: Literal["nearest", "bilinear"] = "nearest",
        image_head: bool = False,
    ) -> None:
        super().__init__()
        given = {name: value for name, value in locals().items() if name in ModelConfig.model_fields}
        self.settings = validated(given)
        self.classes = _classes(classes, num_classes)
        settings = self.settings
        # A bundle brings the encoder's weights along: nothing is downloaded only to be overwritten.
        self.encoder = Encoder(
            resolve_encoder(settings.encoder, settings.encoder_depth),
            weights=settings.encoder_weights if settings.weights == "random" else "none",
            in_channels=settings.in_channels,
            finest_stride=settings.finest_stride,
            coarsest_stride=settings.coarsest_stride,
        )
        self.decoder = FPNDecoder(
            self.encoder.channels,
            self.encoder.strides,
            pyramid_channels=settings.pyramid_channels,
            segmentation_channels=settings.segmentation_channels,
            merge=settings.merge,
            norm=settings.norm,
            smoothing=settings.smoothing,
            interpolation=settings.interpolation,
            align_corners=settings.align_corners,
        )
        self.dropout = SpatialDropout(settings.dropout)
        self.classifier = nn.Conv2d(self.decoder.channels, len(self.classes), 1)
        self.head = nn.Linear(self.encoder.channels[-1], len(self.classes)) if settings.image_head else None
        self._initialise_heads()
        source = self.encoder.source
        self.register_buffer("mean", torch.tensor(source.mean))
        self.register_buffer("std", torch.tensor(source.std))
        self.encoder_source: EncoderSource = source
        if settings.weights != "random":
            from pyramidseg.model.bundle import load_weights  # bundle builds Segmenters: the import has to be late

            load_weights(self, Path(settings.weights))

    def _initialise_heads(self) -> None:
        """Normal weights of deviation 0.01, biases 0: training begins near the uniform prediction, loss log K.

        As MMSegmentation's decode heads; Kaiming over the fan out, as in Panoptic FPN's reference implementation,
        begins at a loss of 19 with 8 classes.
        """
        nn.init.normal_(self.classifier.weight, std=0.01)
        assert self.classifier.bias is not None
        nn.init.zeros_(self.classifier.bias)
        if self.head is not None:
            nn.init.normal_(self.head.weight, std=0.01)
            nn.init.zeros_(self.head.bias)

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """(B, C, H, W) to logits (B, K, H, W)."""
        height, width = image_BCHW.shape[-2:]
        return self.upsample(self.coarse_logits(image_BCHW), height, width)

    def coarse_logits(self, image_BCHW: Tensor) -> Tensor:
        """Logits before the last upsampling: (B, K, h, w) at the finest stride of the padded image."""
        merged: Tensor = self.decoder(self.encoder_maps(image_BCHW))
        logits: Tensor = self.classifier(self.dropout(merged))
        return logits

    def upsample(self, coarse_logits: Tensor, height: int, width: int) -> Tensor:
        """Logits of the padded image at the finest stride to (B, K, height, width): bilinear, then cropped."""
        finest = self.settings.finest_stride
        size = (coarse_logits.shape[-2] * finest, coarse_logits.shape[-1] * finest)
        logits = F.interpolate(coarse_logits, size=size, mode="bilinear", align_corners=self.settings.align_corners)
        return logits[..., :height, :width]

    def encoder_maps(self, image_BCHW: Tensor) -> list[Tensor]:
        """The encoder's maps of the normalised, padded image, finest first."""
        maps: list[Tensor] = self.encoder(self.pad(self.normalize(image_BCHW)))
        return maps

    def pyramid_maps(self, image_BCHW: Tensor) -> list[Tensor]:
        """The smoothed maps of the pyramid, finest first: (B, P, h / stride, w / stride) of the padded image."""
        maps: list[Tensor] = self.decoder.pyramid(self.encoder_maps(image_BCHW))
        return maps

    def image_logits(self, image_BCHW: Tensor) -> Tensor:
        """Logits (B, K) of each class being anywhere in the image, from the image-level head."""
        return self.classify(self.encoder_maps(image_BCHW))

    def logits_with_image_logits(self, image_BCHW: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` and `image_logits` of one pass through the encoder: (B, K, H, W) and (B, K)."""
        maps = self.encoder_maps(image_BCHW)
        coarse = self.classifier(self.dropout(self.decoder(maps)))
        return self.upsample(coarse, *image_BCHW.shape[-2:]), self.classify(maps)

    def classify(self, encoder_maps: list[Tensor]) -> Tensor:
        """The fully connected layer on the averaged coarsest map: (B, K)."""
        if self.head is None:
            raise ConfigError("this model has no image-level head: build it with image_head=True")
        logits: Tensor = self.head(encoder_maps[-1].mean(dim=(2, 3)))
        return logits

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """Scale by the type's range, subtract the mean, divide by the standard deviation; in the model's dtype."""
        if image_BCHW.ndim != 4 or image_BCHW.shape[1] != self.settings.in_channels or image_BCHW.numel() == 0:
            raise DataError(
                f"images of shape {tuple(image_BCHW.shape)}: this model takes (B, {self.settings.in_channels}, H, W)"
            )
        return normalize(image_BCHW, self.mean, self.std)

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Replace the statistics, in the units described for the input."""
        if not len(mean) == len(std) == self.settings.in_channels or min(std) <= 0:
            raise ConfigError(
                f"normalisation of {len(mean)} means and {len(std)} deviations: "
                f"{self.settings.in_channels} each are needed, deviations above 0"
            )
        self.mean.copy_(torch.tensor(mean))
        self.std.copy_(torch.tensor(std))

    def pad(self, image_BCHW: Tensor) -> Tensor:
        """Zeros (the mean colour) below and to the right, up to a multiple of the coarsest stride."""
        stride = self.settings.coarsest_stride
        bottom, right = -image_BCHW.shape[-2] % stride, -image_BCHW.shape[-1] % stride
        return F.pad(image_BCHW, (0, right, 0, bottom)) if bottom or right else image_BCHW

    def check_training_batch(self, batch: int, height: int, width: int) -> None:
        """Refuse batches that leave batch norm one value per channel, whose variance is 0.

        Raises:
            ConfigError: before anything is computed.
        """
        stride = self.settings.coarsest_stride
        values = batch * -(-height // stride) * -(-width // stride)
        normed = any(
            isinstance(module, nn.modules.batchnorm._BatchNorm) and module.training for module in self.modules()
        )
        if normed and values < 2:
            raise ConfigError(
                f"a batch of {batch} crop of {height}x{width} leaves batch norm one value per channel at stride "
                f"{stride}: use a batch of at least 2, a crop above {stride}, or freeze the encoder and set norm=group"
            )

    def save(self, path: str | Path, **facts: Any) -> None:
        """Write a bundle: weights with everything that is needed to use them. `facts` are stored with it."""
        from pyramidseg.model.bundle import save_bundle

        save_bundle(self, Path(path), facts=facts)

    @classmethod
    def load(cls, path: str | Path) -> "Segmenter":
        """The model of a bundle, on the CPU, in evaluation mode.

        Raises:
            WeightsError: absent, damaged or foreign.
        """
        from pyramidseg.model.bundle import load_bundle

        return load_bundle(Path(path)).model


def validated(settings: Mapping[str, Any]) -> ModelConfig:
    """`ModelConfig` from loose values, with errors in words."""
    try:
        return ModelConfig.model_validate(settings)
    except ValidationError as error:
        raise explain(error, origin="model") from None


def _classes(given: Classes | Iterable[str] | None, num_classes: int | None) -> Classes:
    if given is None:
        if not isinstance(num_classes, int) or isinstance(num_classes, bool):
            raise ConfigError(f"num_classes={num_classes!r}: a Segmenter needs classes=[name, ...] or num_classes=N")
        return Classes.numbered(num_classes)
    classes = given if isinstance(given, Classes) else Classes.named(given)
    if num_classes is not None and num_classes != len(classes):
        raise ConfigError(f"num_classes={num_classes} contradicts {len(classes)} classes: give one of them")
    return classes
