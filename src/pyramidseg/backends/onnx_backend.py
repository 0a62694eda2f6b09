"""ONNX Runtime as a backend: `.onnx` files, on the CPU or an NVIDIA GPU."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from pyramidseg.backends.exported import ExportedBackend, Outputs, damaged, require_file
from pyramidseg.backends.metadata import CHECKSUM, COARSE, INPUT, ExportMetadata, checksum_of
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import ConfigError, DeviceError, MissingExtra

if TYPE_CHECKING:
    import onnx

GPU, CPU = "CUDAExecutionProvider", "CPUExecutionProvider"
"""Names of the execution providers."""


class OnnxRuntimeBackend(ExportedBackend):
    """An ONNX file in ONNX Runtime, with as many threads as torch has.

    Args:
        precision: `auto`, or what the file was exported in.

    Raises:
        MissingExtra: ONNX Runtime is not installed.
        WeightsError: no such file, damaged, or not exported by this library.
        DeviceError: this ONNX Runtime cannot use the device.
        ConfigError: a precision that is not the file's.
    """

    name = "onnxruntime"
    suffix = ".onnx"
    format = "onnx"
    libraries = ("onnx", "onnxruntime")

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        outputs: Outputs = (COARSE,),
    ) -> None:
        runtime = _onnxruntime()
        path = Path(model)
        content, card = read_verified(path)
        if precision not in ("auto", card.precision):
            raise ConfigError(
                f"precision={precision}: {path} was exported in {card.precision}, which is fixed in an ONNX file; "
                "leave precision out"
            )
        provider, provider_options = _provider(str(device), runtime.get_available_providers())
        options = runtime.SessionOptions()
        options.intra_op_num_threads = torch.get_num_threads()
        options.log_severity_level = 3  # errors: what it warns of is of no use to people
        keep_outputs(content, outputs)
        try:
            self._session = runtime.InferenceSession(
                content.SerializeToString(), options, providers=[(provider, provider_options)]
            )
        except Exception as error:  # ONNX Runtime has a kind of its own for each status, none of them an OSError
            raise damaged(path, error) from None
        # Where a GPU's libraries cannot be loaded, ONNX Runtime quietly takes the processor.
        used = self._session.get_providers()[0]
        if used != provider and device != "auto":
            raise DeviceError(
                f"device={device}: ONNX Runtime cannot use this GPU and would run on {used}: CUDA and cuDNN of the "
                "versions that onnxruntime-gpu was built for are needed; install them, or choose cpu"
            )
        place = "cpu" if used == CPU else f"cuda:{provider_options['device_id']}"
        self._describe(
            path,
            card,
            precision=card.precision,
            device=torch.device("cpu"),
            computing_device=torch.device(place),
            place=place,
        )
        self._outputs = outputs

    @classmethod
    def read_texts(cls, path: Path) -> dict[str, str]:
        """The metadata of a file; needs the onnx package."""
        return texts_of(read_onnx(path)[0])

    @classmethod
    def read_card(cls, path: Path) -> ExportMetadata:
        """What a file says of itself; needs the onnx package."""
        return read_verified(path)[1]

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Refuse a device that this ONNX Runtime was not built for."""
        _provider(str(device), _onnxruntime().get_available_providers())

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs, on the CPU."""
        values = self._session.run(list(self._outputs), {INPUT: self.accepted(images).cpu().numpy()})
        return {name: torch.from_numpy(value) for name, value in zip(self._outputs, values, strict=True)}


def read_verified(path: Path) -> tuple["onnx.ModelProto", ExportMetadata]:
    """The content of an ONNX file that is as it was exported, and its card.

    Raises:
        MissingExtra: the onnx package is not installed.
        WeightsError: no such file, damaged, or not exported by this library.
    """
    content, stored = read_onnx(path)
    texts = texts_of(content)
    return content, ExportMetadata.from_texts(texts, path, checksum=checksum_of(stored, texts.get(CHECKSUM, "")))


def read_onnx(path: Path) -> tuple["onnx.ModelProto", bytes]:
    """The content of an ONNX file, and the same as it is stored.

    Raises:
        MissingExtra: the onnx package is not installed.
        WeightsError: no such file, or unreadable.
    """
    require_file(path, ".onnx")
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise MissingExtra("onnx", extra="onnx", purpose="reading ONNX files") from None
    try:
        stored = path.read_bytes()
        return onnx.load_model_from_string(stored), stored
    except (DecodeError, OSError, ValueError) as error:
        raise damaged(path, error) from None


def texts_of(content: "onnx.ModelProto") -> dict[str, str]:
    """Metadata by name."""
    return {entry.key: entry.value for entry in content.metadata_props}


def keep_outputs(content: "onnx.ModelProto", names: Outputs) -> None:
    """Cut all off that these outputs do not need: ONNX Runtime computes whatever is in the graph, asked for or not."""
    graph = content.graph
    kept = [output for output in graph.output if output.name in names]
    assert len(kept) == len(names), names
    needed = set(names)
    nodes = []
    for node in reversed(graph.node):  # nodes stand in an order in which they can be computed
        if needed.intersection(node.output):
            needed.update(node.input)
            nodes.append(node)
    del graph.output[:]
    graph.output.extend(kept)
    del graph.node[:]
    graph.node.extend(reversed(nodes))


def _provider(device: str, available: list[str]) -> tuple[str, dict[str, str]]:
    """The execution provider of a device with its options; `auto` is the GPU where this build can use it."""
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


def _onnxruntime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise MissingExtra("onnxruntime", extra="onnx", purpose="backend=onnxruntime") from None
    return onnxruntime
