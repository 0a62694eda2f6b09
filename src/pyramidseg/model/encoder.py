"""Encoder: an ordinary classification network of timm, read at its strides.

Sources: ResNet, He et al. 2015, arXiv 1512.03385; EfficientNet, Tan & Le 2019, arXiv 1905.11946. Networks, their
initialisation and their pretrained weights are timm's.

Legend: B batch, C channels, H W pixels.
"""

import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from huggingface_hub import get_hf_file_metadata, hf_hub_url, try_to_load_from_cache
from huggingface_hub.errors import EntryNotFoundError
from timm.models import adapt_input_conv, get_pretrained_cfg, is_model, list_models, list_pretrained
from timm.models.efficientnet import EfficientNetFeatures
from timm.models.mobilenetv3 import MobileNetV3Features
from torch import Tensor, nn

from pyramidseg.errors import ConfigError, WeightsError, nearest
from pyramidseg.model.tensor_files import read_tensors

DEPTHS: dict[str, tuple[int, ...]] = {"resnet": (18, 34, 50, 101, 152), "efficientnet": tuple(range(8))}
"""Depths of the two families; the second of ResNet and the first of EfficientNet are the defaults."""

DEFAULT_DEPTH = {"resnet": 34, "efficientnet": 0}

IMAGENET_TAGS: dict[str, str] = {
    **{f"resnet{depth}": "tv_in1k" for depth in DEPTHS["resnet"]},
    **{f"tf_efficientnet_b{depth}": "aa_in1k" for depth in DEPTHS["efficientnet"]},
}
"""Pretrained weights by network: one recipe a family, so that depths compare (torchvision v1; AutoAugment)."""

HUB_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of weights in timm's repositories on the Hugging Face hub."""

HUB_SECONDS = 10.0
"""How long the hub may take to answer at all."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder's weights came from, as it is printed and stored in bundles."""

    kind: Literal["random", "pretrained", "file"]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


def resolve_encoder(encoder: str, depth: int | None = None) -> str:
    """The timm name of an encoder given as a family and depth, or by its full name.

    Raises:
        ConfigError: an unknown network, or a depth that the family does not have or the name contradicts.
    """
    if encoder in DEPTHS:
        return _family_member(encoder, DEFAULT_DEPTH[encoder] if depth is None else depth)
    if "." in encoder:
        name, tag = encoder.split(".", 1)
        raise ConfigError(
            f"encoder={encoder}: a pretrained tag belongs in encoder_weights: encoder={name} encoder_weights={tag}"
        )
    if not is_model(encoder):
        hint = nearest(encoder, [*DEPTHS, *list_models()]) if _has_near(encoder) else "timm.list_models() has all names"
        raise ConfigError(f"encoder={encoder}: neither a family ({', '.join(DEPTHS)}) nor a network of timm; {hint}")
    if depth is not None and depth != (named := _depth_in_name(encoder)):
        reason = f"the name already says depth {named}" if named is not None else "a full name takes no depth"
        raise ConfigError(
            f"encoder={encoder} encoder_depth={depth}: {reason}; leave encoder_depth out, or give a family "
            f"({', '.join(DEPTHS)}). To use fewer stages (what other libraries call encoder depth) set coarsest_stride"
        )
    return encoder


def _family_member(family: str, depth: int) -> str:
    if depth not in DEPTHS[family]:
        raise ConfigError(
            f"encoder={family} encoder_depth={depth}: the depths are {', '.join(map(str, DEPTHS[family]))}. "
            "To use fewer stages (what other libraries call encoder depth) set coarsest_stride"
        )
    return f"resnet{depth}" if family == "resnet" else f"tf_efficientnet_b{depth}"


def _depth_in_name(name: str) -> int | None:
    found = re.fullmatch(r"resnet(\d+)|(?:tf_)?efficientnet_b(\d)", name)
    return int(found[1] or found[2]) if found else None


def _has_near(name: str) -> bool:
    return "did you mean" in nearest(name, list_models())


class Encoder(nn.Module):
    """Feature maps of a classification network at strides that double.

    Args:
        name: network of timm, without a tag.
        weights: `imagenet`, `none`, a tag of timm, or a file of tensors.

    Attributes:
        strides: of the maps that `forward` returns, finest first.
        channels: of those maps.
        source: where the weights came from, with the mean and std they expect.

    Raises:
        ConfigError: the network has no feature maps at these strides.
        WeightsError: the weights cannot be had, or do not fit.
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
        network, self.source = _create(name, weights=weights, in_channels=in_channels, strides=self.strides)
        self.network = _without_unused_stages(network)
        self.channels: tuple[int, ...] = tuple(self.network.feature_info.channels())  # type: ignore[operator, union-attr]
        self.channels_last_maps = str(getattr(self.network, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, image_BCHW: Tensor) -> list[Tensor]:
        """Maps of (B, channels[i], H / strides[i], W / strides[i]) for H and W divisible by the coarsest stride."""
        maps: list[Tensor] = self.network(image_BCHW)
        return [level.permute(0, 3, 1, 2) for level in maps] if self.channels_last_maps else maps


def _without_unused_stages(network: nn.Module) -> nn.Module:
    """These two of timm keep and run the stages behind the coarsest map that is read; others drop them themselves."""
    if isinstance(network, (EfficientNetFeatures, MobileNetV3Features)):
        coarsest = network.feature_info.module_name()[-1]  # such as blocks.4
        network.blocks = network.blocks[: int(coarsest.rpartition(".")[2]) + 1]
    return network


def doubling_strides(finest: int, coarsest: int) -> tuple[int, ...]:
    """`finest`, twice that, and so on up to `coarsest`."""
    strides = [finest]
    while strides[-1] < coarsest:
        strides.append(2 * strides[-1])
    return tuple(strides)


def _create(name: str, *, weights: str, in_channels: int, strides: tuple[int, ...]) -> tuple[nn.Module, EncoderSource]:
    indices = _indices_of(name, strides)
    options: dict[str, Any] = {"features_only": True, "out_indices": indices, "in_chans": in_channels}
    if weights == "none":
        mean, std = _repeat(IMAGENET_MEAN, in_channels), _repeat(IMAGENET_STD, in_channels)
        return timm.create_model(name, pretrained=False, **options), EncoderSource("random", "random", mean, std)
    if _is_file(weights):
        state = _classifier_state(name, Path(weights), in_channels=in_channels)
        network = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay={"state_dict": state, "first_conv": None}, **options
        )
        return network, _source_of(name, "file", Path(weights).name, in_channels)
    tag = _tag_of(name, weights)
    return _download(f"{name}.{tag}", options), _source_of(f"{name}.{tag}", "pretrained", f"{name}.{tag}", in_channels)


def _indices_of(name: str, strides: tuple[int, ...]) -> tuple[int, ...]:
    """Positions of the wanted strides among the network's feature maps.

    Raises:
        ConfigError: a stride is missing, or the network's strides do not double.
    """
    try:
        # The meta device gives names and strides without allocating or initialising weights.
        with torch.device("meta"):
            info = timm.create_model(name, pretrained=False, features_only=True).feature_info
    except (RuntimeError, TypeError, AttributeError, NotImplementedError, AssertionError, ValueError) as error:
        raise ConfigError(f"encoder={name}: timm has no feature maps of it ({error}); choose another network") from None
    available = [int(stride) for stride in info.reduction()]  # type: ignore[operator, union-attr]
    doubling = all(coarse == 2 * fine for fine, coarse in itertools.pairwise(available))
    if not doubling or not set(strides) <= set(available):
        raise ConfigError(
            f"encoder={name}: its feature maps have strides {available}, and the pyramid needs {list(strides)}, "
            "each twice the one before; choose another network, finest_stride or coarsest_stride"
        )
    return tuple(available.index(stride) for stride in strides)


def _is_file(weights: str) -> bool:
    return weights.endswith((".safetensors", ".pth", ".pt", ".bin")) or "/" in weights


def _tag_of(name: str, weights: str) -> str:
    tags = [full.split(".", 1)[1] for full in list_pretrained(f"{name}.*") if "." in full]
    tag = IMAGENET_TAGS.get(name) if weights == "imagenet" else weights.removeprefix(f"{name}.")
    if tag in tags:
        return tag
    if weights == "imagenet":
        what = f"encoder={name} has no pinned ImageNet weights"
    else:
        what = f"encoder_weights={weights}: neither a file, nor weights that timm has for {name}"
    raise WeightsError(f"{what}; tags of timm: {', '.join(tags) or 'none'}; or a file, or encoder_weights=none")


def _download(full_name: str, options: dict[str, Any]) -> nn.Module:
    """A network with weights from the Hugging Face hub, or from its cache folder where they lie there."""
    try:
        _require_reachable(full_name)
        network: nn.Module = timm.create_model(full_name, pretrained=True, **options)
    except Exception as error:  # hub, HTTP and socket libraries raise their own kinds: this is the border
        raise WeightsError(
            f"encoder_weights: {full_name} cannot be loaded from the Hugging Face hub "
            f"({type(error).__name__}: {_first_line(error)}). Three ways out: point HF_HOME to a folder that holds "
            "them already, give a file (encoder_weights=FILE.safetensors), or start from random (encoder_weights=none)"
        ) from error
    return network


def _require_reachable(full_name: str) -> None:
    """One quick request for weights that are not in the cache: alone, the hub's client tries for a minute, aloud."""
    settings = get_pretrained_cfg(full_name)
    repository = settings.hf_hub_id if settings is not None else None
    if not repository or any(isinstance(try_to_load_from_cache(repository, name), str) for name in HUB_FILES):
        return
    try:
        get_hf_file_metadata(hf_hub_url(repository, HUB_FILES[0]), timeout=HUB_SECONDS)
    except EntryNotFoundError:  # the hub answers: timm knows where else to look
        return


def _classifier_state(name: str, file: Path, *, in_channels: int) -> dict[str, Tensor]:
    """Tensors of a file, checked one by one against the network that they are meant for.

    The fully connected layer may be there or not; every other tensor has to be, in its shape.
    """
    state = read_tensors(file)
    with torch.device("meta"):
        expected = timm.create_model(name, pretrained=False, num_classes=0).state_dict()
    settings = get_pretrained_cfg(name)
    first = settings.first_conv if settings is not None else None
    for conv in (first,) if isinstance(first, str) else (first or ()):
        weight = state.get(f"{conv}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3 != in_channels:
            state[f"{conv}.weight"] = adapt_input_conv(in_channels, weight)
            expected[f"{conv}.weight"] = state[f"{conv}.weight"]
    absent = [key for key in expected if key not in state]
    misshapen = [key for key in expected if key in state and state[key].shape != expected[key].shape]
    if absent or misshapen:
        raise WeightsError(
            f"{file}: not weights of {name}: {len(absent)} of {len(expected)} tensors absent ({_some(absent)}), "
            f"{len(misshapen)} of another shape ({_some(misshapen)}); nothing was loaded"
        )
    return {key: state[key] for key in expected}


def _some(names: list[str]) -> str:
    return ", ".join(names[:3]) + (", ..." if len(names) > 3 else "") if names else "none"


def _source_of(name: str, kind: Literal["pretrained", "file"], label: str, in_channels: int) -> EncoderSource:
    settings = get_pretrained_cfg(name)
    mean = settings.mean if settings is not None else IMAGENET_MEAN
    std = settings.std if settings is not None else IMAGENET_STD
    return EncoderSource(kind, label, _repeat(mean, in_channels), _repeat(std, in_channels))


def _repeat(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Channel statistics for any channel count: RGB's own for 3, else their average."""
    return tuple(values) if len(values) == count else (sum(values) / len(values),) * count


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or ["no message"])[0][:200]
