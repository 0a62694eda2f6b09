"""Segmenter: the whole network, from an image of any size to logits of the same size.

    image -> normalise -> pad -> encoder -> FPN decoder -> spatial dropout -> 1x1 classifier -> upsample, crop -> logits

Sources: Feature Pyramid Networks, Lin et al. 2017, arXiv 1612.03144; the semantic branch of Panoptic Feature Pyramid
Networks, Kirillov et al. 2019, arXiv 1901.02446 section 3. The decoder is in `fpn.py`, the encoder in `encoder.py`.

Legend: B batch, C channels, H W pixels, K classes.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any, Unpack

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.device import loading_without_threads
from pyramidseg.base.errors import ConfigError, DataError
from pyramidseg.base.overrides import make_model_config
from pyramidseg.base.train_overrides import ModelOverrides
from pyramidseg.images.value_range import ValueRange
from pyramidseg.model.bundle import Bundle, check_tensors, class_rows, read_bundle, unsupported, write_bundle
from pyramidseg.model.encoder import Encoder, resolve_encoder
from pyramidseg.model.fpn import FPNDecoder, SpatialDropout
from pyramidseg.model.input_scaling import normalize

HEADS = ("classifier.", "head.")
"""Beginnings of the names of the tensors whose shape depends on the classes."""


def create_model(
    encoder: str,
    *,
    num_classes: int | None = None,
    classes: Classes | Iterable[str] | None = None,
    encoder_weights: str | None = "imagenet",
    in_channels: int = 3,
    dropout: float = 0.2,
) -> "Segmenter":
    """A network by the name of its encoder; `Segmenter` takes every other setting too.

        model = create_model("resnet50", num_classes=19)

    Args:
        encoder: `resnet`, `efficientnet`, or the name of a timm network, such as `convnext_tiny`.
        classes: class names, instead of their number.
        encoder_weights: `imagenet`, a tag of timm, a file of tensors, or `none` for random weights.

    Raises:
        ConfigError: an unknown encoder or a value out of range.
        WeightsError: the encoder weights cannot be loaded.
    """
    return Segmenter(
        classes=classes,
        num_classes=num_classes,
        encoder=encoder,
        encoder_weights=encoder_weights,
        in_channels=in_channels,
        dropout=dropout,
    )


def load_model(path: str | Path) -> "Segmenter":
    """The model of a bundle, on the CPU, in evaluation mode.

    Raises:
        WeightsError: the file does not exist, is damaged, is not a bundle, or was written by an incompatible version.
    """
    return Segmenter.load(path)


class Segmenter(nn.Module):
    """Semantic segmentation with a Feature Pyramid Network: images in, logits of their own height and width out.

        model = Segmenter(encoder="resnet50", num_classes=19)
        logits = model(images)  # (B, 3, H, W) to (B, 19, H, W)

    Input: (B, C, H, W) with any H, W >= 1. Integers in their type's range (uint8 0-255, uint16 0-65535), floats in
    [0, 1]; other rasters (int16, unscaled floats) in raw units, after `set_normalization` in those units. Normalisation
    is part of the model.

    Args:
        config: settings of the network; keyword arguments override single settings (`ModelConfig` documents them).
        classes: names, with or without colours; or give `num_classes`.

    Attributes:
        settings: the resolved `ModelConfig`.
        encoder_source: where the encoder's weights came from.
        value_range: type and range of the training images; None if unknown.

    Raises:
        ConfigError: settings that do not exist, are out of range or contradict each other.
        WeightsError: weights that cannot be loaded or do not fit.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        config: ModelConfig | None = None,
        *,
        classes: Classes | Iterable[str] | None = None,
        num_classes: int | None = None,
        **overrides: Unpack[ModelOverrides],
    ) -> None:
        super().__init__()
        self.settings = settings = make_model_config(config, **overrides)
        self.classes = _make_classes(classes, num_classes)
        self.encoder = Encoder(
            resolve_encoder(settings.encoder, settings.encoder_depth),
            # A bundle in `weights` includes the encoder: nothing is downloaded only to be overwritten.
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
        self.encoder_source = self.encoder.source
        self.value_range: ValueRange | None = None
        self.register_buffer("mean", torch.tensor(self.encoder_source.mean))
        self.register_buffer("std", torch.tensor(self.encoder_source.std))
        if settings.weights != "random":
            self.load_weights(settings.weights)

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
        """The encoder's maps of the normalised, padded image, finest first: (B, C_i, h / stride_i, w / stride_i).

        Raises:
            DataError: see `normalize`.
        """
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
        """The fully connected layer on the averaged coarsest map, the last of `encoder_maps`: (B, K).

        Raises:
            ConfigError: the model has no image-level head.
        """
        if self.head is None:
            raise ConfigError("this model has no image-level head: build it with image_head=True")
        logits: Tensor = self.head(encoder_maps[-1].mean(dim=(2, 3)))
        return logits

    def normalize(self, image_BCHW: Tensor) -> Tensor:
        """Scale by the type's range, subtract the mean, divide by the standard deviation; in the model's dtype.

        Raises:
            DataError: not (B, in_channels, H, W) with at least one pixel, or a type whose range is unknown, as int64.
        """
        if image_BCHW.ndim != 4 or image_BCHW.shape[1] != self.settings.in_channels or image_BCHW.numel() == 0:
            raise DataError(
                f"images of shape {tuple(image_BCHW.shape)}: this model takes (B, {self.settings.in_channels}, H, W)"
            )
        return normalize(image_BCHW, self.mean, self.std)

    def set_normalization(self, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Replace the statistics, in the units described for the input.

        Raises:
            ConfigError: not one mean and one deviation above 0 for each channel.
        """
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
        """Reject batches that leave batch norm one value per channel, whose variance is 0.

        Raises:
            ConfigError: before anything is computed.
        """
        stride = self.settings.coarsest_stride
        values = batch * -(-height // stride) * -(-width // stride)
        norms = [module for module in self.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
        if values < 2 and any(norm.training for norm in norms):
            raise ConfigError(
                f"a batch of {batch} crop of {height}x{width} leaves batch norm one value per channel at stride "
                f"{stride}: use a batch of at least 3, a crop above {stride}, or freeze the encoder and set norm=group"
            )

    def save(self, path: str | Path, *, facts: Mapping[str, Any] = MappingProxyType({})) -> None:
        """Write a bundle: the weights and everything that is needed to use them.

        Args:
            facts: JSON serialisable values by name that are stored in the file, such as metrics.
        """
        contents = (self.state_dict(), self.settings, self.classes, self.encoder_source, dict(facts))
        write_bundle(Bundle(Path(path), *contents, value_range=self.value_range))

    @classmethod
    def load(cls, path: str | Path) -> "Segmenter":
        """See `load_model`."""
        with loading_without_threads():
            return cls.from_bundle(read_bundle(path))

    @classmethod
    def from_bundle(cls, bundle: Bundle) -> "Segmenter":
        """The model of a bundle in memory, on the CPU, in evaluation mode.

        Raises:
            WeightsError: this version cannot build a model of these settings, or the tensors do not fit it.
        """
        try:
            with torch.random.fork_rng([]):  # loading must not change the caller's random state
                with torch.device("meta"):  # takes no memory, whatever sizes the settings claim
                    claimed = cls.without_weights(bundle.config, classes=bundle.classes)
                check_tensors(bundle, claimed.state_dict(), config=claimed.settings)
                model = cls.without_weights(bundle.config, classes=bundle.classes)
        except ConfigError as error:
            raise unsupported(bundle.path, bundle.version, error) from None
        own = model.state_dict()
        model.load_state_dict({**own, **bundle.tensors})
        model.encoder_source, model.value_range = bundle.encoder_source, bundle.value_range
        return model.eval()

    @classmethod
    def without_weights(cls, config: ModelConfig, *, classes: Classes) -> "Segmenter":
        """A model whose tensors are to be loaded by the caller, all of them; no weights are downloaded or read."""
        model = cls(config, classes=classes, encoder_weights="none", weights="random")
        model.settings = model.settings.model_copy(update={"encoder_weights": config.encoder_weights})
        return model

    def load_weights(self, path: str | Path, *, reset_head: bool = False) -> str:
        """Load a bundle's weights, normalisation included; all of them, or nothing.

        Classes of the same names in another order are mapped by name.

        Args:
            reset_head: keep the initial values of the layers whose shape depends on the classes.

        Returns:
            What was loaded, as a clause.

        Raises:
            WeightsError: the classes differ and `reset_head` is not set, or another tensor is absent or misshapen.
        """
        bundle, own = read_bundle(path), self.state_dict()
        rows = [] if reset_head else class_rows(bundle, self.classes)
        reset = tuple(name for name in own if name.startswith(HEADS)) if reset_head else ()
        check_tensors(bundle, own, config=self.settings, skip=reset)
        loaded = {name: bundle.tensors[name] for name in own if name not in reset and name in bundle.tensors}
        loaded |= {name: tensor[rows] for name, tensor in loaded.items() if name.startswith(HEADS)}
        self.load_state_dict(own | loaded)
        self.encoder_source, self.value_range = bundle.encoder_source, bundle.value_range
        clauses = [f"{len(loaded)} of {len(loaded) + len(reset)} tensors loaded"]
        clauses += [f"reinitialised: {', '.join(reset)}"] if reset else []
        clauses += ["classes in another order, mapped by name"] if rows != sorted(rows) else []
        return "; ".join(clauses)


def _make_classes(classes: Classes | Iterable[str] | None, num_classes: int | None) -> Classes:
    if classes is None:
        if not isinstance(num_classes, int) or isinstance(num_classes, bool):
            raise ConfigError(f"num_classes={num_classes!r}: give num_classes=N or classes=[name, ...]")
        return Classes.unnamed(num_classes)
    classes = classes if isinstance(classes, Classes) else Classes.from_names(classes)
    if num_classes is not None and num_classes != len(classes):
        raise ConfigError(f"num_classes={num_classes} contradicts the {len(classes)} classes given; give one of them")
    return classes
