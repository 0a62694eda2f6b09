"""The machine and the versions that figures belong to: enough to compare them by, nothing that names whose it is."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pyramidseg.processors import available_processors

LIBRARIES = ("torch", "timm", "onnxruntime", "openvino")
"""Those whose version decides about speed."""

_CPU_INFORMATION = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """What computed.

    Attributes:
        processor: its model, as the system names it.
        processors: how many of them this process may use.
        threads: that torch, and the runtimes that ask it, compute with.
        accelerator: model of the GPU; empty where none was used.
        versions: of the libraries that are installed, by name.
    """

    processor: str
    processors: int
    threads: int
    accelerator: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        place = f"{self.accelerator} beside {self.processor}" if self.accelerator else self.processor
        libraries = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{place}, {self.processors} processors, {self.threads} threads; {libraries}"


def describe_machine(device: torch.device, *more: str) -> Machine:
    """This machine, computing on a device; `more` are libraries beside the usual ones."""
    return Machine(
        processor=_processor(),
        processors=available_processors(),
        threads=torch.get_num_threads(),
        accelerator=_accelerator(device),
        versions={name: found for name in (*LIBRARIES, *more) if (found := _version(name))},
    )


def _processor() -> str:
    if _CPU_INFORMATION.exists():
        for line in _CPU_INFORMATION.read_text(encoding="utf-8", errors="replace").splitlines():
            name, _, value = line.partition(":")
            if name.strip() == "model name" and value.strip():
                return value.strip()
    return platform.processor() or platform.machine()


def _accelerator(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return "" if device.type == "cpu" else device.type


def _version(library: str) -> str:
    """Without what names a build (`2.10.0+cu128`); empty where it is not installed."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        return ""
