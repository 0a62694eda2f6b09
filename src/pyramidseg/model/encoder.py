"""Encoder: feature maps of a timm classification network at strides that double, such as 4, 8, 16, 32.

Papers: ResNet, He et al. 2015, arXiv 1512.03385; EfficientNet, Tan & Le 2019, arXiv 1905.11946. timm provides the
networks, their initialisation and their pretrained weights.

Legend: B batch, C channels, H W pixels.
"""

import re
from collections.abc import Callable

import torch.nn.functional as F
from timm.models import is_model, list_models
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.hrnet import HighResolutionNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.model.encoder_weights import create_network
from pyramidseg.model.feature_levels import doubling_strides, find_levels, maps_of

DEPTHS: dict[str, tuple[int, ...]] = {"resnet": (18, 34, 50, 101, 152), "efficientnet": tuple(range(8))}
"""Depths of the two families that can be given by family and depth."""

DEFAULT_DEPTH = {"resnet": 34, "efficientnet": 0}

FEWER_STAGES = "To use fewer stages (what other libraries call encoder depth) set coarsest_stride"


def resolve_encoder(encoder: str, depth: int | None = None) -> str:
    """The timm name of an encoder given as a family and depth, or by its full name.

    Raises:
        ConfigError: an unknown network, or a depth that the family does not have or the name contradicts.
    """
    if encoder in DEPTHS:
        depth = DEFAULT_DEPTH[encoder] if depth is None else depth
        if depth not in DEPTHS[encoder]:
            known = ", ".join(map(str, DEPTHS[encoder]))
            raise ConfigError(f"encoder={encoder} encoder_depth={depth}: the depths are {known}. {FEWER_STAGES}")
        return f"resnet{depth}" if encoder == "resnet" else f"tf_efficientnet_b{depth}"
    if "." in encoder:
        name, tag = encoder.split(".", 1)
        raise ConfigError(
            f"encoder={encoder}: a pretrained tag belongs in encoder_weights: encoder={name} encoder_weights={tag}"
        )
    if not is_model(encoder):
        hint = nearest(encoder, [*DEPTHS, *list_models()])
        hint = hint if "did you mean" in hint else "timm.list_models() has all names"
        raise ConfigError(f"encoder={encoder}: not a family ({', '.join(DEPTHS)}) or a network of timm; {hint}")
    named = re.fullmatch(r"(?:resnet|(?:tf_)?efficientnet_b)(\d+)", encoder)
    if depth is not None and (named is None or depth != int(named[1])):
        reason = f"the name already contains depth {named[1]}" if named else "a full name takes no depth"
        raise ConfigError(
            f"encoder={encoder} encoder_depth={depth}: {reason}; leave encoder_depth out, or give a family "
            f"({', '.join(DEPTHS)}). {FEWER_STAGES}"
        )
    return encoder


def check_encoder(settings: ModelConfig) -> None:
    """Reject a network without maps at the requested strides, before weights are downloaded.

    Raises:
        ConfigError: see `resolve_encoder` and `find_levels`.
    """
    strides = doubling_strides(settings.finest_stride, settings.coarsest_stride)
    find_levels(resolve_encoder(settings.encoder, settings.encoder_depth), strides)


class Encoder(nn.Module):
    """Feature maps of a classification network at strides that double.

    Args:
        name: network of timm, without a tag.
        weights: `imagenet`, `none`, a tag of timm, or a file of tensors.

    Attributes:
        strides: of the maps that `forward` returns, finest first.
        channels: of those maps.
        size_multiple: pixels; images are padded with zeros to multiples of it, and the maps cropped.
        source: where the weights came from, with the mean and std they expect.

    Raises:
        ConfigError: the network has no feature maps at these strides.
        WeightsError: the weights cannot be loaded, or do not fit.
    """

    def __init__(
        self,
        name: str,
        *,
        weights: str = "imagenet",
        in_channels: int = 3,
        finest_stride: int = 4,
        coarsest_stride: int = 32,
    ) -> None:
        super().__init__()
        self.name = name
        self.strides = doubling_strides(finest_stride, coarsest_stride)
        levels = find_levels(name, self.strides)
        self.size_multiple = levels.size_multiple
        network, self.source = create_network(
            name,
            weights=weights,
            in_channels=in_channels,
            options={"features_only": True, "out_indices": levels.indices, **levels.options},
        )
        self.network = _without_unused_layers(network)
        self.channels: tuple[int, ...] = tuple(self.network.feature_info.channels())  # type: ignore[operator, union-attr]

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Maps of (B, channels[i], H / strides[i], W / strides[i]) for H and W divisible by the coarsest stride."""
        if self.size_multiple == self.strides[-1]:
            return maps_of(self.network, image_BCHW)
        height, width = image_BCHW.shape[-2:]
        bottom, right = -height % self.size_multiple, -width % self.size_multiple
        maps = maps_of(self.network, F.pad(image_BCHW, (0, right, 0, bottom)))
        return [
            level[..., : height // stride, : width // stride] for level, stride in zip(maps, self.strides, strict=True)
        ]


def _without_unused_layers(network: nn.Module) -> nn.Module:
    """Remove the layers behind the coarsest map, which these three timm classes keep and run; others drop them."""
    if isinstance(network, (EfficientNetFeatures, MobileNetV3Features)):
        coarsest = network.feature_info.module_name()[-1]  # such as blocks.4
        network.blocks = network.blocks[: int(coarsest.rpartition(".")[2]) + 1]
    if isinstance(network, HighResolutionNetFeatures):
        # Map 0 is the stem's, maps 1 to 4 are those of the branches, which run side by side up to the last fusion.
        branches = network.feature_info.out_indices[-1]  # type: ignore[attr-defined]
        network.stage4[-1].fuse_layers = network.stage4[-1].fuse_layers[:branches]
        if network.incre_modules is not None:
            network.incre_modules = network.incre_modules[:branches]
    return network


# Parts of an encoder: the stem and one stage per map, for freezing and layer-wise learning rates.


def count_parts(encoder: Encoder) -> int:
    """The stem, and one part for each map of the pyramid."""
    return 1 + len(encoder.strides)


def part_finder(encoder: Encoder) -> Callable[[str], int]:
    """The part that a module, parameter or buffer of the encoder belongs to, by its name within the encoder.

    Part 0 is the stem: all layers before the stage of the finest map. Part i leads from map i - 1 to map i. A module
    that spans several parts belongs to the last one.
    """
    network = encoder.network
    modules: list[str] = network.feature_info.module_name()  # type: ignore[operator, union-attr]
    wanted = [flat_name(name) for name in modules]
    order = [flat_name(name.removeprefix("network.")) for name in encoder.state_dict()]
    within = [[place for place, name in enumerate(order) if is_within(name, module)] for module in wanted]
    leaves = [flat_name(name) for name, module in network.named_modules() if not [*module.children()]]

    def last_before(module: str) -> int:
        """The last tensor before a module without tensors, such as the activation after ResNet's stem."""
        earlier = leaves[: leaves.index(module)] if module in leaves else []
        return max(
            (place for place, name in enumerate(order) if any(is_within(name, leaf) for leaf in earlier)), default=-1
        )

    ends = [places[-1] if places else last_before(module) for places, module in zip(within, wanted, strict=True)]
    begin = within[0][0] if within[0] else ends[0] + 1

    def part_of(name: str) -> int:
        flat = flat_name(name.removeprefix("network."))
        places = [place for place, known in enumerate(order) if is_within(known, flat)]
        if not places:  # without tensors, such as dropout: nothing to freeze
            return len(wanted)
        if places[-1] < begin:
            return 0
        return next((part for part, end in enumerate(ends, start=1) if places[-1] <= end), len(wanted))

    return part_of


def flat_name(name: str) -> str:
    """One form for the names of timm's feature wrappers (`stages_0`) and of its tables (`stages.0`)."""
    return name.removeprefix("model.").replace(".", "_")


def is_within(name: str, module: str) -> bool:
    """Whether a module or tensor is a module or part of it, by their flat names."""
    return name == module or name.startswith(f"{module}_")
