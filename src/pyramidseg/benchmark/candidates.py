"""What can run a model on this machine: backends and precisions, with the exports that some of them need."""

import importlib.util
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pyramidseg.errors import ConfigError, PyramidSegError, nearest
from pyramidseg.export.exporting import export_model
from pyramidseg.predict.backends import BACKENDS, EXPORTED, ModelBackend, RunPrecision, make_backend
from pyramidseg.predict.backends.choice import FASTER_ON_CPU
from pyramidseg.predict.backends.exported import ExportedBackend
from pyramidseg.runtime import has_fast_bf16

RUNTIMES: dict[str, type[ExportedBackend]] = {backend.name: backend for backend in EXPORTED.values()}
"""Backends that run exported files, by name."""

CHOOSABLE = ("torch", "torch-compiled", "openvino")
"""Backends whose precision is chosen when they run; that of the others is the file's."""

Say = Callable[[str], object]


@dataclass(frozen=True)
class Candidate:
    """A backend to measure.

    Attributes:
        file: that it runs.
        asked: the precision that `make_backend` was given for it.
        exported: whether the file was made for this measurement.
    """

    backend: ModelBackend
    file: Path
    asked: RunPrecision
    exported: bool


class TemporaryExports:
    """A bundle's exports to a folder, each made and checked when it is first asked for."""

    def __init__(self, bundle: Path, folder: Path, say: Say) -> None:
        self._bundle = bundle
        self._folder = folder
        self._say = say
        self._done: dict[str, Path] = {}

    def file_for(self, backend: type[ExportedBackend]) -> Path:
        """The bundle in fp32 for a runtime.

        Raises:
            ConfigError: the encoder cannot be exported, or the file predicts something else.
            MissingExtra: what it takes to export is not installed.
        """
        if backend.format not in self._done:
            self._say(f"exporting to {backend.format}, to see what that would bring")
            export = export_model(self._bundle, format=backend.format, out=self._folder)
            if export.path is None:
                raise ConfigError(
                    f"backend={backend.name}: the export predicts otherwise: {'; '.join(export.findings)}"
                )
            self._done[backend.format] = export.path
        return self._done[backend.format]


def backend_names(model: Path, device: torch.device) -> tuple[str, ...]:
    """The backends that are measured where none are named: those that people would choose from.

    An exported file has the one that it was checked in. A bundle runs in torch, on a GPU also compiled; exported, in
    ONNX Runtime, and on a CPU in OpenVINO, where they are installed.
    """
    if (own := EXPORTED.get(model.suffix)) is not None:
        return (own.name,)
    if device.type == "cpu":
        return ("torch", *(backend.name for backend in FASTER_ON_CPU if is_installed(backend)))
    onnx = RUNTIMES["onnxruntime"]
    return ("torch", "torch-compiled", *([onnx.name] if is_installed(onnx) else []))


def is_installed(backend: type[ExportedBackend]) -> bool:
    """Whether a runtime's libraries are."""
    return all(importlib.util.find_spec(library) for library in backend.libraries)


def check_names(names: Sequence[str], model: Path, device: torch.device) -> None:
    """Refuse names of no backend, or of one that cannot run this model on this device.

    Raises:
        ConfigError: one of them, or there is none at all.
        DeviceError: a runtime does not have the device.
        MissingExtra: a runtime is not installed.
    """
    if not names:
        raise ConfigError(f"--backends: names none; known: {', '.join(sorted(BACKENDS))}")
    for name in names:
        if name not in BACKENDS:
            raise ConfigError(f"--backends {name}: no such backend; {nearest(name, BACKENDS)}")
        if (own := EXPORTED.get(model.suffix)) is not None and name != own.name:
            raise ConfigError(
                f"--backends {name}: {model} is run by {own.name}, through which its export was checked; leave "
                "--backends out, or name the bundle that it was made from"
            )
        if name in RUNTIMES:
            RUNTIMES[name].check_device(device)


def find_candidates(
    model: Path, names: Sequence[str] | None, device: torch.device, exports: TemporaryExports
) -> tuple[list[Candidate], dict[str, str]]:
    """Open a model in each backend and each precision that the device multiplies in natively.

    Args:
        names: backends that have to run it; None takes `backend_names`, of which some may fail.

    Returns:
        The candidates, and why others were left out, by name.

    Raises:
        PyramidSegError: a backend that was named cannot run the model.
    """
    found, left_out = [], {}
    for name in backend_names(model, device) if names is None else names:
        try:
            found += _opened(model, name, device, exports)
        except PyramidSegError as error:
            if names is not None:
                raise
            left_out[name] = str(error)
    return found, left_out


def _opened(model: Path, name: str, device: torch.device, exports: TemporaryExports) -> list[Candidate]:
    exported = name in RUNTIMES and model.suffix not in EXPORTED
    file = exports.file_for(RUNTIMES[name]) if exported else model
    return [
        Candidate(make_backend(file, name, device=device, precision=precision), file, precision, exported)
        for precision in _precisions(name, device)
    ]


def _precisions(name: str, device: torch.device) -> tuple[RunPrecision, ...]:
    if name not in CHOOSABLE:
        return ("auto",)
    return ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",)
