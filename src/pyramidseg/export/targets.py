"""The export formats: how each is written, which runtime checks it, and its precisions."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import ExportMetadata
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.export import mobile_formats, onnx_format, openvino_format, torch_format
from pyramidseg.export.mobile_formats import CoreMlFile, ExecuTorchFile, LiteRtFile
from pyramidseg.export.web import page_files


@dataclass(frozen=True)
class Format:
    """An export format.

    Attributes:
        save: writes a graph as ONNX model, `torch` as captured, with metadata. (A page is written by `web.convert`.)
        backend: runs the file, and so checks it.
        graphs: precision of the graph to convert, by precision of the file.
        files: all its files by the one that is opened, which comes last.
    """

    save: Callable[[Any, Path, ExportMetadata], None]
    backend: type[ExportedBackend]
    graphs: Mapping[str, str]
    files: Callable[[Path], tuple[Path, ...]] = lambda target: (target,)


FORMATS: dict[str, Format] = {
    "onnx": Format(onnx_format.save, OnnxRuntimeBackend, graphs={"fp32": "fp32", "fp16": "fp16", "int8": "fp32"}),
    "web": Format(onnx_format.save, OnnxRuntimeBackend, graphs={"fp32": "fp32", "fp16": "fp16"}, files=page_files),
    "openvino": Format(
        openvino_format.save,
        OpenVinoBackend,
        # The precision is set when the file is run, whatever the weights are stored in.
        graphs={"fp32": "fp32", "fp16": "fp32", "bf16": "fp32", "int8": "fp32"},
        files=lambda target: (target.with_suffix(".bin"), target),
    ),
    "torch": Format(torch_format.save, ExportedTorchBackend, graphs={"fp32": "fp32", "fp16": "fp16", "bf16": "bf16"}),
    "executorch": Format(mobile_formats.save, ExecuTorchFile, {"fp32": "fp32"}, mobile_formats.files),
    "litert": Format(mobile_formats.save, LiteRtFile, {"fp32": "fp32"}, mobile_formats.files),
    "coreml": Format(mobile_formats.save, CoreMlFile, {"fp32": "fp32", "fp16": "fp32"}, mobile_formats.files),
}
"""Format by the name that `--format` takes."""


def find_format(name: str, precision: str) -> Format:
    """The format of a name.

    Raises:
        ConfigError: an unknown format, or a precision that it does not support.
    """
    if name not in FORMATS:
        raise ConfigError(f"format={name}: unknown format; {nearest(name, FORMATS)}")
    if precision not in FORMATS[name].graphs:
        others = [f"format={other}" for other, found in FORMATS.items() if precision in found.graphs]
        advice = f", or {' or '.join(others)}" if others else ""
        raise ConfigError(f"format={name}, precision={precision}: choose {' or '.join(FORMATS[name].graphs)}{advice}")
    return FORMATS[name]
