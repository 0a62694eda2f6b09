"""Encoders of segmentation_models.pytorch (smp) that are networks of timm: the same tensors, the same maps.

Its ResNets and ResNeXts are torchvision's, its SENets Cadene's, its `timm-efficientnet` and `tu-` encoders timm's own.
tests/model/test_imports.py compares the maps with smp's in float64. Its names: encoders/resnet.py, senet.py,
timm_efficientnet.py and timm_universal.py of smp 0.6.0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import timm
import torch
from timm.models import get_pretrained_cfg, is_model
from torch import Tensor

from pyramidseg.base.errors import ConfigError, WeightsError

TIMM_NAMES: dict[str, str] = {
    **{
        name: name
        for name in (
            *("resnet18", "resnet34", "resnet50", "resnet101", "resnet152"),
            *("resnext50_32x4d", "resnext101_32x4d", "resnext101_32x8d", "resnext101_32x16d", "resnext101_32x32d"),
        )
    },
    "se_resnet50": "legacy_seresnet50",
    "se_resnet101": "legacy_seresnet101",
    "se_resnet152": "legacy_seresnet152",
    "se_resnext50_32x4d": "legacy_seresnext50_32x4d",
    "se_resnext101_32x4d": "legacy_seresnext101_32x4d",
    "senet154": "legacy_senet154",
    **{f"timm-efficientnet-{size}": f"efficientnet_{size}" for size in (*(f"b{n}" for n in range(9)), "l2")},
    **{f"timm-tf_efficientnet_lite{n}": f"efficientnet_lite{n}" for n in range(5)},
}
"""timm's network by smp's name. `tu-NAME` is timm's NAME besides."""

POSSIBLE = (
    "resnet, resnext, se_resnet, se_resnext, senet154, timm-efficientnet, timm-tf_efficientnet_lite, and tu-NAME for a "
    "NAME of timm"
)

FIXED_PADDING = (
    "smp's EfficientNet fixes its padding for one image size, and ours follows the image; "
    "checkpoints with smp's encoders tu-tf_efficientnet_b0 to b7 and timm-efficientnet-b0 to b8 can be imported"
)

CLASSIFIER_PARTS = ("conv_head.", "bn2.")
"""What smp's `timm-efficientnet` encoders keep of the classifier, and never use."""

_STAGES = {18: (2, 2, 2, 2), 50: (3, 4, 6, 3), 101: (3, 4, 23, 3), 152: (3, 8, 36, 3)}

FINGERPRINTS: dict[tuple[tuple[int, ...], str, int], str] = {
    (_STAGES[18], "basic", 64): "resnet18",
    (_STAGES[50], "basic", 64): "resnet34",
    (_STAGES[50], "bottleneck", 64): "resnet50",
    (_STAGES[101], "bottleneck", 64): "resnet101",
    (_STAGES[152], "bottleneck", 64): "resnet152",
    (_STAGES[50], "bottleneck", 128): "resnext50_32x4d",
    (_STAGES[101], "bottleneck", 128): "resnext101_32x4d",
    (_STAGES[101], "bottleneck", 256): "resnext101_32x8d",
    (_STAGES[101], "bottleneck", 512): "resnext101_32x16d",
    (_STAGES[101], "bottleneck", 1024): "resnext101_32x32d",
    (_STAGES[101], "bottleneck", 1536): "resnext101_32x48d",
    (_STAGES[50], "squeeze", 64): "se_resnet50",
    (_STAGES[101], "squeeze", 64): "se_resnet101",
    (_STAGES[152], "squeeze", 64): "se_resnet152",
    (_STAGES[50], "squeeze", 128): "se_resnext50_32x4d",
    (_STAGES[101], "squeeze", 128): "se_resnext101_32x4d",
    (_STAGES[152], "squeeze", 256): "senet154",
}
"""smp's name by blocks in the four stages, kind of block, and channels of the first block's 3x3 convolution."""


@dataclass(frozen=True)
class Twin:
    """timm's network for an encoder of smp.

    Attributes:
        name: of timm.
        prefix: of its tensors' names in smp's network.
        tensors: shapes by name, without `prefix`, of all that the network has down to its coarsest stride.
        channels: of its maps by stride.
        first_conv: name of the tensor whose second axis is the image's channels.
        unused: beginnings of names that smp keeps besides, and never uses.
    """

    name: str
    prefix: str
    tensors: Mapping[str, torch.Size]
    channels: Mapping[int, int]
    first_conv: str
    unused: tuple[str, ...]

    def never_runs(self, name: str) -> bool:
        """Whether a tensor without a place in our encoder is a part of smp's that it keeps without using it."""
        inside = name.removeprefix(self.prefix)
        return name.startswith(self.prefix) and (inside in self.tensors or inside.startswith(self.unused))


def twin_of(encoder: str, *, where: Path) -> Twin:
    """The twin of an encoder by its name in smp; `where` it was met is for errors.

    Raises:
        WeightsError: it has none, with the reason.
    """
    universal = encoder.startswith("tu-")
    name = encoder.removeprefix("tu-").partition(".")[0] if universal else TIMM_NAMES.get(encoder, "")
    if reason := _reason_against(encoder, name):
        raise WeightsError(f"{where}: encoder {encoder} cannot be imported: {reason}")
    try:
        with torch.device("meta"):
            network = timm.create_model(name, pretrained=False, features_only=True)
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError, ValueError) as error:
        raise WeightsError(
            f"{where}: encoder {encoder} cannot be imported: timm has no feature maps of it ({error})"
        ) from None
    info = network.feature_info
    tensors = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return Twin(
        name=name,
        prefix="encoder.model." if universal else "encoder.",
        tensors=tensors,
        channels=dict(zip(info.reduction(), info.channels(), strict=True)),  # type: ignore[operator, union-attr]
        first_conv=_first_conv(name, tensors),
        unused=CLASSIFIER_PARTS if encoder.startswith("timm-") else (),
    )


def told_by_tensors(tensors: Mapping[str, Tensor], *, where: Path) -> str:
    """The encoder that these tensors (of the whole network) belong to, as smp names it; `where` is for errors.

    Raises:
        WeightsError: an encoder that cannot be imported.
        ConfigError: the tensors do not tell; the user has to.
    """
    if "encoder._conv_stem.weight" in tensors:
        raise WeightsError(f"{where}: its encoder cannot be imported: {FIXED_PADDING}")
    conv = tensors.get("encoder.layer1.0.conv2.weight")
    if conv is not None and conv.ndim == 4:
        kind = "bottleneck" if "encoder.layer1.0.conv3.weight" in tensors else "basic"
        if "encoder.layer1.0.se_module.fc1.weight" in tensors:
            kind = "squeeze"
        encoder = FINGERPRINTS.get((_blocks(tensors), kind, conv.shape[0]))
        if encoder is not None:
            return encoder
    raise ConfigError(
        f"{where}: the tensors do not tell which encoder this is: name it as smp does, such as --encoder resnet34 or "
        f"--encoder tu-convnext_tiny; possible: {POSSIBLE}"
    )


def _reason_against(encoder: str, name: str) -> str | None:
    if encoder.startswith("efficientnet-"):
        return FIXED_PADDING
    if not name:
        return f"timm has no network of the same tensors and maps under the same names; possible: {POSSIBLE}"
    if not is_model(name):
        return f"timm {timm.__version__} has no network {name!r}; possible: {POSSIBLE}"
    settings = get_pretrained_cfg(name)
    if settings is not None and settings.fixed_input_size:
        return f"timm builds {name} for one image size, which checkpoints do not say, and ours takes any"
    return None


def _blocks(tensors: Mapping[str, Tensor]) -> tuple[int, ...]:
    counts = [0, 0, 0, 0]
    for name in tensors:
        if found := re.match(r"encoder\.layer([1-4])\.(\d+)\.", name):
            stage = int(found[1]) - 1
            counts[stage] = max(counts[stage], int(found[2]) + 1)
    return tuple(counts)


def _first_conv(name: str, tensors: Mapping[str, torch.Size]) -> str:
    stored = get_pretrained_cfg(name)
    first = stored.first_conv if stored is not None else None
    # Extractors of timm flatten the first dot of some names: stem.0 becomes stem_0.
    names = (f"{first}.weight", f"{first}.weight".replace(".", "_", 1))
    return next((candidate for candidate in names if candidate in tensors), "")
