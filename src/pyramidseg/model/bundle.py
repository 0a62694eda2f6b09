"""Bundles: one safetensors file that holds a model's tensors and everything that is needed to use them.

The metadata are JSON texts by name: `model` (settings), `classes`, `encoder_source`, `input` (the contract of the
model's input), `facts` (metrics, training data, whether the weights are an EMA), `version` of this library. This module
reads and writes the file; `Segmenter.save` and `Segmenter.load` use it.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import PyramidSegError, WeightsError
from pyramidseg.base.overrides import explain
from pyramidseg.base.text import first_few
from pyramidseg.base.version import __version__
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.tensor_files import read_metadata, read_verified, write_tensors

KIND = "pyramidseg bundle"

INPUT_CONTRACT = (
    "(B, C, H, W); integers in their type's range (uint8 0-255, uint16 0-65535), floats in [0, 1], "
    "other rasters in raw units; normalised inside the model"
)


@dataclass(frozen=True)
class Bundle:
    """The content of a bundle file.

    Attributes:
        config: settings of the model.
        facts: what was stored with the model, such as `metrics`, `epoch` and `ema`.
        version: of the library that wrote the file.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    config: ModelConfig
    classes: Classes
    encoder_source: EncoderSource
    facts: dict[str, Any]
    version: str


def write_bundle(
    path: Path,
    tensors: Mapping[str, Tensor],
    *,
    config: ModelConfig,
    classes: Classes,
    encoder_source: EncoderSource,
    facts: Mapping[str, Any],
) -> None:
    """Write a bundle atomically and with a checksum; `facts` must be JSON serialisable."""
    metadata = {
        "format": KIND,
        "version": __version__,
        "model": config.model_dump_json(),
        "classes": json.dumps(classes.to_dict()),
        "encoder_source": encoder_source.to_json(),
        "input": INPUT_CONTRACT,
        "facts": json.dumps(dict(facts)),
    }
    write_tensors(path, tensors, metadata)


def read_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle; tensors are on the CPU.

    Raises:
        WeightsError: the file does not exist, is damaged, is not a bundle, or has settings unknown to this version.
    """
    path = Path(path)
    tensors, metadata = read_verified(path, kind=KIND)
    try:
        return Bundle(
            path=path,
            tensors=tensors,
            config=ModelConfig.model_validate(json.loads(metadata["model"])),
            classes=Classes.from_dict(json.loads(metadata["classes"])),
            encoder_source=EncoderSource.from_json(metadata["encoder_source"]),
            facts=json.loads(metadata["facts"]),
            version=metadata["version"],
        )
    except ValidationError as error:
        raise unsupported(path, metadata.get("version", "unknown"), explain(error, origin="model")) from None
    except (KeyError, TypeError, ValueError, PyramidSegError) as error:
        raise unsupported(path, metadata.get("version", "unknown"), error) from None


def read_settings(path: str | Path) -> dict[str, Any]:
    """The model settings of a bundle, without reading its tensors.

    Raises:
        WeightsError: the file does not exist, is damaged or is not a bundle.
    """
    settings: dict[str, Any] = json.loads(read_metadata(Path(path), kind=KIND)["model"])
    return settings


def unsupported(path: Path, version: str, reason: Exception) -> WeightsError:
    """The error for a bundle whose settings or metadata this version cannot use."""
    return WeightsError(
        f"{path}: a bundle of pyramidseg {version} that this version ({__version__}) cannot read: {reason}"
    )


def check_tensors(bundle: Bundle, own: Mapping[str, Tensor], *, config: ModelConfig, skip: Sequence[str] = ()) -> None:
    """Check that a bundle has all tensors of a model, in their shapes, and no others.

    Args:
        own: the model's state dict.
        config: the model's settings, compared with the bundle's in the error.
        skip: names of the model's tensors that are not taken from the bundle, whatever their shape there.

    Raises:
        WeightsError: with the numbers of tensors that do not fit and the settings that differ.
    """
    needed = [name for name in own if name not in skip]
    unfit = [name for name in needed if name not in bundle.tensors or bundle.tensors[name].shape != own[name].shape]
    unknown = [name for name in bundle.tensors if name not in own]
    if unfit or unknown:
        raise WeightsError(
            f"{bundle.path}: another network: {len(unfit)} tensors are absent or of another shape "
            f"({first_few(unfit)}), {len(unknown)} are unknown to this model ({first_few(unknown)}); "
            f"settings that differ: {_differences(bundle.config, config)}"
        )


def check_classes(bundle: Bundle, classes: Classes) -> None:
    """Check that the names of a bundle's classes are a model's.

    Raises:
        WeightsError: with both lists.
    """
    if bundle.classes.names != classes.names:
        raise WeightsError(
            f"{bundle.path}: its {len(bundle.classes)} classes ({first_few(bundle.classes.names)}) differ from this "
            f"model's {len(classes)} ({first_few(classes.names)}); --reset-head reinitialises the classifier and "
            "loads the rest"
        )


def _differences(theirs: ModelConfig, ours: ModelConfig) -> str:
    mine = ours.model_dump(mode="json")
    differing = [
        f"{key}={value} (here {mine[key]})"
        for key, value in theirs.model_dump(mode="json").items()
        if value != mine[key] and key not in ("weights", "encoder_weights")
    ]
    return ", ".join(differing) or "none"
