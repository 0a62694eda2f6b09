"""OpenVINO as a backend: `.xml` files with their `.bin`, on CPUs and Intel's GPUs."""

import functools
import hashlib
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.backends.exported import ExportedBackend, Outputs, damaged, require_file
from pyramidseg.backends.metadata import CHECKSUM, COARSE, ExportMetadata, checksum_of
from pyramidseg.backends.protocol import RunPrecision
from pyramidseg.base.errors import DeviceError, MissingExtra, WeightsError

WEIGHTS_CHECKSUM = "weights_sha256"
"""Name of the checksum of the `.bin` in our metadata; the `.xml` has one of its own, as all exported files have."""

METADATA = "pyramidseg"
"""Name of our part of a file's `rt_info`."""

_TYPES = {"f32": "fp32", "f16": "fp16", "bf16": "bf16"}


class OpenVinoBackend(ExportedBackend):
    """An OpenVINO file, with as many threads as torch has.

    The precision is asked for explicitly: left alone, OpenVINO computes in bf16 wherever the processor can.

    Args:
        device: `cpu` (which is `auto`), or one that OpenVINO has here: `gpu`, `gpu.1`, `npu`.
        precision: `auto` is what the file was exported in; any file may run in `fp32` or `bf16`. Where the processor
            cannot multiply in it, OpenVINO computes in fp32, and `precision` says so.

    Raises:
        MissingExtra: OpenVINO is not installed.
        WeightsError: no such file, damaged, or not exported by this library.
        DeviceError: OpenVINO has no such device here.
    """

    name = "openvino"
    suffix = ".xml"
    format = "openvino"
    libraries = ("openvino",)

    def __init__(
        self,
        model: str | Path,
        *,
        device: str | torch.device = "auto",
        precision: RunPrecision = "auto",
        outputs: Outputs = (COARSE,),
    ) -> None:
        openvino = import_openvino("backend=openvino")
        path = Path(model)
        card = self.read_card(path)
        _check_weights(path, self.read_texts(path))
        core = shared_core()
        place = _device(str(device), core.available_devices)
        try:
            content = core.read_model(path)
            chosen = openvino.Model([content.output(name) for name in outputs], content.get_parameters(), METADATA)
            wanted = _type_for(card.precision if precision == "auto" else precision, core, place)
            options = {"INFERENCE_PRECISION_HINT": wanted, "PERFORMANCE_HINT": "LATENCY"}
            if place == "CPU":
                options["INFERENCE_NUM_THREADS"] = str(torch.get_num_threads())
            self._compiled = core.compile_model(chosen, place, options)
        except RuntimeError as error:
            raise damaged(path, error) from None
        self._describe(
            path,
            card,
            precision=_computed_in(self._compiled),
            device=torch.device("cpu"),
            computing_device=torch.device("cpu") if place == "CPU" else None,
            place=place.lower(),
        )
        self._outputs = outputs

    @classmethod
    def read_texts(cls, path: Path) -> dict[str, str]:
        """The metadata of a file, read without OpenVINO."""
        return texts_of(read_xml(path), path)

    @classmethod
    def read_card(cls, path: Path) -> ExportMetadata:
        """What a file says of itself."""
        content = read_xml(path)
        texts = texts_of(content, path)
        return ExportMetadata.from_texts(texts, path, checksum=checksum_of(content, texts.get(CHECKSUM, "")))

    @classmethod
    def check_device(cls, device: str | torch.device) -> None:
        """Refuse a device that OpenVINO does not have here."""
        import_openvino("backend=openvino")
        _device(str(device), shared_core().available_devices)

    @classmethod
    def computed_precision(cls, precision: str, device: str) -> str:
        """What OpenVINO computes in here when it is told this precision: a model of one operation shows it."""
        openvino = import_openvino("backend=openvino")
        core = shared_core()
        place = _device(device, core.available_devices)
        values = openvino.opset8.parameter([1], openvino.Type.f32)
        model = openvino.Model([openvino.opset8.relu(values)], [values], METADATA)
        hint = {"INFERENCE_PRECISION_HINT": _type_for(precision, core, place)}
        return _computed_in(core.compile_model(model, place, hint))

    def run(self, images: Tensor) -> dict[str, Tensor]:
        """The chosen outputs, on the CPU."""
        # A request of its own for each call, which costs nothing, so that threads may share the backend.
        values = self._compiled.infer_new_request([self.accepted(images).cpu().numpy()])
        return {name: torch.from_numpy(values[index]) for index, name in enumerate(self._outputs)}


def read_xml(path: Path) -> bytes:
    """The bytes of an `.xml`.

    Raises:
        WeightsError: no such file, or unreadable.
    """
    require_file(path, ".xml")
    try:
        return path.read_bytes()
    except OSError as error:
        raise damaged(path, error) from None


def texts_of(content: bytes, path: Path) -> dict[str, str]:
    """Our metadata of an OpenVINO file.

    Raises:
        WeightsError: it is no XML.
    """
    try:
        # expat itself bounds what entities may grow to.
        stored = ElementTree.fromstring(content).find(f"rt_info/{METADATA}")  # noqa: S314
    except (ElementTree.ParseError, ValueError) as error:
        raise damaged(path, error) from None
    return {} if stored is None else {entry.tag: entry.get("value", "") for entry in stored}


def checksum_of_weights(weights: Path) -> str:
    """SHA-256 of a file."""
    with weights.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def import_openvino(purpose: str) -> Any:
    """The library.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        import openvino
    except ImportError:
        raise MissingExtra("openvino", extra="openvino", purpose=purpose) from None
    return openvino


@functools.cache
def shared_core() -> Any:
    """The one `Core` of this process; OpenVINO is installed.

    A Core loads the CPU plugin, which gives the thread a stack for signals, and puts back the one before when it goes.
    Of two Cores the first to go would leave the second to put back what is gone: the next signal with a handler, be it
    Ctrl-C or the end of a process once a DataLoader has had workers, would end the process with SIGSEGV.
    """
    import openvino

    return openvino.Core()


def _check_weights(path: Path, texts: dict[str, str]) -> None:
    """Refuse a `.bin` that is not this `.xml`'s: they are two files, and are copied one by one."""
    weights = path.with_suffix(".bin")
    if not weights.is_file():
        raise WeightsError(f"{path}: {weights.name}, which holds its weights, is not beside it; copy both files")
    if checksum_of_weights(weights) != texts.get(WEIGHTS_CHECKSUM):
        raise WeightsError(f"{path}: {weights.name} beside it is damaged or belongs to another export; copy both files")


def _device(device: str, available: list[str]) -> str:
    wanted = "CPU" if device == "auto" else device.upper()
    if wanted in available or (wanted == "GPU" and "GPU.0" in available):
        return wanted
    raise DeviceError(
        f"device={device}: OpenVINO runs on {', '.join(name.lower() for name in available)} here; "
        "choose one of them, or auto"
    )


def _type_for(precision: str, core: Any, device: str) -> str:
    """OpenVINO's word for a precision; fp16 is a way to store weights where the device cannot multiply in it."""
    if precision == "bf16":
        return "bf16"
    if precision == "fp16" and "FP16" in core.get_property(device, "OPTIMIZATION_CAPABILITIES"):
        return "f16"
    return "f32"


def _computed_in(compiled: Any) -> str:
    """The precision of a compiled model, which may be another one than it was told."""
    computed = compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
    return _TYPES.get(computed, str(computed))
