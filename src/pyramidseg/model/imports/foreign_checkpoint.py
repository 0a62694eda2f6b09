"""Checkpoints of other libraries: reading the files, and the options and result of an import.

A checkpoint is a file of tensors (.safetensors, or .pth, .pt, .bin of tensors only), or the folder that
`save_pretrained` of huggingface_hub writes: config.json with model.safetensors, formerly pytorch_model.bin.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pyramidseg.base.errors import WeightsError
from pyramidseg.base.files import file_sha256
from pyramidseg.base.stored_json import parse_mapping
from pyramidseg.base.text import first_line
from pyramidseg.model.hub_weights import HUB_FILES
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_wrapped_tensors

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class ImportOptions:
    """Settings that a checkpoint may not contain; None and () leave them to the checkpoint or a reported default.

    Attributes:
        encoder: name of the encoder in the other library.
        classes: class names in the order of the logits.
        dropout: spatial dropout rate for further training.
        interpolation: upsampling mode of the top-down path.
        mean: per channel, in the units of the images that the other library's network was given.
        std: as `mean`.
        input_range: largest value of those images: 1, or 255 if they were not divided by 255.
        prefix: of the tensors' names, if the file holds several networks.
    """

    encoder: str | None = None
    classes: tuple[str, ...] = ()
    dropout: float | None = None
    interpolation: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    input_range: float = 1.0
    prefix: str | None = None


@dataclass(frozen=True)
class ImportedModel:
    """A model converted from a checkpoint.

    Attributes:
        facts: origin of the model, to be stored in its bundle (`model.save(path, facts=facts)`).
        notes: messages about what was found, assumed and left out.
    """

    model: Segmenter
    facts: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class ForeignCheckpoint:
    """The content of a checkpoint.

    Attributes:
        file: the file that holds the tensors.
        config: content of config.json, if the checkpoint is a folder that has one.
    """

    file: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None
    notes: tuple[str, ...]


def read_foreign_checkpoint(path: Path) -> ForeignCheckpoint:
    """Read a file of tensors, or a folder with config.json, without running code from it.

    Raises:
        WeightsError: the file does not exist, is damaged, or holds more than tensors.
    """
    file, config = (_weights_file(path), _read_config(path / CONFIG_FILE)) if path.is_dir() else (path, None)
    tensors, wrappers = read_wrapped_tensors(file)
    notes = [f"weights read from the key {wrapper!r} of the file" for wrapper in wrappers]
    if config is None and (file.parent / CONFIG_FILE).exists():
        notes.append(f"{CONFIG_FILE} in the same folder was not read; give the folder instead of the file to use it")
    return ForeignCheckpoint(file, file_sha256(file), tensors, config, tuple(notes))


def _weights_file(folder: Path) -> Path:
    for name in HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder}: the folder contains neither {' nor '.join(HUB_FILES)}; give a file of weights")


def _read_config(file: Path) -> dict[str, Any] | None:
    try:
        return parse_mapping(file.read_text(encoding="utf-8")) if file.exists() else None
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: not readable as JSON of a mapping of settings: {first_line(error)}") from None
