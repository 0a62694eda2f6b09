"""OpenVINO as a backend: `.xml` files with their `.bin`, on CPUs and Intel's GPUs."""

import functools
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import Tensor

from pyramidseg.backends.exported_backend import ExportedBackend, Opened, check_file, damaged_file
from pyramidseg.backends.metadata import CHECKSUM, CHECKSUM_PLACEHOLDER, ExportMetadata, file_checksum
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import DeviceError, WeightsError, import_extra
from pyramidseg.base.files import file_sha256

if TYPE_CHECKING:
    import onnx

WEIGHTS_CHECKSUM = "weights_sha256"
"""Name of the checksum of the `.bin` in our metadata; the `.xml` has its own, as all exported files do."""

METADATA_KEY = "pyramidseg"
"""Key of our metadata in a file's `rt_info`."""

_TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


class OpenVinoBackend(ExportedBackend):
    """An OpenVINO file, with as many threads as torch has.

    The precision is always set: by default OpenVINO computes in bf16 on processors that support it.

    Args:
        device: `cpu` (also for `auto`), or another device of OpenVINO on this machine: `gpu`, `gpu.1`, `npu`.
        precision: `auto` is the file's own; files other than int8 run in `fp32` or `bf16`. On processors that do not
            support it, OpenVINO computes in fp32, and the attribute `precision` is fp32.
    """

    name = "openvino"
    suffix = ".xml"
    format = "openvino"
    # The precision is set when the file is run, whatever the weights are stored in.
    graphs: ClassVar[Mapping[str, str]] = dict.fromkeys(("fp32", "fp16", "bf16", "int8"), "fp32")
    libraries = ("openvino",)
    fixed_precision = False

    def open(self, content: Any, device: str, precision: RunPrecision) -> Opened:
        openvino = import_extra("openvino", extra="openvino", purpose="`backend='openvino'`")
        _check_weights(self.path, metadata_strings(content, self.path))
        core = shared_core()
        place = _device(device, core.available_devices)
        try:
            model = core.read_model(self.path)
            chosen = openvino.Model([model.output(name) for name in self.outputs], model.get_parameters(), METADATA_KEY)
            wanted = _openvino_type(self.metadata.precision if precision == "auto" else precision, core, place)
            options = {"INFERENCE_PRECISION_HINT": wanted, "PERFORMANCE_HINT": "LATENCY"}
            if place == "CPU":
                options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
            compiled = core.compile_model(chosen, place, options)
        except RuntimeError as error:
            raise damaged_file(self.path, error) from None
        computed = "int8" if self.metadata.precision == "int8" else _actual_precision(compiled)
        return Opened(compiled, computed, place.lower(), threaded=(compiled, core))

    def reopen(self) -> None:
        """Also a core of this process: the other one has threads, too."""
        shared_core.cache_clear()
        super().reopen()

    @classmethod
    def read(cls, path: Path) -> tuple[bytes, dict[str, str], Callable[[], str]]:
        """The bytes of an `.xml`, read without OpenVINO."""
        check_file(path, ".xml")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise damaged_file(path, error) from None
        strings = metadata_strings(content, path)
        return content, strings, lambda: file_checksum(content, strings.get(CHECKSUM, ""))

    @classmethod
    def save(cls, content: "onnx.ModelProto", path: Path, metadata: ExportMetadata) -> None:
        """Write an ONNX model as both files.

        Weights are stored in float32 for `fp32` and `bf16` (chosen at run time), and in float16 for `fp16`. OpenVINO's
        own default is float16. The `.xml` has the metadata, the checksum of the `.bin`, and its own checksum.
        """
        serialized = content.SerializeToString()  # the model keeps reading its weights from here
        model = shared_core().read_model(serialized)
        openvino = import_extra("openvino", extra="openvino", purpose="exporting to OpenVINO")
        openvino.save_model(model, path, compress_to_fp16=metadata.precision == "fp16")
        root = ElementTree.parse(path).getroot()  # noqa: S314  (written just before)
        notes = root.find("rt_info")
        assert notes is not None
        ours = ElementTree.SubElement(notes, METADATA_KEY)
        texts = {**metadata.to_strings(), WEIGHTS_CHECKSUM: file_sha256(path.with_suffix(".bin"))}
        for name, text in {**texts, CHECKSUM: CHECKSUM_PLACEHOLDER}.items():
            checksum = ElementTree.SubElement(ours, name, {"value": text})
        checksum.set("value", file_checksum(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True)))
        path.write_bytes(ElementTree.tostring(root, encoding="utf-8", xml_declaration=True))

    @classmethod
    def files(cls, path: Path) -> tuple[Path, ...]:
        return path.with_suffix(".bin"), path

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        _device(str(device), shared_core().available_devices)

    @classmethod
    def computed_precision(cls, precision: str, device: str) -> str:
        """The precision that OpenVINO uses on this machine if given this one, found with a model of one operation."""
        openvino = import_extra("openvino", extra="openvino", purpose="`backend='openvino'`")
        core = shared_core()
        place = _device(device, core.available_devices)
        values = openvino.opset8.parameter([1], openvino.Type.f32)
        model = openvino.Model([openvino.opset8.relu(values)], [values], METADATA_KEY)
        hint = {"INFERENCE_PRECISION_HINT": _openvino_type(precision, core, place)}
        return _actual_precision(core.compile_model(model, place, hint))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        # One request per call, which costs nothing, so that threads can share the backend.
        values = self.program.infer_new_request([self.to_input(images).cpu().numpy()])
        return {name: torch.from_numpy(values[index]) for index, name in enumerate(self.outputs)}


def metadata_strings(content: bytes, path: Path) -> dict[str, str]:
    """Our metadata of an OpenVINO file.

    Raises:
        WeightsError: it is not XML.
    """
    try:
        # expat itself bounds what entities may grow to.
        stored = ElementTree.fromstring(content).find(f"rt_info/{METADATA_KEY}")  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise damaged_file(path, error) from None
    return {} if stored is None else {entry.tag: entry.get("value", "") for entry in stored}


@functools.cache
def shared_core() -> Any:
    """The only `Core` of this process.

    A Core loads the CPU plugin, which installs an alternate signal stack for the thread, and restores the previous one
    when it is destroyed. If two Cores are destroyed in the order of their creation, the second restores the freed stack
    of the first, and the next handled signal (Ctrl-C, or SIGCHLD of a DataLoader's workers) ends in SIGSEGV.
    """
    return import_extra("openvino", extra="openvino", purpose="`backend='openvino'`").Core()


def _check_weights(path: Path, strings: dict[str, str]) -> None:
    """Check that the `.bin` belongs to this `.xml`: the two files may be copied separately."""
    weights = path.with_suffix(".bin")
    if not weights.is_file() or file_sha256(weights) != strings.get(WEIGHTS_CHECKSUM):
        found = "is damaged, belongs to another export or was written again by another program"
        what = found if weights.is_file() else "is not in the same folder"
        raise WeightsError(
            f"{path}: {weights.name}, which holds its weights, {what}; copy both files, or export the bundle again"
        )


def _device(device: str, available: list[str]) -> str:
    wanted = "CPU" if device == "auto" else device.upper()
    if wanted in available or (wanted == "GPU" and "GPU.0" in available):
        return wanted
    raise DeviceError(
        f"`device={device}`: OpenVINO runs on {', '.join(name.lower() for name in available)} on this "
        "machine; choose one of them, or auto"
    )


def _openvino_type(precision: str, core: Any, device: str) -> str:
    """OpenVINO's name of a precision; fp16 is only a storage type on devices that cannot multiply in it."""
    if precision == "bf16":
        return "bf16"
    if precision == "fp16" and "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return "f16"
    return "f32"


def _actual_precision(compiled: Any) -> str:
    """The precision of a compiled model, which may differ from the one requested."""
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return _TYPES.get(computed, str(computed))
