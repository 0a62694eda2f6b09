"""The formats: how each is written, by which runtime it is checked, and in which precisions it comes.

int8 will join as a precision whose graph is quantised between `capture` and the format, in a module `quantise` of this
package; parity, files and command line need nothing new for it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from torch.export import ExportedProgram

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import PRECISIONS, ExportMetadata
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.export.onnx_format import OnnxFile
from pyramidseg.export.openvino_format import OpenVinoFile
from pyramidseg.export.torch_format import TorchFile

PLANNED = {"int8": "quantisation is not part of this version yet"}
"""Precisions that are still to come."""


class ModelFile(Protocol):
    """A graph in a format, ready to be written as often as it takes: the card changes, the rest does not."""

    def save(self, path: Path, card: ExportMetadata) -> None:
        """Write it, with whatever other files it consists of."""
        ...


@dataclass(frozen=True)
class Format:
    """A kind of exported file.

    Attributes:
        convert: a captured graph to a file of this kind.
        backend: what runs it, and so what checks it.
        graphs: precision of the graph that is converted, by precision of the file.
        suffixes: of all files that it consists of; the one that is opened comes last.
        refusals: why a precision is not to be had.
        slow_on_processors: what is to be said of a precision that only GPUs are fast in.
    """

    convert: Callable[[ExportedProgram], ModelFile]
    backend: type[ExportedBackend]
    graphs: Mapping[str, str]
    suffixes: tuple[str, ...]
    refusals: Mapping[str, str] = field(default_factory=dict)
    slow_on_processors: Mapping[str, str] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """Of the file that is opened."""
        return self.suffixes[-1]


FORMATS: dict[str, Format] = {
    "onnx": Format(
        OnnxFile,
        OnnxRuntimeBackend,
        graphs={"fp32": "fp32", "fp16": "fp16"},
        suffixes=(".onnx",),
        refusals={"bf16": "ONNX Runtime has no bf16 convolutions on processors; OpenVINO has (--format openvino)"},
    ),
    "openvino": Format(
        OpenVinoFile,
        OpenVinoBackend,
        # The runtime multiplies in what it is told, whatever the weights are stored in.
        graphs={"fp32": "fp32", "fp16": "fp32", "bf16": "fp32"},
        suffixes=(".bin", ".xml"),
    ),
    "torch": Format(
        TorchFile,
        ExportedTorchBackend,
        graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"},
        suffixes=(".pt2",),
        slow_on_processors={
            "fp16": "fp16 is for GPUs: on a processor torch is many times slower in it than in fp32, also in the check"
        },
    ),
}
"""Format by the name that `--format` takes."""


def find_format(name: str, precision: str) -> Format:
    """The format of a name, which can be had in this precision.

    Raises:
        ConfigError: it cannot, or one of them does not exist.
    """
    if name not in FORMATS:
        raise ConfigError(f"--format {name}: no such format; {nearest(name, FORMATS)}")
    if precision not in (*PRECISIONS, *PLANNED):
        raise ConfigError(f"--precision {precision}: no such precision; {nearest(precision, PRECISIONS)}")
    chosen = FORMATS[name]
    if precision in chosen.graphs:
        return chosen
    reason = {**PLANNED, **chosen.refusals}[precision]
    raise ConfigError(f"--format {name} --precision {precision}: {reason}; possible are {', '.join(chosen.graphs)}")
