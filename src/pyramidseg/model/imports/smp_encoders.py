"""Encoders of segmentation_models.pytorch (smp) that are networks of timm: the same tensors and the same maps.

smp's ResNets and ResNeXts are torchvision's, its SENets Cadene's, its `timm-efficientnet` and `tu-` encoders timm's.
tests/model/test_imports.py compares the tensors and test_oracle.py the logits with smp's in float64. The names are from
encoders/resnet.py, senet.py, timm_efficientnet.py and timm_universal.py of smp 0.6.0.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import timm
import torch
from timm.models import get_pretrained_cfg, is_model
from torch import Tensor

from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.encoder_weights import IMAGENET_MEAN, IMAGENET_STD, EncoderSource
from pyramidseg.model.imports.foreign_checkpoint import ImportOptions

TIMM_NAMES: dict[str, str] = {
    **{f"resnet{depth}": f"resnet{depth}" for depth in (18, 34, 50, 101, 152)},
    **{f"resnext{kind}": f"resnext{kind}" for kind in ("50_32x4d", *(f"101_32x{n}d" for n in (4, 8, 16, 32)))},
    **{f"se_{name}": f"legacy_se{name}" for name in ("resnet50", "resnet101", "resnet152")},
    **{f"se_{name}": f"legacy_se{name}" for name in ("resnext50_32x4d", "resnext101_32x4d")},
    "senet154": "legacy_senet154",
    **{f"timm-efficientnet-{size}": f"efficientnet_{size}" for size in (*(f"b{n}" for n in range(9)), "l2")},
    **{f"timm-tf_efficientnet_lite{n}": f"efficientnet_lite{n}" for n in range(5)},
}
"""timm's network by smp's name, apart from `tu-NAME`, which is timm's NAME."""

POSSIBLE = (
    "resnet, resnext, se_resnet, se_resnext, senet154, timm-efficientnet, timm-tf_efficientnet_lite, and tu-NAME for a "
    "NAME of timm"
)

FIXED_PADDING = (
    "smp's EfficientNet fixes its padding for one image size, and ours depends on the image; "
    "checkpoints with smp's encoders tu-tf_efficientnet_b0 to b7 and timm-efficientnet-b0 to b8 can be imported"
)

UNUSED_LAYERS = ("conv_head.", "bn2.")
"""Layers of the classifier that smp's `timm-efficientnet` encoders keep and never use."""

Statistics = tuple[float, ...]
"""One number per channel."""


@dataclass(frozen=True)
class TimmEncoder:
    """timm's network that equals an encoder of smp.

    Attributes:
        name: in timm.
        prefix: of its tensors' names in smp's network.
        shapes: of all its tensors down to the coarsest stride, by name without `prefix`.
        channels: of its maps by stride.
        unused: prefixes of further tensors that smp keeps and never uses.
    """

    name: str
    prefix: str
    shapes: Mapping[str, torch.Size]
    channels: Mapping[int, int]
    unused: tuple[str, ...]

    @property
    def first_conv(self) -> str:
        """Name, in smp's network, of the weight whose second axis is the image's channels."""
        return self.prefix + next(name for name, shape in self.shapes.items() if len(shape) == 4 and shape[1] == 3)

    def is_unused(self, name: str) -> bool:
        """Whether smp stores this tensor without using it, given that our encoder has no such tensor."""
        inside = name.removeprefix(self.prefix)
        return name.startswith(self.prefix) and (inside in self.shapes or inside.startswith(self.unused))


def timm_encoder(encoder: str, *, where: Path) -> TimmEncoder:
    """Timm's network for an encoder by its name in smp; `where` begins the errors.

    Raises:
        WeightsError: timm has no such network, with the reason.
    """
    universal = encoder.startswith("tu-")
    name = encoder.removeprefix("tu-").partition(".")[0] if universal else TIMM_NAMES.get(encoder, "")
    if (reason := _reason_against(encoder, name)) is not None:
        raise WeightsError(f"{where}: encoder {encoder} cannot be imported: {reason}")
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError, ValueError) as error:
        reason = f"timm has no feature maps of it ({error})"
        raise WeightsError(f"{where}: encoder {encoder} cannot be imported: {reason}") from None
    info = network.feature_info
    return TimmEncoder(
        name=name,
        prefix="encoder.model." if universal else "encoder.",
        shapes={key: tensor.shape for key, tensor in network.state_dict().items()},
        channels=dict(zip(info.reduction(), info.channels(), strict=True)),  # type: ignore[operator, union-attr]
        unused=UNUSED_LAYERS if encoder.startswith("timm-") else (),
    )


def _reason_against(encoder: str, name: str) -> str | None:
    if encoder.startswith("efficientnet-"):
        return FIXED_PADDING
    if not name:
        return f"timm has no network with the same tensors and maps; possible: {POSSIBLE}"
    if not is_model(name):
        return f"timm {timm.__version__} has no network {name!r}; possible: {POSSIBLE}"
    settings = get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        return f"timm builds {name} for one image size, which checkpoints do not contain, and ours takes any size"
    return None


def encoder_statistics(encoder: str, weights: str | bool) -> tuple[Statistics, Statistics] | None:
    """Mean and std of smp's `get_preprocessing_params` for RGB in [0, 1]; None if smp has none.

    smp reads them from the hub. Up to 0.4 they were a table in its source (encoders/_legacy_pretrained_settings.py), of
    which this is the part that can be imported.
    """
    if encoder.startswith("tu-"):
        pretrained = get_pretrained_cfg(encoder.removeprefix("tu-"))
        return (tuple(pretrained.mean), tuple(pretrained.std)) if pretrained is not None else None
    if weights == "advprop" or "_lite" in encoder:
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET_MEAN, IMAGENET_STD


def smp_normalization(
    config: Mapping[str, Any], options: ImportOptions, stored: Mapping[str, Tensor], default: EncoderSource
) -> tuple[Statistics, Statistics, str]:
    """Mean and std for images in [0, 1] from the most reliable source available, and a note that names it."""
    if bool(options.mean) != bool(options.std):
        raise ConfigError("`mean` and `std`: give both or neither")
    if not options.input_range > 0:
        raise ConfigError(f"`input_range={options.input_range:g}`: give the largest value of an image, such as 255")
    name, weights, channels = config["encoder_name"], config.get("encoder_weights"), len(default.mean)
    # smp's examples for Lightning store them with the network.
    buffers = [[stored[key] for key in stored if key.rpartition(".")[2] == last] for last in ("mean", "std")]
    if options.mean:
        mean, std, source = options.mean, options.std, "as given"
    elif all(len(found) == 1 and found[0].numel() == channels for found in buffers):
        mean, std = (tuple(found[0].flatten().tolist()) for found in buffers)
        source = "buffers of the checkpoint"
    elif weights and channels == 3 and (known := encoder_statistics(name, weights)):
        mean, std, source = *known, f"smp's for {name} with {weights} weights"
    else:
        mean, std, source = default.mean, default.std, "ImageNet's, assumed; `mean` and `std` set others"
    means, deviations = (" ".join(f"{value:.4g}" for value in values) for values in (mean, std))
    top = options.input_range
    note = f"mean {means}, std {deviations} for images in [0, {top:g}]: {source}"
    return tuple(value / top for value in mean), tuple(value / top for value in std), note
