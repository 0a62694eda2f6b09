"""ONNX: one file for ONNX Runtime and many others."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.export import ExportedProgram

from pyramidseg.backends.metadata import COARSE, INPUT, LOGITS
from pyramidseg.base.errors import ConfigError, import_extra
from pyramidseg.base.log import quiet_libraries

if TYPE_CHECKING:
    import onnx

LARGEST_BYTES = 2**31 - 2**20
"""Largest size of the weights: an ONNX file is limited to 2 GiB. The rest of the graph is far below 1 MiB."""

SIZES = {
    INPUT: ("batch", None, "height", "width"),
    **dict.fromkeys((LOGITS, "probabilities"), ("batch", None, "height", "width")),
    "labels": ("batch", "height", "width"),
    COARSE: ("batch", None, "coarse_height", "coarse_width"),
}
"""Names of the dynamic dimensions, in place of the formulas that the exporter writes."""


def to_onnx(
    program: ExportedProgram, *, outputs: Sequence[str] = (LOGITS, COARSE), opset: int | None = None
) -> "onnx.ModelProto":
    """Convert a program to ONNX, with the lowest version of the format (IR) that its operations allow.

    Args:
        outputs: their names.
        opset: version of the operations; by default the exporter's, 20.

    Raises:
        MissingExtra: the exporter's libraries are not installed.
        ConfigError: the weights do not fit into one file, or an operation has no ONNX equivalent.
    """
    for library in ("onnx", "onnxscript"):
        import_extra(library, extra="onnx", purpose="exporting to ONNX or OpenVINO")
    size = sum(tensor.numel() * tensor.element_size() for tensor in program.state_dict.values())
    if size > LARGEST_BYTES:
        raise ConfigError(
            f"{size / 2**30:.1f} GiB of weights do not fit into one ONNX file (2 GiB): use "
            "`precision='fp16'`, or `format='torch'`"
        )
    try:
        with quiet_libraries():
            exported = torch.onnx.export(
                program,
                dynamo=True,
                input_names=[INPUT],
                output_names=list(outputs),
                verbose=False,
                opset_version=opset,
            )
    except torch.onnx.errors.OnnxExporterError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise ConfigError(f"cannot be written as ONNX: {reason[:300]}; try `format='torch'`") from error
    assert exported is not None
    content = exported.model_proto
    _tidy(content)
    return _with_opset(content, opset)


def _with_opset(content: "onnx.ModelProto", opset: int | None) -> "onnx.ModelProto":
    """The model in an opset below those of the exporter.

    Raises:
        ConfigError: one of its operations has no form of that version.
    """
    import onnx
    import onnx.version_converter

    if opset is not None and all(opset < entry.version for entry in content.opset_import if not entry.domain):
        try:
            content = onnx.version_converter.convert_version(content, opset)
        except RuntimeError as error:
            reason = str(error).strip().rpartition(": ")[2]
            raise ConfigError(f"`opset={opset}`: an operation of this network needs a higher one ({reason})") from error
        for node in content.graph.node:  # the converter leaves an attribute that reductions have since opset 18
            if node.op_type.startswith("Reduce"):
                kept = [entry for entry in node.attribute if entry.name != "noop_with_empty_axes"]
                del node.attribute[:]
                node.attribute.extend(kept)
    content.ir_version = onnx.helper.find_min_ir_version_for(content.opset_import, ignore_unknown=True)
    return content


def _tidy(content: "onnx.ModelProto") -> None:
    """Name the dynamic dimensions, and remove source lines, paths and formulas that the exporter adds."""
    for value in (*content.graph.input, *content.graph.output):
        for dimension, name in zip(value.type.tensor_type.shape.dim, SIZES[value.name], strict=True):
            if name is not None and not dimension.HasField("dim_value"):
                dimension.dim_param = name
    del content.graph.value_info[:]
    for part in (content.graph, *content.graph.node, *content.graph.initializer):
        del part.metadata_props[:]
