"""Bundles: one safetensors file that holds a model's tensors and everything that is needed to use them.

The metadata are JSON texts by name: `model` (settings), `classes`, `encoder_source`, `input` (the contract of the
model's input), `value_range` (type and range of the training images, if known), `facts` (metrics, training data,
whether the weights are an EMA), `version` of this library. This module reads and writes the file; `Segmenter.save` and
`Segmenter.load` use it.
"""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from torch import Tensor

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import PyramidSegError, WeightsError
from pyramidseg.base.overrides import explain
from pyramidseg.base.remote_files import local_copy
from pyramidseg.base.stored_json import parse_mapping
from pyramidseg.base.text import first_few
from pyramidseg.base.version import __version__
from pyramidseg.images.value_range import ValueRange
from pyramidseg.model.encoder_weights import EncoderSource
from pyramidseg.model.state_dict_check import check_state_dict
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
        value_range: of the training images; None in older bundles, and where it is unknown.
    """

    path: Path
    tensors: Mapping[str, Tensor]
    config: ModelConfig
    classes: Classes
    encoder_source: EncoderSource
    facts: dict[str, Any]
    version: str = __version__
    value_range: ValueRange | None = None


def write_bundle(bundle: Bundle) -> None:
    """Write a bundle to its path, atomically and with a checksum; `facts` must be JSON serialisable."""
    metadata = {
        "format": KIND,
        "version": bundle.version,
        "model": bundle.config.model_dump_json(),
        "classes": json.dumps(bundle.classes.to_dict()),
        "encoder_source": bundle.encoder_source.to_json(),
        "input": INPUT_CONTRACT,
        "facts": json.dumps(bundle.facts),
    }
    if bundle.value_range is not None:
        metadata["value_range"] = json.dumps(asdict(bundle.value_range))
    write_tensors(bundle.path, bundle.tensors, metadata)


def read_bundle(path: str | Path) -> Bundle:
    """Read and verify a bundle, a file or the URL of one; tensors are on the CPU.

    Raises:
        WeightsError: the file does not exist, is damaged, is not a bundle, or has content unknown to this version.
    """
    if not isinstance(path, (str, os.PathLike)):
        raise WeightsError(f"a bundle's path is needed, got an object of type {type(path).__name__}")
    path = local_copy(path)
    tensors, metadata = read_verified(path, kind=KIND)
    return _parse(path, tensors, metadata)


def read_description(path: str | Path) -> Bundle:
    """A bundle without its tensors, whose checksum is therefore not verified; raises the same errors."""
    path = local_copy(path)
    return _parse(path, {}, read_metadata(path, kind=KIND))


def _parse(path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str]) -> Bundle:
    version = metadata.get("version", "unknown")
    try:
        config = ModelConfig.model_validate(parse_mapping(metadata["model"]))
        source = EncoderSource.from_json(metadata["encoder_source"])
        if not len(source.mean) == len(source.std) == config.in_channels:
            raise ValueError(f"mean and std of its encoder are not of {config.in_channels} channels")
        return Bundle(
            path=path,
            tensors=tensors,
            config=config,
            classes=Classes.from_dict(parse_mapping(metadata["classes"])),
            encoder_source=source,
            facts=parse_mapping(metadata["facts"]),
            version=version,
            value_range=ValueRange.from_json(metadata.get("value_range")),
        )
    except ValidationError as error:
        raise unsupported(path, version, explain(error, origin="its metadata")) from None
    except KeyError as error:
        raise unsupported(path, version, f"its metadata lack {error}") from None
    except (TypeError, ValueError, PyramidSegError) as error:
        raise unsupported(path, version, error) from None


def ground_resolution_of(metadata: Mapping[str, str]) -> float | None:
    """Metres per pixel of the training images, by a bundle's or an export's metadata; None if it has none."""
    data = parse_mapping(metadata.get("facts", "{}")).get("data")
    value = data.get("metres_per_pixel") if isinstance(data, dict) else None
    return float(value) if isinstance(value, (int, float)) and 0 < value < math.inf else None


def unsupported(path: Path, version: str, reason: Exception | str) -> WeightsError:
    """The error for a bundle whose settings or metadata this version cannot use."""
    return WeightsError(
        f"{path}: a bundle of pyramidseg {version} that this version ({__version__}) cannot read: "
        f"{' '.join(str(reason).split())[:300]}"
    )


def check_tensors(bundle: Bundle, own: Mapping[str, Tensor], *, config: ModelConfig, skip: Sequence[str] = ()) -> None:
    """Check that a bundle has all tensors of a model, in their shapes, and no others.

    Args:
        own: the model's state dict.
        config: the model's settings, compared with the bundle's in the error.
        skip: names of the model's tensors that are not taken from the bundle, whatever their shape there.

    Raises:
        WeightsError: with the tensors that do not fit and the settings that differ, or those with unusable values.
    """
    check_state_dict(
        {name: tensor for name, tensor in own.items() if name not in skip},
        {name: tensor for name, tensor in bundle.tensors.items() if name not in skip},
        what=f"{bundle.path}: another network",
        advice=f"settings that differ: {_differences(bundle.config, config)}",
    )


def class_rows(bundle: Bundle, classes: Classes) -> list[int]:
    """The row of a bundle's classifier for each class of a model: the class of the same name, in whatever order.

    Raises:
        WeightsError: the names differ; with both lists.
    """
    if sorted(bundle.classes.names) != sorted(classes.names):
        raise WeightsError(
            f"{bundle.path}: its {len(bundle.classes)} classes ({first_few(bundle.classes.names)}) differ from this "
            f"model's {len(classes)} ({first_few(classes.names)}); `reset_head=True` reinitialises the classifier "
            "and loads the rest"
        )
    return [bundle.classes.names.index(name) for name in classes.names]


def _differences(theirs: ModelConfig, ours: ModelConfig) -> str:
    mine = ours.model_dump(mode="json")
    differing = [
        f"{key}={value} (here {mine[key]})"
        for key, value in theirs.model_dump(mode="json").items()
        if value != mine[key] and key not in ("weights", "encoder_weights")
    ]
    return ", ".join(differing) or "none"
