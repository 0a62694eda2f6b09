"""Importer for FPN checkpoints of segmentation_models.pytorch (smp).

The checkpoint is read without running code from it, and every tensor is mapped to its name in `Segmenter`. A tensor
without a counterpart, or a setting that cannot be reproduced exactly, is an error; nothing is loaded in part.

smp's network (decoders/fpn/decoder.py and base/heads.py) is ours with these settings: no smoothing, group norm of 32
groups, bilinear upsampling with align_corners in the semantic branch and at the end. smp's encoder_depth counts stages:
at 5 the levels have strides 4 to 32, at 4 they have strides 2 to 16. At depth 4 smp's last upsampling, 4 by default,
makes masks twice as large as the image (its issue 177); ours have the image's size, and the logits of upsampling=2.

The encoder's name comes from config.json or `--encoder`, and all sizes come from the shapes of the tensors.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, WeightsError, nearest
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.imports.foreign_checkpoint import (
    CONFIG_FILE,
    ForeignCheckpoint,
    ImportedModel,
    ImportOptions,
    read_foreign_checkpoint,
)
from pyramidseg.model.imports.smp_encoders import POSSIBLE, TimmEncoder, smp_normalization, timm_encoder
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.state_dict_check import check_state_dict, grouped

HEAD = "segmentation_head.0"
TOP = "decoder.p5"
FIRST_BRANCH = "decoder.seg_blocks.0.block.0.block"
"""The last convolution, the coarsest lateral one, and the first of the semantic branches; they show all widths."""

STRIDES = {5: (4, 32), 4: (2, 16)}
"""Finest and coarsest stride by encoder_depth."""

INTERPOLATIONS = {"nearest": "nearest", "nearest-exact": "nearest", "area": "nearest", "bilinear": "bilinear"}
"""Our mode by smp's; when a map is doubled, the first three give the same values."""

CONFIG_TYPES: dict[str, type | tuple[type, ...]] = {
    **dict.fromkeys(("encoder_name", "activation", "decoder_merge_policy", "decoder_interpolation"), str),
    **dict.fromkeys(("encoder_depth", "in_channels", "classes"), int),
    **dict.fromkeys(("decoder_pyramid_channels", "decoder_segmentation_channels"), int),
    **dict.fromkeys(("upsampling", "decoder_dropout", "drop_rate", "drop_path_rate"), (int, float)),
    "encoder_weights": (str, bool),
    "aux_params": dict,
}
"""The settings of config.json that are understood; each may be null."""

Settings = dict[str, Any]
"""Settings of an FPN of smp, under smp's names."""


def import_checkpoint(path: str | Path, *, library: str, options: ImportOptions | None = None) -> ImportedModel:
    """Convert a checkpoint of another library to a `Segmenter` of equal logits.

    A network of one class (smp's default, trained with a sigmoid) becomes one of two classes: the background's logit is
    0, so that the softmax over both equals the sigmoid.

    Args:
        library: `smp`.
        options: what the checkpoint itself does not contain, such as the encoder's name.

    Raises:
        ConfigError: an unknown library, or options that are missing or contradict the checkpoint.
        WeightsError: the file does not exist, is damaged, or holds another network (all tensors that differ are named).
    """
    if library != "smp":
        raise ConfigError(f"`library={library}`: unknown library; {nearest(library, ['smp'])}")
    checkpoint, options = read_foreign_checkpoint(Path(path)), options or ImportOptions()
    file, notes = checkpoint.file, list(checkpoint.notes)
    settings, assumed = _settings(checkpoint, options)
    tensors = _network_tensors(checkpoint, options.prefix, notes)
    encoder = timm_encoder(settings["encoder_name"], where=file)
    network = _read_network(tensors, encoder, settings, where=file)
    settings |= network
    notes += [f"smp FPN: {', '.join(f'{key} {value}' for key, value in network.items())}", *assumed]
    classes = _classes(settings["classes"], options.classes, notes)
    model = _new_segmenter(settings, encoder, classes)
    mean, std, statistics = smp_normalization(settings, options, checkpoint.tensors, model.encoder_source)
    notes.append(statistics)
    _load(model, tensors, settings, encoder, notes, where=file)
    model.set_normalization(mean, std)
    model.encoder_source = EncoderSource("file", f"{file.name} (smp {settings['encoder_name']})", mean, std)
    facts = {
        "library": "segmentation_models.pytorch",
        "file": file.name,
        "sha256": checkpoint.sha256,
        "encoder": settings["encoder_name"],
        "encoder_depth": settings["encoder_depth"],
        "encoder_weights": settings.get("encoder_weights"),
        "config": checkpoint.config,
    }
    notes += _differences(settings)
    return ImportedModel(model.eval(), {"imported": facts}, tuple(notes))


def _settings(checkpoint: ForeignCheckpoint, options: ImportOptions) -> tuple[Settings, list[str]]:
    """The settings of config.json that are not null, those of options, and defaults; and notes about the defaults."""
    config = {key: value for key, value in (checkpoint.config or {}).items() if value is not None}
    architecture = config.pop("_model_class", "FPN")
    if architecture != "FPN":
        raise WeightsError(f"{checkpoint.file}: a {architecture} of smp; of its networks the FPN can be imported")
    settings = {key: value for key, value in config.items() if not key.startswith("_") and value not in ({}, [])}
    unknown = [
        f"{key}={value!r}"
        for key, value in settings.items()
        if key not in CONFIG_TYPES or not isinstance(value, CONFIG_TYPES[key])
    ]
    if unknown:
        raise WeightsError(
            f"{checkpoint.file}: {CONFIG_FILE} has settings that may change the network in an unknown way: "
            f"{', '.join(unknown)}"
        )
    assumed = []
    for key, arg, given, default in (
        ("encoder_name", "encoder", options.encoder, None),
        ("decoder_dropout", "dropout", options.dropout, 0.2),
        ("decoder_interpolation", "interpolation", options.interpolation, "nearest"),
    ):
        stored = settings.get(key, given)
        if given not in (None, stored):
            raise ConfigError(f"`{arg}={given}`: {CONFIG_FILE} has {key}={stored}; leave `{arg}` out")
        if stored is None and default is None:
            raise ConfigError(
                f"{checkpoint.file}: a file of tensors does not name its encoder: add the name that smp was given, "
                f"such as `encoder='resnet34'` or `encoder='tu-convnext_tiny'` (possible: {POSSIBLE})"
            )
        if stored is None:
            source = f"{default}, smp's default, is assumed"
            assumed.append(f"{key} is not stored in tensors: {source}; `{arg}` sets another")
        settings[key] = default if stored is None else stored
    if (mode := settings["decoder_interpolation"]) not in INTERPOLATIONS:
        possible = ", ".join(INTERPOLATIONS)
        raise WeightsError(f"{checkpoint.file}: decoder_interpolation={mode} cannot be imported; possible: {possible}")
    return settings, assumed


def _network_tensors(checkpoint: ForeignCheckpoint, prefix: str | None, notes: list[str]) -> dict[str, Tensor]:
    """The network's tensors, without the prefix that training scripts add to their names."""
    names = checkpoint.tensors
    matches = (re.match(r"((?:.*\.)?)decoder\.(?:p5|seg_blocks)\.", name) for name in names)
    prefixes = sorted({match[1] for match in matches if match})
    listed = ", ".join(map(repr, prefixes))
    if not prefixes:
        raise WeightsError(
            f"{checkpoint.file}: not an FPN of smp: none of its {len(names)} tensors is named {TOP} or "
            f"decoder.seg_blocks; they are {grouped(names) or 'none'}"
        )
    if prefix is None and len(prefixes) > 1:
        raise ConfigError(f"{checkpoint.file}: holds networks under {listed}; choose one: `prefix={prefixes[-1]!r}`")
    prefix = prefixes[0] if prefix is None else prefix
    if prefix not in prefixes:
        raise ConfigError(f"`prefix={prefix!r}`: {checkpoint.file} holds networks under {listed}")
    others = tuple(other for other in prefixes if len(other) > len(prefix))
    own = {name: tensor for name, tensor in names.items() if name.startswith(prefix) and not name.startswith(others)}
    if prefix:
        notes.append(f"prefix {prefix!r} removed from {len(own)} names")
    if left_out := [name for name in names if name not in own]:
        notes.append(f"left out, not part of the network: {grouped(left_out)}")
    return {name.removeprefix(prefix): tensor for name, tensor in own.items()}


def _read_network(tensors: Mapping[str, Tensor], encoder: TimmEncoder, settings: Settings, *, where: Path) -> Settings:
    """The encoder, and the sizes of the network from its tensors, checked against config.json."""
    name = settings["encoder_name"]
    needed = {f"{TOP}.weight": 4, f"{FIRST_BRANCH}.0.weight": 4, f"{HEAD}.weight": 4, encoder.first_conv: 4}
    if wrong := [key for key, ndim in needed.items() if key not in tensors or tensors[key].ndim != ndim]:
        raise WeightsError(
            f"{where}: not an smp FPN of {name}: {len(wrong)} absent: {', '.join(wrong)}; nothing was loaded"
        )
    top, branch, head, first = (tensors[key].shape for key in needed)
    network = {
        "encoder_name": name,
        "encoder_depth": (depth := _depth(tensors, encoder, default=settings.get("encoder_depth", 5))),
        "in_channels": first[1],
        "decoder_pyramid_channels": top[0],
        "decoder_segmentation_channels": branch[0],
        "decoder_merge_policy": "cat" if head[1] == 4 * branch[0] else "add",
        "classes": head[0],
    }
    differing = [key for key, size in network.items() if settings.get(key, size) != size]
    if differing:
        listed = ", ".join(f"{key}={settings[key]} (tensors: {network[key]})" for key in differing)
        raise WeightsError(f"{where}: {CONFIG_FILE} contradicts the tensors: {listed}")
    if depth not in STRIDES:
        raise WeightsError(
            f"{where}: encoder_depth={depth} cannot be imported: its finest level is the image itself, ours are "
            "strides 2 and 4; possible: 5 and 4"
        )
    return network


def _depth(tensors: Mapping[str, Tensor], encoder: TimmEncoder, *, default: int) -> int:
    """The encoder_depth whose maps have the channels that the three coarsest lateral convolutions take."""
    laterals = [tensors.get(f"decoder.{level}.weight") for level in ("p3.skip_conv", "p4.skip_conv", "p5")]
    channels = [None if weight is None or weight.ndim < 2 else weight.shape[1] for weight in laterals]
    matching = (
        depth
        for depth in (5, 4, 3)
        if channels == [encoder.channels.get(2**stage) for stage in (depth - 2, depth - 1, depth)]
    )
    return next(matching, default)


def _new_segmenter(settings: Settings, encoder: TimmEncoder, classes: Classes) -> Segmenter:
    """Our network of these settings, with random weights."""
    finest, coarsest = STRIDES[settings["encoder_depth"]]
    with torch.random.fork_rng([]):  # importing must not change the caller's random state
        return Segmenter(
            classes=classes,
            encoder=encoder.name,
            encoder_weights="none",
            dropout=settings["decoder_dropout"],
            in_channels=settings["in_channels"],
            finest_stride=finest,  # type: ignore[arg-type]
            coarsest_stride=coarsest,  # type: ignore[arg-type]
            pyramid_channels=settings["decoder_pyramid_channels"],
            segmentation_channels=settings["decoder_segmentation_channels"],
            merge="concat" if settings["decoder_merge_policy"] == "cat" else "add",
            norm="group",
            smoothing=False,
            align_corners=True,
            interpolation=INTERPOLATIONS[settings["decoder_interpolation"]],  # type: ignore[arg-type]
        )


def _classes(outputs: int, names: tuple[str, ...], notes: list[str]) -> Classes:
    if outputs == 1 and len(names) <= 2:
        both = ("background", *(names or ("foreground",)))[-2:]
        notes.append(f"one class becomes two: {both[0]}, with logit 0, and {both[1]}")
        return Classes.from_names(both)
    if names and len(names) != outputs:
        raise ConfigError(f"`classes={','.join(names)}`: {len(names)} names, and the network has {outputs} classes")
    if names:
        notes.append(f"classes {', '.join(names)}")
        return Classes.from_names(names)
    notes.append("checkpoints contain no class names: classes are numbered; `classes` names them")
    return Classes.unnamed(outputs)


def smp_name(name: str, *, encoder_prefix: str) -> str:
    """The name in smp of a tensor of ours; smp lists levels from the coarsest, and calls the coarsest lateral p5."""
    if name.startswith("encoder.network."):
        return name.replace("encoder.network.", encoder_prefix, 1)
    if name.startswith("classifier."):
        return name.replace("classifier", HEAD, 1)
    if lateral := re.fullmatch(r"decoder\.pyramid\.lateral\.(\d)\.(\w+)", name):
        level = 2 + int(lateral[1])
        return f"decoder.p{level}{'' if level == 5 else '.skip_conv'}.{lateral[2]}"
    branch = re.fullmatch(r"decoder\.branches\.(\d)\.(\d)\.(conv|norm)\.(\w+)", name)
    assert branch is not None, name
    layer = {"conv": 0, "norm": 1}[branch[3]]
    return f"decoder.seg_blocks.{3 - int(branch[1])}.block.{branch[2]}.block.{layer}.{branch[4]}"


def _load(
    model: Segmenter,
    tensors: Mapping[str, Tensor],
    settings: Settings,
    encoder: TimmEncoder,
    notes: list[str],
    *,
    where: Path,
) -> None:
    """Load all tensors of the model, or none; adds notes about the tensors that were left out or converted."""
    own = model.state_dict()
    theirs = {name: smp_name(name, encoder_prefix=encoder.prefix) for name in own if name not in {"mean", "std"}}
    expected = {theirs[name]: own[name] for name in theirs}
    classifier = (f"{HEAD}.weight", f"{HEAD}.bias")
    for name in classifier:
        expected[name] = expected[name][-settings["classes"] :]  # all rows, or one if the background is added
    auxiliary = [name for name in tensors if name.startswith("classification_head.")]
    unused = [name for name in tensors if name not in expected and encoder.is_unused(name)]
    given = {name: tensor for name, tensor in tensors.items() if name not in {*auxiliary, *unused}}
    what = f"{where}: not an smp FPN of {settings['encoder_name']} at depth {settings['encoder_depth']}"
    check_state_dict(expected, given, what=what)
    for name in classifier:
        given[name] = _convert_classifier(given[name], settings)
    model.load_state_dict(own | {name: given[theirs[name]] for name in theirs if theirs[name] in given})
    if auxiliary:
        notes.append(f"left out, the auxiliary classification head: {grouped(auxiliary)}")
    if unused:
        notes.append(f"left out, stored by smp and never used: {grouped(unused)}")
    dtypes = {str(tensor.dtype).removeprefix("torch.") for tensor in given.values() if tensor.is_floating_point()}
    notes += [f"tensors of {dtype} are stored as float32" for dtype in sorted(dtypes - {"float32"})]


def _convert_classifier(tensor: Tensor, settings: Settings) -> Tensor:
    """Weight or bias of smp's last convolution as our classifier's."""
    if settings["decoder_merge_policy"] == "cat" and tensor.ndim == 4:
        tensor = torch.cat(tensor.chunk(4, dim=1)[::-1], dim=1)  # smp concatenates the coarsest level first
    return torch.cat([torch.zeros_like(tensor), tensor]) if settings["classes"] == 1 else tensor


def _differences(settings: Settings) -> list[str]:
    """Notes about outputs that differ from smp's."""
    notes = []
    depth, factor = settings["encoder_depth"], settings.get("upsampling", 4)
    if factor != (right := STRIDES[depth][0]):
        notes.append(
            f"at depth {depth} and upsampling {factor} smp's masks are {factor / right:g} times the image's size; the "
            f"bundle's have the image's size, their logits are smp's with upsampling={right}"
        )
    activation = settings.get("activation", "identity")
    if activation != "identity":
        notes.append(f"activation {activation} is left out: bundles give logits")
    if activation == "sigmoid" and settings["classes"] > 1:
        notes.append("pixels that had several classes get the class of the highest logit")
    return notes
