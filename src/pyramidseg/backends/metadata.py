"""The card of an exported file: what it holds and how it is to be used, stored as texts in the file's own metadata.

`format`, `version`, `precision` and `sha256` (over the whole file: graph, weights and metadata) are plain; the others
are JSON: `model` (settings), `classes` (names and colours), `normalization` (what the file does itself to an image),
`input` and `outputs` (the contract for those who run the file with other programs), `source` (the bundle), `parity`
(how it was checked against it).
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import PyramidSegError, WeightsError
from pyramidseg.base.version import __version__

KIND = "pyramidseg export"

CHECKSUM = "sha256"

CHECKSUM_PLACEHOLDER = "0" * 64
"""Stands in a file for its checksum while that is taken."""

INPUT = "images"
LOGITS, COARSE = "logits", "coarse_logits"
"""Names of a file's input and outputs."""

INPUT_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}

PRECISIONS = ("fp32", "fp16", "bf16")

_VALUES = {
    "uint8": "0-255",
    "uint16": "0-65535",
    "float32": "[0, 1], or raw units where the model was trained on them",
}


@dataclass(frozen=True)
class ExportMetadata:
    """What an exported file says of itself.

    Attributes:
        precision: of its multiplications, `fp32`, `fp16` or `bf16`.
        input_dtype: a key of `INPUT_DTYPES`; the only type of image that the file takes.
        mean: of the channels, in the units of `Segmenter.set_normalization`.
        source: the bundle's file name and checksum; empty for a model in memory.
        parity: the report of `export.parity`; None before it was checked.
    """

    precision: str
    input_dtype: str
    classes: Classes
    settings: ModelConfig
    mean: tuple[float, ...]
    std: tuple[float, ...]
    source: Mapping[str, str]
    parity: Mapping[str, Any] | None = None
    version: str = __version__

    def to_texts(self) -> dict[str, str]:
        """As it is stored; `from_texts` reads it."""
        contents: dict[str, Any] = {
            "model": self.settings.model_dump(mode="json"),
            "classes": self.classes.to_dict(),
            "normalization": {"mean": self.mean, "std": self.std},
            "input": {
                "name": INPUT,
                "dtype": self.input_dtype,
                "shape": ["batch", self.settings.in_channels, "height", "width"],
                "values": _VALUES[self.input_dtype],
                "size": "any batch, height and width from 1; padded and normalised inside",
            },
            "outputs": {
                LOGITS: "(batch, classes, height, width) float32; the class is the argmax over axis 1",
                COARSE: f"the same before the last upsampling, at stride {self.settings.finest_stride} of the image "
                f"padded below and right to multiples of {self.settings.coarsest_stride}",
            },
            "source": dict(self.source),
            "parity": None if self.parity is None else dict(self.parity),
        }
        texts = {name: json.dumps(content, ensure_ascii=False) for name, content in contents.items()}
        return {"format": KIND, "version": self.version, "precision": self.precision, **texts}

    @classmethod
    def from_texts(cls, texts: Mapping[str, str], path: Path, *, checksum: str) -> "ExportMetadata":
        """The card of a file's metadata.

        Args:
            checksum: of the file as it is; the metadata has to hold the same.

        Raises:
            WeightsError: not exported by this library, changed since, or by a version that this one cannot read.
        """
        if texts.get("format") != KIND:
            raise WeightsError(
                f"{path}: was not exported by pyramidseg (its metadata has no format={KIND!r}), so that its classes "
                "and its input are unknown; pyramidseg export BUNDLE makes a file that says them"
            )
        if CHECKSUM not in texts:
            raise WeightsError(f"{path}: holds no checksum of its content, so that it may be damaged; export it again")
        if texts[CHECKSUM] != checksum:
            raise WeightsError(
                f"{path}: damaged, or changed since it was exported and checked: its checksum does not match its "
                "content; export it again"
            )
        try:
            normalization = json.loads(texts["normalization"])
            dtype = str(json.loads(texts["input"])["dtype"])
            if dtype not in INPUT_DTYPES:
                raise ValueError(f"input {dtype}")
            if (precision := texts["precision"]) not in PRECISIONS:
                raise ValueError(f"precision {precision}")
            return cls(
                precision=precision,
                input_dtype=dtype,
                classes=Classes.from_dict(json.loads(texts["classes"])),
                settings=ModelConfig.model_validate(json.loads(texts["model"])),
                mean=tuple(normalization["mean"]),
                std=tuple(normalization["std"]),
                source=json.loads(texts["source"]),
                parity=json.loads(texts["parity"]),
                version=texts["version"],
            )
        except (KeyError, TypeError, ValueError, ValidationError, PyramidSegError) as error:
            raise WeightsError(
                f"{path}: exported by pyramidseg {texts.get('version', 'unknown')}, whose metadata this version "
                f"({__version__}) cannot read: {' '.join(str(error).split())[:200]}"
            ) from None


def checksum_of(content: bytes, stored: str = CHECKSUM_PLACEHOLDER) -> str:
    """SHA-256 of a file's content, with `CHECKSUM_PLACEHOLDER` in the place of the checksum that is stored in it."""
    begin = content.find(stored.encode())
    view = memoryview(content)
    digest = hashlib.sha256(view[:begin])
    digest.update(CHECKSUM_PLACEHOLDER.encode())
    digest.update(view[begin + len(stored) :])
    return digest.hexdigest()
