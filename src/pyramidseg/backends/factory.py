"""Which backend runs a model: the one that was asked for, or the fastest that can."""

import importlib.util
from collections.abc import Callable
from functools import cache
from pathlib import Path

import torch

from pyramidseg.backends.exported import ExportedBackend
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.protocol import ModelBackend, RunPrecision
from pyramidseg.backends.torch_backend import CompiledTorchBackend, TorchBackend
from pyramidseg.backends.torch_exported import ExportedTorchBackend
from pyramidseg.base.device import choose_device
from pyramidseg.base.errors import ConfigError, WeightsError, nearest
from pyramidseg.model.bundle import KIND
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.model.tensor_files import CHECKSUM, read_metadata

BACKENDS: dict[str, Callable[..., ModelBackend]] = {
    "torch": TorchBackend,
    "torch-compiled": CompiledTorchBackend,
    "torch-exported": ExportedTorchBackend,
    "onnxruntime": OnnxRuntimeBackend,
    "openvino": OpenVinoBackend,
}
"""Backend by name; each takes the model, `device` and `precision`."""

EXPORTED: dict[str, type[ExportedBackend]] = {
    ".onnx": OnnxRuntimeBackend,
    ".xml": OpenVinoBackend,
    ".pt2": ExportedTorchBackend,
}
"""Backend by suffix of the exported files that it runs: the one through which export has checked them."""

FASTER_ON_CPU: tuple[type[ExportedBackend], ...] = (OpenVinoBackend, OnnxRuntimeBackend)
"""What runs a bundle's export faster than torch runs the bundle on a CPU, fastest first.

DESIGN section 7, ms for ResNet-50 at 512x512 in fp32: OpenVINO 184, ONNX Runtime 192, torch 290. `pyramidseg benchmark`
measures it for a model and a machine."""


def make_backend(
    model: Segmenter | str | Path,
    name: str = "auto",
    *,
    device: str | torch.device = "auto",
    precision: RunPrecision = "auto",
) -> ModelBackend:
    """A model in a runtime.

    An exported file has a runtime of its own. A bundle runs in torch; on a CPU `auto`, `openvino` and `onnxruntime`
    take its fp32 export where one lies beside it under the bundle's own name (as `pyramidseg export` leaves it), made
    from this very bundle, and `str()` of the backend names it. With `auto`, images of a type that the export does not
    take are predicted in torch all the same, by the bundle. Nothing is exported unasked: without the parity check that
    is part of an export, it would be another model.

    Raises:
        ConfigError: no backend has this name, or it cannot run this model.
        MissingExtra: its library is not installed.
        WeightsError: the file cannot be used.
        DeviceError: the runtime cannot use the device.
    """
    if name != "auto" and name not in BACKENDS:
        raise ConfigError(f"backend={name}: no such backend; {nearest(str(name), ['auto', *BACKENDS])}")
    if not isinstance(device, (str, torch.device)):
        raise ConfigError(f"device={device!r}: a name is needed, such as auto, cpu or cuda:0, or a torch.device")
    if precision not in ("auto", "fp32", "bf16"):
        raise ConfigError(f"precision={precision}: auto, fp32 and bf16 are possible")
    needed = next((backend for backend in EXPORTED.values() if backend.name == name), None)
    if isinstance(model, Segmenter):
        if needed is not None:
            raise ConfigError(f"backend={name}: runs exported files, and this model is in memory; save and export it")
        return BACKENDS["torch" if name == "auto" else name](model, device=device, precision=precision)
    path = Path(model)
    if (own := EXPORTED.get(path.suffix)) is not None:
        if name not in ("auto", own.name):
            raise ConfigError(
                f"backend={name}: {path} is run by {own.name}, through which its export was checked; leave it out"
            )
        return BACKENDS[own.name](path, device=device, precision=precision)
    if (lower := path.suffix.lower()) in EXPORTED:
        raise WeightsError(f"{path}: exported files end in {lower}, in small letters; rename it")
    if path.suffix == ".bin" and (graph := path.with_suffix(OpenVinoBackend.suffix)).is_file():
        raise WeightsError(f"{path}: holds the weights of {graph.name} alone; name {graph}")
    if needed is not None:
        return BACKENDS[name](_export_of(path, needed), device=device, precision=precision)
    if name != "auto":
        return BACKENDS[name](path, device=device, precision=precision)
    return _fastest(path, device, precision)


def _fastest(bundle: Path, device: str | torch.device, precision: RunPrecision) -> ModelBackend:
    """What runs a bundle fastest here, among what is installed and exported."""
    place = choose_device(device) if isinstance(device, str) else device
    note = ""
    for faster in FASTER_ON_CPU if place.type == "cpu" else ():
        file = bundle.with_suffix(faster.suffix)
        if not file.is_file() or not all(importlib.util.find_spec(library) for library in faster.libraries):
            continue
        reason = _difference(file, bundle, faster)
        if reason is None and precision == "bf16" and faster is not OpenVinoBackend:
            reason = "its precision is fixed"
        if reason is None:
            return _for_all_types(faster(file, device=place, precision=precision), bundle, place, precision)
        note = f"{file.name} is not used, as {reason}"
    backend = TorchBackend(bundle, device=place, precision=precision)
    backend.note = note
    return backend


def _for_all_types(
    exported: ExportedBackend, bundle: Path, device: torch.device, precision: RunPrecision
) -> ExportedBackend:
    """An export that leaves to its bundle, which is opened when it is needed, images of a type that it does not take.

    No bundle says of which type its images will be: a model of 8-bit pictures is given 16-bit ones, or floats, as well.
    """
    own = exported.card.input_dtype
    if own == "float32":  # takes them all
        return exported

    @cache
    def in_torch() -> ModelBackend:
        if (reason := _difference(exported.path, bundle, type(exported))) is not None:
            raise WeightsError(
                f"{bundle}: is needed for images that are not {own}, and {exported.path.name}, which runs the others, "
                f"is no longer its own, as {reason}; start again"
            )
        return TorchBackend(bundle, device=device, precision=precision)

    exported.other_types = in_torch
    exported.note += f", and torch for images that are not {own}"
    return exported


def _export_of(bundle: Path, backend: type[ExportedBackend]) -> Path:
    """A bundle's export for a runtime that was asked for.

    Raises:
        ConfigError: there is none beside it.
        WeightsError: it is not this bundle's.
    """
    file = bundle.with_suffix(backend.suffix)
    command = f"pyramidseg export {bundle} --format {backend.format}"
    if not file.is_file():
        raise ConfigError(f"backend={backend.name}: runs exported files, and {file} is not there: {command}")
    if (reason := _difference(file, bundle, backend)) is not None:
        raise WeightsError(f"backend={backend.name}: {file} is not used, as {reason}; export anew: {command}")
    return file


def _difference(file: Path, bundle: Path, backend: type[ExportedBackend]) -> str | None:
    """Why an exported file cannot stand for a bundle; None if it can."""
    try:
        card = backend.read_card(file)
    except WeightsError as error:
        return f"it cannot be read ({error})"
    if card.source.get(CHECKSUM) != read_metadata(bundle, kind=KIND).get(CHECKSUM):
        return f"it was not exported from {bundle.name} as that is now"
    if card.precision != "fp32":
        return f"it is in {card.precision}"
    return None
