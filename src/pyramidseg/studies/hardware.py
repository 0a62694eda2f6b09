"""Description of the machine and library versions that measurements belong to, without anything that identifies it."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from pyramidseg.base.machine import available_processors

LIBRARIES = ("torch", "timm", "onnxruntime", "openvino")
"""Libraries whose version affects speed."""

_CPU_INFORMATION = Path("/proc/cpuinfo")


@dataclass(frozen=True)
class Machine:
    """Hardware and library versions of a measurement.

    Attributes:
        processor: model name of the CPU.
        processors: number of processors available to this process.
        threads: number of threads of torch, and of the runtimes that use its setting.
        accelerator: model name of the GPU; empty if none was used.
        versions: of the installed libraries, by name.
    """

    processor: str
    processors: int
    threads: int
    accelerator: str
    versions: Mapping[str, str]

    def __str__(self) -> str:
        place = f"{self.accelerator} with {self.processor}" if self.accelerator else self.processor
        libraries = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return f"{place}, {self.processors} processors, {self.threads} threads; {libraries}"


def describe_machine(device: torch.device, *more: str) -> Machine:
    """This machine with a device; `more` are further libraries whose versions are included."""
    accelerator = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type.replace("cpu", "")
    return Machine(
        processor=_processor(),
        processors=available_processors(),
        threads=torch.get_num_threads(),
        accelerator=accelerator,
        versions={name: found for name in (*LIBRARIES, *more) if (found := _version(name))},
    )


def _processor() -> str:
    text = _CPU_INFORMATION.read_text(encoding="utf-8", errors="replace") if _CPU_INFORMATION.exists() else ""
    names = (line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name"))
    return next(filter(None, names), "") or platform.processor() or platform.machine()


def _version(library: str) -> str:
    """Version without a build suffix (`2.10.0+cu128`); empty if the library is not installed."""
    try:
        return version(library).partition("+")[0]
    except PackageNotFoundError:
        return ""
