"""Initial weights of encoders: from an installed package, the Hugging Face hub, a file, or random.

Tensors are named as in timm; the fully connected layer of a file is ignored.
"""

import json
import logging
import sys
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Literal

import timm
import torch
from safetensors import safe_open
from timm.models import adapt_input_conv, get_pretrained_cfg, list_pretrained, model_entrypoint
from torch import Tensor, nn

from pyramidseg.base.errors import WeightsError
from pyramidseg.base.stored_json import parse_stored
from pyramidseg.model.hub_weights import cached_weights, fetch_weights
from pyramidseg.model.packaged_weights import find_package, read_package
from pyramidseg.model.state_dict_check import COUNTER, check_state_dict
from pyramidseg.model.tensor_files import read_tensors

IMAGENET_TAGS: dict[str, str] = {
    **{f"resnet{depth}": "tv_in1k" for depth in (18, 34, 50, 101, 152)},
    **{f"tf_efficientnet_b{depth}": "aa_in1k" for depth in range(8)},
    **{f"tf_efficientnet_lite{depth}": "in1k" for depth in range(5)},
}
"""Pretrained weights by network: one recipe per family, so that depths are comparable (torchvision v1; AutoAugment)."""

CLASSIFIER = "pyramidseg classifier"
"""Value of `format` in the metadata of a file that `pretrain` wrote, which also contain its mean and std."""

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class EncoderSource:
    """Where an encoder's weights came from, as it is printed and stored in bundles."""

    kind: Literal["random", "pretrained", "file"]
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def to_json(self) -> str:
        """As JSON, for the metadata of files."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "EncoderSource":
        """The inverse of `to_json`."""
        return parse_stored(cls, text)


def create_network(
    name: str, *, weights: str, in_channels: int, options: Mapping[str, Any]
) -> tuple[nn.Module, EncoderSource]:
    """Create a network of timm with its initial weights, and describe where they came from.

    Args:
        weights: `imagenet` (from an installed package if there is one, else from the hub's cache or the hub), `none`,
            a tag of timm, or a file of tensors.
        options: for `timm.create_model`; a classifier, if requested, is initialised at random.

    Raises:
        WeightsError: the weights cannot be loaded, or do not fit.
    """
    options = {**options, "in_chans": in_channels}
    if weights == "none":
        mean, std = _repeat(IMAGENET_MEAN, in_channels), _repeat(IMAGENET_STD, in_channels)
        return timm.create_model(name, pretrained=False, **options), EncoderSource("random", "random", mean, std)
    if is_weights_file(weights):
        file = Path(weights)
        state, source = read_tensors(file), _source_of_file(name, file, in_channels)
    else:
        source = pretrained_source(name, weights, in_channels)
        if weights == "imagenet" and (found := find_package(name)):
            file, state = found[0], read_package(name, found[0])
        else:
            file, place = fetch_weights(source.name)
            state, source = read_tensors(file), replace(source, name=f"{source.name} ({place})")
    return _with_state(name, _classifier_state(name, file, state, in_channels=in_channels), options), source


def pretrained_source(name: str, weights: str, in_channels: int) -> EncoderSource:
    """The source of `imagenet` weights or those of a tag of timm, without loading them.

    Raises:
        WeightsError: timm has no such weights for this network.
    """
    if weights == "imagenet" and (found := find_package(name)):
        return _source_of(name, "pretrained", f"{name} ({found[1]})", in_channels)
    full_name = f"{name}.{_tag_of(name, weights)}"
    return _source_of(full_name, "pretrained", full_name, in_channels)


def is_weights_file(weights: str) -> bool:
    """Whether the setting `encoder_weights` names a file."""
    return weights.endswith((".safetensors", ".pth", ".pt", ".bin")) or "/" in weights or Path(weights).is_file()


def _tag_of(name: str, weights: str) -> str:
    tags = [full.split(".", 1)[1] for full in list_pretrained(f"{name}.*") if "." in full]
    tag = IMAGENET_TAGS.get(name) if weights == "imagenet" else weights.removeprefix(f"{name}.")
    if tag in tags:
        return tag
    if weights == "imagenet":
        what = f"encoder={name} has no pinned ImageNet weights"
    else:
        what = f"encoder_weights={weights} is neither a file nor a pretrained tag that timm has for {name}"
    words = "imagenet or none" if weights != "imagenet" and name in IMAGENET_TAGS else "none"
    raise WeightsError(f"{what}; tags of timm: {', '.join(tags) or 'none'}; or a file, or encoder_weights={words}")


def has_weights(name: str, weights: str = "imagenet") -> bool:
    """Whether this machine has pretrained weights of a network: `imagenet` as a package, or in the hub's cache."""
    packaged = weights == "imagenet" and find_package(name) is not None
    return packaged or cached_weights(f"{name}.{_tag_of(name, weights)}") is not None


def _with_state(name: str, state: dict[str, Tensor], options: dict[str, Any]) -> nn.Module:
    """The network with these tensors, which fit it; layers that `options` leave out are dropped."""
    overlay = {"state_dict": state, "first_conv": None}
    logger = logging.getLogger("timm.models._builder")
    level = logger.level
    logger.setLevel(logging.ERROR)  # timm warns of each tensor behind the coarsest map
    try:
        network: nn.Module = timm.create_model(
            name, pretrained=True, pretrained_cfg_overlay=overlay, pretrained_strict=False, **options
        )
    finally:
        logger.setLevel(level)
    return network


def _classifier_state(name: str, file: Path, state: dict[str, Tensor], *, in_channels: int) -> dict[str, Tensor]:
    """The tensors of a file that the network has, by name and shape; the fully connected layer is optional."""
    with torch.device("meta"):
        network = timm.create_model(name, pretrained=False, num_classes=0, in_chans=in_channels)
    expected = network.state_dict()
    # timm's conversion of published weights with other names, if it has one for this network
    convert = getattr(sys.modules[model_entrypoint(name).__module__], "checkpoint_filter_fn", None)
    if not expected.keys() <= state.keys() and convert:
        with suppress(Exception):  # of any kind, for tensors of another network: they are named below
            state = convert(dict(state), network)
    settings = get_pretrained_cfg(name)
    first = settings.first_conv if settings is not None else None
    for conv in (first,) if isinstance(first, str) else (first or ()):
        weight = state.get(f"{conv}.weight")
        if weight is not None and weight.ndim == 4 and weight.shape[1] == 3 != in_channels:
            state[f"{conv}.weight"] = adapt_input_conv(in_channels, weight)
    if any(f"encoder.network.{key}" in state for key in expected.keys() - state.keys()):
        raise WeightsError(
            f"{file}: contains a whole segmentation network, not an encoder; set weights instead of encoder_weights"
        )
    own = {key: state[key] for key in expected if key in state}
    check_state_dict(expected, own, what=f"{file}: not weights of {name}")
    return {key: torch.zeros((), dtype=torch.int64) for key in expected if key.endswith(COUNTER)} | own


def _source_of(name: str, kind: Literal["pretrained", "file"], label: str, in_channels: int) -> EncoderSource:
    settings = get_pretrained_cfg(name)
    mean = settings.mean if settings is not None else IMAGENET_MEAN
    std = settings.std if settings is not None else IMAGENET_STD
    return EncoderSource(kind, label, _repeat(mean, in_channels), _repeat(std, in_channels))


def _source_of_file(name: str, file: Path, in_channels: int) -> EncoderSource:
    """The source of a file's weights; a file that `pretrain` wrote also contains their mean and std."""
    metadata = {}
    if file.suffix == ".safetensors":  # no other kind of file has any
        with safe_open(file, framework="pt") as content:
            metadata = dict(content.metadata() or {})
    if metadata.get("format") != CLASSIFIER:
        return _source_of(name, "file", file.name, in_channels)
    mean, std = (_repeat(tuple(json.loads(metadata[key])), in_channels) for key in ("mean", "std"))
    return EncoderSource("file", f"{file.name} ({CLASSIFIER}, with its mean and std)", mean, std)


def _repeat(values: tuple[float, ...], count: int) -> tuple[float, ...]:
    """Channel statistics for `count` channels: unchanged if their number matches, else their average for each."""
    return tuple(values) if len(values) == count else (sum(values) / len(values),) * count
