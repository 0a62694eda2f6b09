"""A foreign checkpoint as it lies on the disk, and what an importer of any library is told and gives back.

It is a file of tensors (.safetensors, or .pth, .pt, .bin of tensors only), or the folder that `save_pretrained` of
huggingface_hub writes: config.json beside model.safetensors, formerly pytorch_model.bin.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from pyramidseg.base.errors import WeightsError
from pyramidseg.model.encoder_weights import HUB_FILES
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import read_wrapped_tensors

CONFIG_FILE = "config.json"


@dataclass(frozen=True)
class Choices:
    """What a user says of a checkpoint; what is left out comes from the checkpoint, or is assumed, aloud.

    Attributes:
        encoder: the encoder as the other library names it.
        classes: names in the order of the logits.
        dropout: spatial dropout rate, for training on.
        interpolation: how the top-down path upsamples.
        mean: per channel, in the units in which the other library's network saw images.
        std: as `mean`.
        input_range: largest value of those images: 1, or 255 where they were not divided.
        prefix: of the tensors' names, where several networks lie in one file.
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
class Imported:
    """A model made of a foreign checkpoint.

    Attributes:
        facts: where it came from, as bundles store it.
        notes: in words, what was found, assumed and left out.
    """

    model: Segmenter
    facts: dict[str, Any]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint as it lies on the disk.

    Attributes:
        file: that holds the tensors.
        sha256: of that file.
        config: content of config.json, where the checkpoint is a folder.
        notes: what is to be said of the reading.
    """

    file: Path
    sha256: str
    tensors: Mapping[str, Tensor]
    config: Mapping[str, Any] | None
    notes: tuple[str, ...]


def read_checkpoint(path: Path) -> Checkpoint:
    """Read a file of tensors, or a folder with config.json; no code in them is run.

    Raises:
        WeightsError: no such file, damaged, or holding more than tensors.
    """
    file, config = (_file_in(path), _read_config(path / CONFIG_FILE)) if path.is_dir() else (path, None)
    tensors, wrappers = read_wrapped_tensors(file)
    notes = [f"weights taken from {wrapper!r} of the file" for wrapper in wrappers]
    if config is None and (file.parent / CONFIG_FILE).exists():
        notes.append(f"{CONFIG_FILE} beside the file was not read: give the folder if it belongs to it")
    with file.open("rb") as stream:
        sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    return Checkpoint(file, sha256, tensors, config, tuple(notes))


def _file_in(folder: Path) -> Path:
    for name in HUB_FILES:
        if (folder / name).is_file():
            return folder / name
    raise WeightsError(f"{folder}: a saved folder holds {' or '.join(HUB_FILES)}, and neither is there; or give a file")


def _read_config(file: Path) -> dict[str, Any] | None:
    if not file.exists():
        return None
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise WeightsError(f"{file}: not readable as JSON: {error}") from None
    if not isinstance(config, dict):
        raise WeightsError(f"{file}: a mapping of settings is needed, got a {type(config).__name__}")
    return config
