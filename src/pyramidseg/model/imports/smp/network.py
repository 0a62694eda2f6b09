"""What network of smp a checkpoint holds: by the shapes of its tensors, and by config.json for what they cannot say.

smp's encoder_depth counts stages. At 5 the four levels have strides 4 to 32. At 4 they have strides 2 to 16, and its
last upsampling, which stays at 4 unless set to 2, makes masks twice as large as the image (its issue 177). At 3 its
finest level is the image itself, which is none of ours.
"""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.imports.foreign_checkpoint import CONFIG_FILE, Checkpoint
from pyramidseg.model.imports.smp.smp_encoders import Twin, told_by_tensors, twin_of
from pyramidseg.model.imports.smp.tensor_names import FIRST_BRANCH, HEAD, lateral_name
from pyramidseg.model.imports.state_dict_check import grouped

STRIDES = {5: (4, 32), 4: (2, 16)}
"""Finest and coarsest stride by encoder_depth."""

CONFIG_KINDS: dict[str, type | tuple[type, ...]] = {
    "encoder_name": str,
    "encoder_depth": int,
    "encoder_weights": (str, bool),
    "in_channels": int,
    "classes": int,
    "activation": str,
    "upsampling": (int, float),
    "aux_params": dict,
    "decoder_pyramid_channels": int,
    "decoder_segmentation_channels": int,
    "decoder_merge_policy": str,
    "decoder_dropout": (int, float),
    "decoder_interpolation": str,
    # Of timm's networks, and of training alone:
    "drop_rate": (int, float),
    "drop_path_rate": (int, float),
}
"""The settings in config.json that are understood, each of its type or null."""


@dataclass(frozen=True)
class Network:
    """An FPN of smp in its own words.

    Attributes:
        outputs: maps of logits; smp's `classes`.
    """

    encoder: str
    twin: Twin
    encoder_depth: int
    in_channels: int
    pyramid_channels: int
    segmentation_channels: int
    merge_policy: str
    outputs: int

    def __str__(self) -> str:
        return (
            f"smp FPN: encoder {self.encoder}, depth {self.encoder_depth}, in_channels {self.in_channels}, "
            f"pyramid_channels {self.pyramid_channels}, segmentation_channels {self.segmentation_channels}, "
            f"merge_policy {self.merge_policy}, classes {self.outputs}"
        )


def understood_config(checkpoint: Checkpoint) -> dict[str, Any]:
    """The settings of config.json that are not null; empty where there is no such file.

    Raises:
        WeightsError: another architecture, or a setting that may change the network in a way unknown here.
    """
    config = {key: value for key, value in (checkpoint.config or {}).items() if value is not None}
    architecture = config.pop("_model_class", "FPN")
    if architecture != "FPN":
        raise WeightsError(f"{checkpoint.file}: a {architecture} of smp; of its networks the FPN can be imported")
    settings = {key: value for key, value in config.items() if not key.startswith("_") and value not in ({}, [])}
    strange = [
        f"{key}={value!r}"
        for key, value in settings.items()
        if key not in CONFIG_KINDS or not isinstance(value, CONFIG_KINDS[key])
    ]
    if strange:
        raise WeightsError(
            f"{checkpoint.file}: {CONFIG_FILE} has settings that may change the network in a way unknown here: "
            f"{', '.join(strange)}"
        )
    return settings


def stated(config: Mapping[str, Any], key: str, given: Any, *, flag: str, default: Any) -> tuple[Any, str]:
    """What config.json says, or the flag, or the default with a note that it was assumed.

    Raises:
        ConfigError: the flag contradicts config.json.
    """
    stored = config.get(key)
    if stored is not None and given is not None and given != stored:
        raise ConfigError(f"{flag} {given}: {CONFIG_FILE} says {key}={stored}; leave {flag} out")
    if stored is not None or given is not None:
        return (given if stored is None else stored), ""
    return default, f"{key} cannot be seen in tensors: {default} assumed, smp's default; {flag} sets another"


def own_tensors(checkpoint: Checkpoint, chosen: str | None) -> tuple[dict[str, Tensor], list[str]]:
    """The network's tensors under smp's names, and what to say of the prefix that training scripts set before them.

    Args:
        chosen: the prefix, where several networks are there.

    Raises:
        WeightsError: no FPN of smp is there.
        ConfigError: several are, and none was chosen.
    """
    names = checkpoint.tensors
    matches = (re.match(r"((?:.*\.)?)decoder\.(?:p5|seg_blocks)\.", name) for name in names)
    prefixes = sorted({match[1] for match in matches if match})
    listed = ", ".join(repr(prefix) for prefix in prefixes)
    if not prefixes:
        raise WeightsError(
            f"{checkpoint.file}: no FPN of smp: none of its {len(names)} tensors is named decoder.p5 or "
            f"decoder.seg_blocks; they are {grouped(names) or 'none'}"
        )
    if chosen is not None and chosen not in prefixes:
        raise ConfigError(f"--prefix {chosen!r}: {checkpoint.file} holds networks under {listed}")
    if chosen is None and len(prefixes) > 1:
        raise ConfigError(f"{checkpoint.file}: networks under {listed}: choose one, such as --prefix {prefixes[0]!r}")
    prefix = prefixes[0] if chosen is None else chosen
    others = tuple(other for other in prefixes if len(other) > len(prefix))
    own = {
        name.removeprefix(prefix): tensor
        for name, tensor in names.items()
        if name.startswith(prefix) and not name.startswith(others)
    }
    left_out = [name for name in names if not name.startswith(prefix) or name.startswith(others)]
    notes = [f"prefix {prefix!r} taken off {len(own)} names"] if prefix else []
    if left_out:
        notes.append(f"left out, beside the network: {grouped(left_out)}")
    return own, notes


def network_of(
    tensors: Mapping[str, Tensor], config: Mapping[str, Any], *, encoder: str | None, where: Path
) -> Network:
    """The network that these tensors are of; config.json fills in for tensors that are absent.

    Args:
        encoder: smp's name of it, where neither config.json nor the tensors tell.

    Raises:
        ConfigError: the encoder has to be named, or is named in contradiction to config.json.
        WeightsError: the encoder cannot be imported, or config.json contradicts the tensors.
    """
    name, _ = stated(config, "encoder_name", encoder, flag="--encoder", default=None)
    name = told_by_tensors(tensors, where=where) if name is None else name
    twin = twin_of(name, where=where)
    head, top = f"{HEAD}.weight", lateral_name(5)
    segmentation = _size(
        tensors,
        (f"{FIRST_BRANCH}.0.weight", f"{FIRST_BRANCH}.1.weight"),
        otherwise=config.get("decoder_segmentation_channels", 128),
    )
    policies = {segmentation: "add", 4 * segmentation: "cat"}
    sizes = {
        "encoder_depth": _depth(tensors, twin, config.get("encoder_depth", 5)),
        "in_channels": _size(tensors, (twin.prefix + twin.first_conv,), axis=1, otherwise=config.get("in_channels", 3)),
        "decoder_pyramid_channels": _size(
            tensors, (f"{top}.weight", f"{top}.bias"), otherwise=config.get("decoder_pyramid_channels", 256)
        ),
        "decoder_segmentation_channels": segmentation,
        "decoder_merge_policy": policies.get(
            _size(tensors, (head,), axis=1, otherwise=None), config.get("decoder_merge_policy", "add")
        ),
        "classes": _size(tensors, (head, f"{HEAD}.bias"), otherwise=config.get("classes", 1)),
    }
    contradicted = [
        f"{key}={config[key]} (tensors: {size})" for key, size in sizes.items() if config.get(key, size) != size
    ]
    if contradicted:
        raise WeightsError(f"{where}: {CONFIG_FILE} contradicts the tensors: {', '.join(contradicted)}")
    if sizes["encoder_depth"] not in STRIDES:
        raise WeightsError(
            f"{where}: encoder_depth={sizes['encoder_depth']} cannot be imported: its finest level is the image "
            "itself, ours are strides 2 and 4; possible: 5 and 4"
        )
    return Network(name, twin, *sizes.values())


def _size(tensors: Mapping[str, Tensor], names: Iterable[str], *, axis: int = 0, otherwise: Any) -> Any:
    """Length along an axis of the first of these tensors that is there and has the axis."""
    there = (tensors[name] for name in names if name in tensors)
    return next((tensor.shape[axis] for tensor in there if tensor.ndim > axis), otherwise)


def _depth(tensors: Mapping[str, Tensor], twin: Twin, otherwise: int) -> int:
    """The encoder_depth by the encoder's channels that the three coarsest lateral convolutions take."""
    taken = [_size(tensors, (f"{lateral_name(level)}.weight",), axis=1, otherwise=None) for level in (3, 4, 5)]
    for depth in (5, 4, 3):
        if taken == [twin.channels.get(2**stage) for stage in (depth - 2, depth - 1, depth)]:
            return depth
    return otherwise
