"""FPN checkpoints of smp as Segmenters of equal logits.

smp's network (its decoders/fpn/decoder.py and base/heads.py) is ours with these settings: no smoothing, group norm of
32 groups, bilinear upsampling with align_corners in the semantic branch and at the end. At encoder_depth 4 our strides
are 2 to 16 and our masks have the image's size: the logits are smp's with upsampling=2, whatever the checkpoint had.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, WeightsError
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.imports.foreign_checkpoint import Choices, Imported, read_checkpoint
from pyramidseg.model.imports.smp.network import STRIDES, Network, network_of, own_tensors, stated, understood_config
from pyramidseg.model.imports.smp.preprocessing import normalization
from pyramidseg.model.imports.smp.tensor_names import AUXILIARY_HEAD, HEAD, smp_name
from pyramidseg.model.imports.state_dict_check import grouped, require_fit
from pyramidseg.model.segmenter import Segmenter

INTERPOLATIONS = {"nearest": "nearest", "nearest-exact": "nearest", "area": "nearest", "bilinear": "bilinear"}
"""Ours by smp's: where a map is doubled, three of its modes repeat every value."""

MERGES = {"add": "add", "cat": "concat"}


def import_smp(path: Path, choices: Choices) -> Imported:
    """The Segmenter of an FPN checkpoint of smp.

    A network of one class (smp's default, trained with a sigmoid) becomes one of two: the background's logit is 0, so
    that the softmax over both is its sigmoid.

    Raises:
        ConfigError: choices that are needed, or contradict the checkpoint.
        WeightsError: a file, network, encoder or tensors that cannot be imported.
    """
    checkpoint = read_checkpoint(path)
    config = understood_config(checkpoint)
    tensors, found = own_tensors(checkpoint, choices.prefix)
    network = network_of(tensors, config, encoder=choices.encoder, where=checkpoint.file)
    settings, assumed = _settings(network, config, choices, where=checkpoint.file)
    classes, named = _classes(network.outputs, choices.classes)
    with torch.random.fork_rng([]):  # importing must not disturb the caller's random numbers
        model = Segmenter(classes=classes, **settings)
    left_out = _load(model, tensors, network, where=checkpoint.file)
    mean, std, statistics = normalization(
        network, config, choices, stored=checkpoint.tensors, assumed=model.encoder_source
    )
    model.set_normalization(mean, std)
    model.encoder_source = EncoderSource("file", f"{checkpoint.file.name} (smp {network.encoder})", mean, std)
    facts = {
        "library": "segmentation_models.pytorch",
        "file": checkpoint.file.name,
        "sha256": checkpoint.sha256,
        "encoder": network.encoder,
        "encoder_depth": network.encoder_depth,
        "encoder_weights": config.get("encoder_weights"),
        "config": checkpoint.config,
    }
    notes = (*checkpoint.notes, *found, str(network), *assumed, named, statistics, *left_out)
    return Imported(model.eval(), {"imported": facts}, (*notes, *_otherwise(network, config)))


def _settings(
    network: Network, config: Mapping[str, Any], choices: Choices, *, where: Path
) -> tuple[dict[str, Any], list[str]]:
    """Our settings that make smp's network, and what of them was assumed."""
    dropout, dropout_note = stated(config, "decoder_dropout", choices.dropout, flag="--dropout", default=0.2)
    mode, mode_note = stated(
        config, "decoder_interpolation", choices.interpolation, flag="--interpolation", default="nearest"
    )
    if mode not in INTERPOLATIONS:
        raise WeightsError(
            f"{where}: decoder_interpolation={mode} cannot be imported; possible: {', '.join(INTERPOLATIONS)}"
        )
    finest, coarsest = STRIDES[network.encoder_depth]
    settings = {
        "encoder": network.twin.name,
        "encoder_weights": "none",
        "dropout": dropout,
        "in_channels": network.in_channels,
        "finest_stride": finest,
        "coarsest_stride": coarsest,
        "pyramid_channels": network.pyramid_channels,
        "segmentation_channels": network.segmentation_channels,
        "merge": MERGES.get(network.merge_policy, network.merge_policy),
        "norm": "group",
        "smoothing": False,
        "align_corners": True,
        "interpolation": INTERPOLATIONS[mode],
    }
    return settings, [note for note in (dropout_note, mode_note) if note]


def _classes(outputs: int, names: tuple[str, ...]) -> tuple[Classes, str]:
    """Our classes, and what to say of them."""
    if outputs == 1 and len(names) <= 2:
        both = ("background", *(names or ("foreground",)))[-2:]
        return Classes.named(both), f"one class becomes two: {both[0]}, of logit 0, and {both[1]}, of its logit"
    if names and len(names) != outputs:
        raise ConfigError(f"--classes {','.join(names)}: {len(names)} names, and the network has {outputs} classes")
    if names:
        return Classes.named(names), f"classes {', '.join(names)}"
    return Classes.numbered(outputs), "checkpoints name no classes: numbered here; --classes names them"


def _load(model: Segmenter, tensors: Mapping[str, Tensor], network: Network, *, where: Path) -> list[str]:
    """Fill the model, all of it or nothing; returns in words what was left out.

    Raises:
        WeightsError: tensors that are absent, misshapen or unknown, all of them.
    """
    own = model.state_dict()
    theirs = {name: smp_name(name, encoder=network.twin.prefix) for name in own if name not in {"mean", "std"}}
    expected = {theirs[name]: own[name] for name in theirs}
    classifier = (f"{HEAD}.weight", f"{HEAD}.bias")
    for name in classifier:
        expected[name] = expected[name][-network.outputs :]  # all rows, or one where a background is ours
    auxiliary = [name for name in tensors if name.startswith(AUXILIARY_HEAD)]
    idle = [name for name in tensors if name not in expected and network.twin.never_runs(name)]
    given = {name: tensor for name, tensor in tensors.items() if name not in {*auxiliary, *idle}}
    require_fit(expected, given, what=f"{where}: no smp FPN of {network.encoder} at depth {network.encoder_depth}")
    for name in classifier:
        given[name] = _our_classifier(given[name], network)
    model.load_state_dict(own | {name: given[theirs[name]] for name in theirs})
    kinds = {str(tensor.dtype).removeprefix("torch.") for tensor in given.values() if tensor.is_floating_point()}
    return [
        *([f"left out, the auxiliary classification head: {grouped(auxiliary)}"] if auxiliary else []),
        *([f"left out, kept by smp and never run: {grouped(idle)}"] if idle else []),
        *(f"tensors of {kind} are stored as float32" for kind in sorted(kinds - {"float32"})),
    ]


def _our_classifier(tensor: Tensor, network: Network) -> Tensor:
    """Weight or bias of smp's last convolution as our classifier's."""
    if network.merge_policy == "cat" and tensor.ndim == 4:
        tensor = torch.cat(tensor.chunk(4, dim=1)[::-1], dim=1)  # it concatenates the coarsest level first
    return torch.cat([torch.zeros_like(tensor), tensor]) if network.outputs == 1 else tensor


def _otherwise(network: Network, config: Mapping[str, Any]) -> list[str]:
    """What the bundle gives otherwise than smp, in words."""
    notes = []
    factor, right = config.get("upsampling", 4), STRIDES[network.encoder_depth][0]
    if factor != right:
        notes.append(
            f"at depth {network.encoder_depth} and upsampling {factor} smp's masks are {factor / right:g} times the "
            f"image's size; the bundle's have the image's size, their logits are smp's with upsampling={right}"
        )
    activation = config.get("activation", "identity")
    if activation != "identity":
        notes.append(f"activation {activation} is left out: bundles give logits")
    if activation == "sigmoid" and network.outputs > 1:
        notes.append("where several classes were meant at one pixel, the bundle gives the one of the highest logit")
    return notes
