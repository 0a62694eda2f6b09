"""ONNX files, for ONNX Runtime and many others: written, and run by ONNX Runtime on the CPU or an NVIDIA GPU."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.export import ExportedProgram

from pyramidseg.backends.exported_backend import ExportedBackend, Opened, OutputNames, check_file, damaged_file
from pyramidseg.backends.metadata import (
    CHECKSUM,
    CHECKSUM_PLACEHOLDER,
    COARSE,
    INPUT,
    LOGITS,
    ExportMetadata,
    file_checksum,
)
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import ConfigError, DeviceError, import_extra
from pyramidseg.base.log import quiet_libraries

if TYPE_CHECKING:
    import onnx

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
"""Names of the execution providers."""

LARGEST_BYTES = 2**31 - 2**20
"""Largest size of the weights: an ONNX file is limited to 2 GiB. The rest of the graph is far below 1 MiB."""

SIZES = {
    INPUT: ("batch", None, "height", "width"),
    **dict.fromkeys((LOGITS, "probabilities"), ("batch", None, "height", "width")),
    "labels": ("batch", "height", "width"),
    COARSE: ("batch", None, "coarse_height", "coarse_width"),
}
"""Names of the dynamic dimensions, in place of the formulas that the exporter writes."""


class OnnxRuntimeBackend(ExportedBackend):
    """An ONNX file in ONNX Runtime, with as many threads as torch has; its precision is fixed."""

    name = "onnxruntime"
    suffix = ".onnx"
    format = "onnx"
    libraries = ("onnx", "onnxruntime")

    def open(self, content: Any, device: str, precision: RunPrecision) -> Opened:
        """A session on the device."""
        runtime = import_extra("onnxruntime", extra="onnx", purpose="backend=onnxruntime")
        provider, provider_options = _choose_provider(device, runtime.get_available_providers())
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors only: its warnings are about internals
        prune_outputs(content, self.outputs)
        try:
            program = content.SerializeToString()
            session = runtime.InferenceSession(program, options, providers=[(provider, provider_options)])
        except Exception as error:  # ONNX Runtime has an exception class per status
            raise damaged_file(self.path, error) from None
        # If a GPU's libraries cannot be loaded, ONNX Runtime silently falls back to the CPU.
        used = session.get_providers()[0]
        if used != provider and device != "auto":
            raise DeviceError(
                f"device={device}: ONNX Runtime cannot use this GPU and would run on {used}: CUDA and cuDNN of the "
                "versions that onnxruntime-gpu was built for are needed; install them, or choose cpu"
            )
        place = "cpu" if used == CPU else f"cuda:{provider_options['device_id']}"
        threaded = session, getattr(session, "_sess", None)
        return Opened(session, self.metadata.precision, place, torch.device("cpu"), threaded)

    @classmethod
    def read(cls, path: Path) -> tuple["onnx.ModelProto", dict[str, str], Callable[[], str]]:
        """A file as a protocol buffer; needs the onnx package."""
        check_file(path, ".onnx")
        onnx = import_extra("onnx", extra="onnx", purpose="reading ONNX files")
        from google.protobuf.message import DecodeError

        try:
            stored = path.read_bytes()
            content = onnx.load_model_from_string(stored)
            graph = content.graph
            tensors = [*graph.initializer, *(entry.t for node in graph.node for entry in node.attribute)]
            if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
                raise ValueError("its weights are in other files; our exports hold all of them in one file")
        except (DecodeError, OSError, ValueError) as error:
            raise damaged_file(path, error) from None
        strings = metadata_strings(content)
        return content, strings, lambda: file_checksum(stored, strings.get(CHECKSUM, ""))

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Check that this ONNX Runtime was built for a device."""
        runtime = import_extra("onnxruntime", extra="onnx", purpose="backend=onnxruntime")
        _choose_provider(str(device), runtime.get_available_providers())

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs, on the CPU."""
        values = self.program.run(list(self.outputs), {INPUT: self.to_input(images).cpu().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(self.outputs, values, strict=True)}


def metadata_strings(content: "onnx.ModelProto") -> dict[str, str]:
    """The raw metadata by name."""
    return {entry.key: entry.value for entry in content.metadata_props}


def prune_outputs(content: "onnx.ModelProto", names: OutputNames) -> None:
    """Remove the nodes that these outputs do not need: ONNX Runtime computes every node of the graph."""
    graph = content.graph
    kept = [output for output in graph.output if output.name in names]
    assert len(kept) == len(names), names
    needed = set(names)
    nodes = []
    for node in reversed(graph.node):  # nodes are in topological order
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.output[:]
    graph.output.extend(kept)
    del graph.node[:]
    graph.node.extend(reversed(nodes))
    tensors = [tensor for tensor in graph.initializer if any(tensor.name in node.input for node in nodes)]
    del graph.initializer[:]
    graph.initializer.extend(tensors)


def _choose_provider(device: str, available: list[str]) -> tuple[str, dict[str, str]]:
    """The execution provider of a device and its options; `auto` is the GPU if this build can use it."""
    kind, _, index = device.partition(":")
    has_gpu = GPU in available and torch.cuda.is_available()
    if kind in ("cuda", "auto") and has_gpu:
        return GPU, {"device_id": index or "0"}
    if device in ("cpu", "auto"):
        return CPU, {}
    raise DeviceError(
        f"device={device}: this ONNX Runtime runs on {'cpu and cuda' if has_gpu else 'cpu only'}; choose cpu or auto"
        + ("; an NVIDIA GPU needs the package onnxruntime-gpu" if kind == "cuda" else "")
    )


def save(content: "onnx.ModelProto", path: Path, metadata: ExportMetadata) -> None:
    """Write a model as one file, with its metadata."""
    import onnx

    texts = metadata.to_strings()
    onnx.helper.set_model_props(content, {**texts, CHECKSUM: CHECKSUM_PLACEHOLDER})
    checksum = file_checksum(content.SerializeToString())
    onnx.helper.set_model_props(content, {**texts, CHECKSUM: checksum})
    path.write_bytes(content.SerializeToString())


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
            f"{size / 2**30:.1f} GiB of weights do not fit into one ONNX file (2 GiB): use --precision fp16, "
            "or --format torch"
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
        raise ConfigError(f"cannot be written as ONNX: {reason[:300]}; try --format torch") from error
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
            raise ConfigError(f"--opset {opset}: an operation of this network needs a higher one ({reason})") from error
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
