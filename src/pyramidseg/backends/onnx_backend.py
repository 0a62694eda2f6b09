"""ONNX Runtime as a backend: `.onnx` files, on the CPU or an NVIDIA GPU."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pyramidseg.backends.exported_backend import ExportedBackend, Opened, OutputNames, check_file, damaged_file
from pyramidseg.backends.metadata import CHECKSUM, CHECKSUM_PLACEHOLDER, INPUT, ExportMetadata, file_checksum
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import DeviceError, WeightsError, import_extra

if TYPE_CHECKING:
    import onnx

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
"""Names of the execution providers."""


class OnnxRuntimeBackend(ExportedBackend):
    """An ONNX file in ONNX Runtime, with as many threads as torch has; its precision is fixed."""

    name = "onnxruntime"
    suffix = ".onnx"
    format = "onnx"
    graphs: ClassVar[Mapping[str, str]] = {"fp32": "fp32", "fp16": "fp16", "int8": "fp32"}
    libraries = ("onnx", "onnxruntime")

    def open(self, content: Any, device: str, precision: RunPrecision) -> Opened:
        runtime = import_extra("onnxruntime", extra="onnx", purpose="`backend='onnxruntime'`")
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
                f"`device={device}`: ONNX Runtime cannot use this GPU and would run on {used}: CUDA and cuDNN of the "
                "versions that onnxruntime-gpu was built for are needed; install them, or choose cpu"
            )
        place = "cpu" if used == CPU else f"cuda:{provider_options['device_id']}"
        return Opened(session, self.metadata.precision, place, threaded=(session, getattr(session, "_sess", None)))

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
        except (DecodeError, OSError, ValueError) as error:
            raise damaged_file(path, error) from None
        if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in tensors):
            raise WeightsError(
                f"{path}: written by another program: its weights are in other files, and an export has them in one "
                "file; export the bundle again"
            )
        strings = metadata_strings(content)
        return content, strings, lambda: file_checksum(stored, strings.get(CHECKSUM, ""))

    @classmethod
    def save(cls, content: "onnx.ModelProto", path: Path, metadata: ExportMetadata) -> None:
        import onnx

        texts = metadata.to_strings()
        onnx.helper.set_model_props(content, {**texts, CHECKSUM: CHECKSUM_PLACEHOLDER})
        checksum = file_checksum(content.SerializeToString())
        onnx.helper.set_model_props(content, {**texts, CHECKSUM: checksum})
        path.write_bytes(content.SerializeToString())

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        runtime = import_extra("onnxruntime", extra="onnx", purpose="`backend='onnxruntime'`")
        _choose_provider(str(device), runtime.get_available_providers())

    def run(self, images: Tensor) -> dict[str, Tensor]:
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
        f"`device={device}`: this ONNX Runtime runs on {'cpu and cuda' if has_gpu else 'cpu only'}; choose cpu or auto"
        + ("; an NVIDIA GPU needs the package onnxruntime-gpu" if kind == "cuda" else "")
    )
