"""`make_backend`: a model in the runtime that was named, or in the fastest one available."""

import importlib.util
import os
import shlex
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.onnx_backend import OnnxRuntimeBackend
from pyramidseg.backends.openvino_backend import OpenVinoBackend
from pyramidseg.backends.protocol import ModelBackend, RunPrecision
from pyramidseg.backends.torch_backend import CompiledTorchBackend, TorchBackend
from pyramidseg.backends.torch_export_backend import ExportedTorchBackend
from pyramidseg.base.device import choose_device
from pyramidseg.base.errors import ConfigError, WeightsError, nearest
from pyramidseg.base.remote_files import local_copy
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
"""Backend by name; constructed from a model, `device` and `precision`."""

EXPORTED: dict[str, type[ExportedBackend]] = {
    ".onnx": OnnxRuntimeBackend,
    ".xml": OpenVinoBackend,
    ".pt2": ExportedTorchBackend,
}
"""Backend by suffix of the exported files, the one with which their export was checked."""

FASTER_ON_CPU: tuple[type[ExportedBackend], ...] = (OpenVinoBackend, OnnxRuntimeBackend)
"""Runtimes that are faster than torch on a CPU, fastest first.

Milliseconds for ResNet-50 at 512x512 in fp32 on 2 cores: OpenVINO 184, ONNX Runtime 192, torch 290. `pyramidseg
benchmark` measures a model on a machine."""

WRAPPERS = ("_orig_mod", "module", "segmenter")
"""Attributes that hold the network in what `torch.compile`, DataParallel and AveragedModel return, and in training."""


def make_backend(
    model: nn.Module | str | Path,
    name: str = "auto",
    *,
    device: str | torch.device = "auto",
    precision: RunPrecision = "auto",
    as_written: bool = False,
) -> ModelBackend:
    """A model in a runtime.

    An exported file runs in the runtime of its format. A bundle runs in torch; on a CPU, `auto`, `openvino` and
    `onnxruntime` use its fp32 export if there is one of the same name in the same folder (where `pyramidseg export`
    writes it) that was made from this bundle, or with `precision="int8"` its int8 export, and `str()` of the backend
    names it. Nothing is exported automatically, since an export includes a parity check.

    Args:
        as_written: of torch's backends; `auto` then stands for torch.

    Raises:
        ConfigError: an unknown backend, or one that cannot run this model; or `model` has another type.
        MissingExtra: its package is not installed.
        WeightsError: the file cannot be used.
        DeviceError: the runtime cannot use the device.
    """
    if name != "auto" and name not in BACKENDS:
        raise ConfigError(f"`backend={name}`: unknown backend; {nearest(str(name), ['auto', *BACKENDS])}")
    if not isinstance(device, (str, torch.device)):
        raise ConfigError(f"`device={device!r}`: a name such as auto, cpu or cuda:0, or a torch.device, is needed")
    if precision not in ("auto", "fp32", "bf16", "int8"):
        raise ConfigError(f"`precision={precision}`: auto, fp32, bf16 and int8 are possible")
    given, needed = accepted_model(model), next((own for own in EXPORTED.values() if own.name == name), None)
    if precision == "int8" and (as_written or isinstance(given, Segmenter) or name.startswith("torch")):
        raise ConfigError(
            "`precision='int8'`: is that of exported files, which run in openvino or onnxruntime; export the bundle in "
            "int8, and leave `backend='torch'` and `as_written` out"
        )
    if as_written and (needed or (isinstance(given, Path) and given.suffix.lower() in EXPORTED)):
        raise ConfigError(
            "`as_written`: an exported file computes what it was exported with; give the bundle without `backend`, "
            "or export it again with `as_written=True`"
        )
    if isinstance(given, Segmenter) and needed:
        raise ConfigError(f"`backend={name}`: runs exported files; this model is in memory: save and export it")
    if isinstance(given, Segmenter) or as_written:
        chosen = BACKENDS["torch" if name == "auto" else name]
        return chosen(given, device=device, precision=precision, as_written=as_written)
    if own := EXPORTED.get(given.suffix):
        if name not in ("auto", own.name):
            raise ConfigError(
                f"`backend={name}`: {given} runs in {own.name}, with which its export was checked; leave the backend "
                "out, or give the bundle that it was exported from"
            )
        return own(given, device=device, precision=precision)
    if (lower := given.suffix.lower()) in EXPORTED:
        raise WeightsError(f"{given}: exported files end in {lower}, in lower case; rename it")
    if given.suffix == ".bin" and (graph := given.with_suffix(OpenVinoBackend.suffix)).is_file():
        raise WeightsError(f"{given}: holds only the weights of {graph.name}; give {graph}")
    if precision == "int8" and needed is None:
        exported = [backend for backend in FASTER_ON_CPU if export_path(given, backend, precision).is_file()]
        needed = next(filter(is_installed, exported), exported[0] if exported else OpenVinoBackend)
    if needed:
        return needed(find_export(given, needed, precision), device=device, precision=precision)
    if name != "auto":
        return BACKENDS[name](given, device=device, precision=precision)
    return _fastest_backend(given, device, precision)


def is_installed(backend: type[ExportedBackend]) -> bool:
    """Whether the libraries of a runtime are installed."""
    return all(map(importlib.util.find_spec, backend.libraries))


def accepted_model(model: object) -> Segmenter | Path:
    """The path that was given as a model, or the Segmenter, also inside torch's wrappers; a URL is copied first.

    Raises:
        ConfigError: it is something else; with its type and what to give instead.
    """
    if isinstance(model, (str, os.PathLike)):
        return local_copy(os.fspath(model))
    inner = model
    while isinstance(inner, nn.Module) and not isinstance(inner, Segmenter):
        inner = next((vars(inner)["_modules"].get(name) for name in WRAPPERS if name in inner._modules), None)
    if isinstance(inner, Segmenter):
        return inner
    found, advice = f"an object of type {type(model).__name__}", ""
    if isinstance(model, Mapping) and model and all(isinstance(value, Tensor) for value in model.values()):
        found = f"a state dict of {len(model)} tensors"
        advice = "; ps.Segmenter(...) with the settings and classes of the training takes it with load_state_dict"
    elif isinstance(model, nn.Module):
        found = f"a {type(model).__name__} of {type(model).__module__}"
        advice = "; pyramidseg import converts checkpoints of FPNs of segmentation_models.pytorch"
    needed = "the path of a bundle or an exported file, or a Segmenter, is needed"
    raise ConfigError(f"model: {found}, but {needed}{advice}")


def model_file(model: object) -> Path:
    """The path that was given as a model, for what needs a file; a URL is copied first.

    Raises:
        ConfigError: it is something else, such as a Segmenter.
    """
    path = accepted_model(model)
    if isinstance(path, Segmenter):
        raise ConfigError("model: a Segmenter in memory, but a file is needed; write it by model.save(path)")
    return path


def _fastest_backend(bundle: Path, device: str | torch.device, precision: RunPrecision) -> ModelBackend:
    """The fastest runtime for a bundle on this machine, among those that are installed and have an export of it."""
    place = choose_device(device) if isinstance(device, str) else device
    note = ""
    for faster in FASTER_ON_CPU if place.type == "cpu" else ():
        file = export_path(bundle, faster, "fp32")
        if not file.is_file() or not is_installed(faster):
            continue
        reason = _mismatch(file, bundle, faster)
        if reason is None and precision == "bf16" and faster is not OpenVinoBackend:
            reason = "its precision is fixed"
        if reason is None:
            return faster(file, device=place, precision=precision)
        note = f"{file.name} is not used, as {reason}"
    backend = TorchBackend(bundle, device=place, precision=precision)
    backend.note = note
    return backend


def export_path(bundle: Path, backend: type[ExportedBackend], precision: str) -> Path:
    """Where the export of a bundle to a runtime is, next to it: in int8, else in fp32."""
    return bundle.with_name(f"{bundle.stem}{'-int8' if precision == 'int8' else ''}{backend.suffix}")


def find_export(bundle: Path, backend: type[ExportedBackend], precision: str) -> Path:
    """The export of a bundle for a runtime, in int8 or fp32; `ConfigError` or `WeightsError` without a current one."""
    file = export_path(bundle, backend, precision)
    command = f"pyramidseg export {shlex.quote(str(bundle))} --format {backend.format}"
    command += " --precision int8 --calibrate DATASET" if precision == "int8" else ""
    if not file.is_file():
        raise ConfigError(f"`backend={backend.name}`: runs exported files, and {file} does not exist; run {command}")
    if (reason := _mismatch(file, bundle, backend, "int8" if precision == "int8" else "fp32")) is not None:
        raise WeightsError(f"`backend={backend.name}`: {file} is not used, as {reason}; export it again: {command}")
    return file


def _mismatch(file: Path, bundle: Path, backend: type[ExportedBackend], precision: str = "fp32") -> str | None:
    """Why an exported file cannot replace a bundle; None if it can."""
    try:
        metadata = backend.read_metadata(file)
    except WeightsError as error:
        return f"it cannot be read ({error})"
    if metadata.source.get(CHECKSUM) != read_metadata(bundle, kind=KIND).get(CHECKSUM):
        return f"it was not exported from the present content of {bundle.name}"
    if metadata.precision != precision:
        return f"it is in {metadata.precision}"
    return None
