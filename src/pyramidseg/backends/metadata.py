"""Metadata of an exported file: its model, classes and input, stored as strings in the file itself.

`format`, `version`, `precision` and `sha256` (over the whole file: graph, weights and metadata) are plain text; the
others are JSON: `model` (settings), `classes` (names and colours), `normalization` (which is part of the graph),
`input` and `outputs` (the contract for other programs that run the file), `source` (the bundle), `parity` (the
result of the comparison with it), `value_range` and `facts` (of the training images), `quantization` (of int8).
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import torch
from annotated_types import Gt
from pydantic import FiniteFloat, ValidationError

from pyramidseg.base.classes import Classes
from pyramidseg.base.config import ModelConfig
from pyramidseg.base.errors import PyramidSegError, WeightsError
from pyramidseg.base.stored_json import parse_mapping, parse_stored
from pyramidseg.base.version import __version__
from pyramidseg.images.value_range import ValueRange
from pyramidseg.model.bundle import ground_resolution_of

KIND = "pyramidseg export"

CHECKSUM = "sha256"

CHECKSUM_PLACEHOLDER = "0" * 64
"""Replaces the checksum in a file while the checksum is computed."""

INPUT = "images"
LOGITS, COARSE = "logits", "coarse_logits"
"""Names of a file's input and outputs."""

INPUT_DTYPES = {"uint8": torch.uint8, "uint16": torch.uint16, "float32": torch.float32}

PRECISIONS = ("fp32", "fp16", "bf16", "int8")

TARGETS: dict[str, tuple[str, ...]] = {"any": (), "avx2": ("avx2",), "vnni": ("avx512_vnni", "avx_vnni")}
"""Processors that int8 files are made for, and the instructions of which these have one. Without VNNI, two products are
added in 16 bits, which 2 x 255 x 127 overflows silently and 2 x 255 x 64 does not: only `vnni` has 8-bit weights."""

_VALUES = {"uint8": "0-255", "uint16": "0-65535", "float32": "[0, 1], or raw units where the model was trained on them"}


_OUTPUTS = {
    LOGITS: "(batch, classes, height, width) float32; the class is the argmax over axis 1",
    "probabilities": "(batch, classes, height, width) float32, softmax over axis 1",
    "labels": "(batch, height, width) uint8, the class",
}


@dataclass(frozen=True)
class Program:
    """What a file for other programs computes.

    Attributes:
        output: its only output, `logits`, `labels` or `probabilities`.
        size: (height, width) of the images; None for any.
        batch: number of images, where the size is fixed.
    """

    output: str = LOGITS
    size: tuple[int, int] | None = None
    batch: int = 1

    def __str__(self) -> str:
        size = "" if self.size is None else f" of {self.batch} x {self.size[0]}x{self.size[1]}"
        return f"{self.output}{size}"


@dataclass(frozen=True)
class Quantization:
    """How an int8 file was made: `images` are ids, drawn with `seed`; `float_blocks` stayed in float, worst first."""

    quantizer: str
    target: str
    dataset: str
    seed: int
    images: tuple[str, ...]
    float_blocks: tuple[str, ...] = ()


@dataclass(frozen=True)
class ExportMetadata:
    """The metadata of an exported file.

    Attributes:
        precision: of its multiplications, one of `PRECISIONS`.
        input_dtype: a key of `INPUT_DTYPES`; float32 files accept all dtypes, others only their own.
        mean: of the channels, in the units of `Segmenter.set_normalization`.
        source: file name and checksum of the bundle; empty for a model in memory.
        parity: the report of `export.parity`; None before the check.
        value_range, resolution_m: of the bundle's training images, in metres per pixel; None if unknown.
        program: None for a file that `predict` can run.
        quantization: of an int8 file.
        other_texts: written for another program; not read again.
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
    value_range: ValueRange | None = None
    resolution_m: float | None = None
    program: Program | None = None
    quantization: Quantization | None = None
    other_texts: Mapping[str, str] = field(default_factory=dict)

    def to_strings(self) -> dict[str, str]:
        """The metadata as they are stored in the file."""
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
                LOGITS: _OUTPUTS[LOGITS],
                COARSE: f"the same before the last upsampling, at stride {self.settings.finest_stride} of the image "
                f"padded below and right to multiples of {self.settings.coarsest_stride}",
            },
            "source": dict(self.source),
            "parity": None if self.parity is None else dict(self.parity),
            "value_range": None if self.value_range is None else asdict(self.value_range),
            "facts": {"data": {"metres_per_pixel": self.resolution_m}},
        }
        if self.quantization is not None:
            contents["quantization"] = asdict(self.quantization)
        if self.program is not None:
            output = self.program.output
            contents |= {"program": asdict(self.program), "outputs": {output: _OUTPUTS[output]}}
        if self.program is not None and self.program.size is not None:
            contents["input"] |= {
                "shape": [self.program.batch, self.settings.in_channels, *self.program.size],
                "size": "this one only; normalised inside",
            }
        strings = {name: json.dumps(content, ensure_ascii=False) for name, content in contents.items()}
        own = {"format": KIND, "version": self.version, "precision": self.precision, **strings}
        return {**self.other_texts, **own}

    @classmethod
    def from_strings(cls, strings: Mapping[str, str], path: Path, *, checksum: Callable[[], str]) -> "ExportMetadata":
        """Parse and check what `to_strings` wrote.

        Args:
            checksum: computes that of the file's present content, which is compared with the stored one.

        Raises:
            WeightsError: the file was not exported by this library, was changed, or is of an incompatible version.
        """
        if strings.get("format") != KIND:
            raise WeightsError(
                f"{path}: was not exported by pyramidseg, or another program removed its metadata (format {KIND!r}):"
                " its classes and its input are unknown; export the bundle again with pyramidseg export BUNDLE"
            )
        if CHECKSUM not in strings:
            raise WeightsError(f"{path}: holds no checksum, so that damage cannot be detected; export it again")
        if strings[CHECKSUM] != checksum():
            raise WeightsError(
                f"{path}: written again by another program since it was exported and checked, or damaged: its "
                "checksum does not match its content; export it again"
            )
        try:
            normalization = parse_stored(_Normalization, strings["normalization"])
            dtype = str(parse_mapping(strings["input"])["dtype"])
            if dtype not in INPUT_DTYPES:
                raise ValueError(f"input {dtype}")
            if (precision := strings["precision"]) not in PRECISIONS:
                raise ValueError(f"precision {precision}")
            settings = ModelConfig.model_validate(parse_mapping(strings["model"]))
            if not len(normalization.mean) == len(normalization.std) == settings.in_channels:
                raise ValueError(f"mean and std of another number of channels than {settings.in_channels}")
            return cls(
                precision=precision,
                input_dtype=dtype,
                classes=Classes.from_dict(parse_mapping(strings["classes"])),
                settings=settings,
                mean=normalization.mean,
                std=normalization.std,
                source=parse_stored(dict[str, str], strings["source"]),
                parity=None if strings["parity"] == "null" else parse_mapping(strings["parity"]),
                version=strings["version"],
                value_range=ValueRange.from_json(strings.get("value_range")),
                resolution_m=ground_resolution_of(strings),
                program=parse_stored(Program, strings["program"]) if "program" in strings else None,
                quantization=parse_stored(Quantization, strings["quantization"]) if "quantization" in strings else None,
            )
        except (KeyError, TypeError, ValueError, ValidationError, PyramidSegError) as error:
            raise WeightsError(
                f"{path}: exported by pyramidseg {strings.get('version', 'unknown')}, whose metadata this version "
                f"({__version__}) cannot read: {' '.join(str(error).split())[:200]}"
            ) from None


@dataclass(frozen=True)
class _Normalization:
    mean: tuple[FiniteFloat, ...]
    std: tuple[Annotated[FiniteFloat, Gt(0)], ...]


def file_checksum(content: bytes, stored: str = CHECKSUM_PLACEHOLDER) -> str:
    """SHA-256 of a file's content, with the checksum stored in it replaced by `CHECKSUM_PLACEHOLDER`."""
    begin = content.find(stored.encode())
    view = memoryview(content)
    digest = hashlib.sha256(view[:begin])
    digest.update(CHECKSUM_PLACEHOLDER.encode())
    digest.update(view[begin + len(stored) :])
    return digest.hexdigest()
