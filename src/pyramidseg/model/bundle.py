"""Bundles: one safetensors file that holds a model and everything that is needed to use it.

The metadata are JSON texts by name: `model` (settings), `classes`, `encoder_source`, `input` (the contract of
`Segmenter`'s input), `facts` (metrics, training data, whether the weights are an EMA), `version` of this library.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import PyramidSegError, WeightsError
from pyramidseg.base.text import first_few
from pyramidseg.base.version import __version__
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_metadata, read_verified, write_tensors

KIND = "pyramidseg bundle"

INPUT_CONTRACT = (
    "(B, C, H, W); integers in their type's range (uint8 0-255, uint16 0-65535), floats in [0, 1], "
    "other rasters in raw units; normalised inside the model"
)


@dataclass(frozen=True)
class Bundle:
    """A loaded model and the facts stored with it."""

    model: Segmenter
    facts: dict[str, Any]
    version: str


@dataclass(frozen=True)
class MatchReport:
    """What of a bundle went into a model: names of tensors."""

    loaded: tuple[str, ...]
    reset: tuple[str, ...]

    def __str__(self) -> str:
        reset = f"; started anew: {', '.join(self.reset)}" if self.reset else ""
        return f"{len(self.loaded)} of {len(self.loaded) + len(self.reset)} tensors loaded{reset}"


def save_bundle(model: Segmenter, path: Path, *, facts: dict[str, Any]) -> None:
    """Write `model` atomically and checksummed; `facts` has to be JSON."""
    metadata = {
        "format": KIND,
        "version": __version__,
        "model": model.settings.model_dump_json(),
        "classes": json.dumps(model.classes.to_dict()),
        "encoder_source": model.encoder_source.to_json(),
        "input": INPUT_CONTRACT,
        "facts": json.dumps(facts),
    }
    write_tensors(path, model.state_dict(), metadata)


def load_bundle(path: Path) -> Bundle:
    """Model and facts of a bundle, on the CPU, in evaluation mode.

    Raises:
        WeightsError: absent, damaged, foreign, or of a version whose settings this one does not know.
    """
    tensors, metadata = read_verified(path, kind=KIND)
    try:
        settings = json.loads(metadata["model"])
        classes = Classes.from_dict(json.loads(metadata["classes"]))
        with torch.random.fork_rng([]):  # loading must not disturb the caller's random numbers
            model = without_weights(classes, settings)
        model.encoder_source = EncoderSource.from_json(metadata["encoder_source"])
        facts: dict[str, Any] = json.loads(metadata["facts"])
    except (KeyError, TypeError, ValueError, PyramidSegError) as error:
        raise WeightsError(
            f"{path}: a bundle of pyramidseg {metadata.get('version', 'unknown')} that this version "
            f"({__version__}) cannot read: {error}"
        ) from None
    _copy_all(model, tensors, path)
    return Bundle(model.eval(), facts, metadata["version"])


def without_weights(classes: Classes, settings: dict[str, Any]) -> Segmenter:
    """A model of these settings whose weights are still to come, all of them: nothing is fetched to be overwritten."""
    model = Segmenter(classes=classes, **{**settings, "encoder_weights": "none", "weights": "random"})
    model.settings = model.settings.model_copy(update={"encoder_weights": settings["encoder_weights"]})
    return model


def read_settings(path: Path) -> dict[str, Any]:
    """The model settings of a bundle, without reading its tensors."""
    settings: dict[str, Any] = json.loads(read_metadata(path, kind=KIND)["model"])
    return settings


def load_weights(model: Segmenter, path: Path, *, reset_head: bool = False) -> MatchReport:
    """Start `model` from a bundle's weights, normalisation included; all of it, or nothing.

    Args:
        reset_head: leave the layers whose shape depends on the classes as they were initialised.

    Raises:
        WeightsError: classes differ and `reset_head` is not set, or any other tensor is absent or misshapen.
    """
    tensors, metadata = read_verified(path, kind=KIND)
    theirs = Classes.from_dict(json.loads(metadata["classes"]))
    if theirs.names != model.classes.names and not reset_head:
        raise WeightsError(
            f"{path}: its {len(theirs)} classes ({first_few(theirs.names)}) are not this model's {len(model.classes)} "
            f"({first_few(model.classes.names)}); --reset-head starts the classifier anew and keeps the rest"
        )
    own = model.state_dict()
    reset = tuple(name for name in own if name.startswith(("classifier.", "head."))) if reset_head else ()
    wanted = [name for name in own if name not in reset]
    wrong = [name for name in wanted if name not in tensors or tensors[name].shape != own[name].shape]
    unused = [name for name in tensors if name not in own]
    if wrong or unused:
        raise WeightsError(
            f"{path}: another network: {len(wrong)} tensors are absent or of another shape ({first_few(wrong)}), "
            f"{len(unused)} have no place ({first_few(unused)}); its settings are {_differences(model, metadata)}"
        )
    model.load_state_dict({name: tensors[name] for name in wanted} | {name: own[name] for name in reset})
    model.encoder_source = EncoderSource.from_json(metadata["encoder_source"])
    return MatchReport(tuple(wanted), reset)


def _copy_all(model: Segmenter, tensors: dict[str, Tensor], path: Path) -> None:
    try:
        model.load_state_dict(tensors)
    except RuntimeError as error:
        raise WeightsError(
            f"{path}: its tensors do not fit its own settings: {' '.join(str(error).split())[:300]}"
        ) from None


def _differences(model: Segmenter, metadata: dict[str, str]) -> str:
    own = model.settings.model_dump(mode="json")
    theirs = json.loads(metadata["model"])
    differing = [f"{key}={theirs[key]} (here {own.get(key)})" for key in theirs if theirs[key] != own.get(key)]
    return ", ".join(item for item in differing if not item.startswith(("weights=", "encoder_weights="))) or "the same"
