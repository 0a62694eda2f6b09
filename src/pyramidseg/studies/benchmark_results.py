"""What a benchmark found: a row a backend and precision, as a table for the terminal and as JSON."""

import gc
import platform
import statistics
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor

from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.machine import available_processors
from pyramidseg.base.version import __version__

# The machine and the versions that figures belong to: enough to compare them by, nothing that names whose it is.

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


# How long calls take, side by side: machines are noisy, so candidates take turns and medians are compared.

Call = Callable[[], object]

Name = TypeVar("Name", bound=Hashable)


@dataclass(frozen=True)
class Timing:
    """Seconds of one candidate, round by round.

    Attributes:
        seconds: of the rounds that counted, in their order.
    """

    seconds: tuple[float, ...]

    @property
    def median(self) -> float:
        """Median of the rounds, in seconds."""
        return statistics.median(self.seconds)

    @property
    def milliseconds(self) -> float:
        """The median in milliseconds."""
        return 1000 * self.median

    def ratio_to(self, other: "Timing") -> float:
        """Median over rounds of this candidate's time over the other's in the same round: above 1 is slower."""
        return statistics.median(mine / theirs for mine, theirs in zip(self.seconds, other.seconds, strict=True))


def alternate(
    calls: Mapping[Name, Call], *, rounds: int = 15, warmup: int = 3, device: torch.device | None = None
) -> dict[Name, Timing]:
    """Time every call once a round, in an order that turns by one from round to round.

    Args:
        rounds: that count.
        warmup: rounds before them that do not.
        device: waited for after every call where it works asynchronously.
    """
    names = list(calls)
    seconds: dict[Name, list[float]] = {name: [] for name in names}
    for number in range(warmup + rounds):
        for name in _turned(names, number):
            gc.collect()
            _wait(device)
            began = time.perf_counter()
            calls[name]()
            _wait(device)
            if number >= warmup:
                seconds[name].append(time.perf_counter() - began)
    return {name: Timing(tuple(found)) for name, found in seconds.items()}


def _turned(names: Sequence[Name], places: int) -> list[Name]:
    places %= len(names)
    return [*names[places:], *names[:places]]


def _wait(device: torch.device | None) -> None:
    if device is not None and device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device is not None and device.type == "mps":
        torch.mps.synchronize()


# The convolution roofline: how fast a machine convolves when nothing else is in the way.

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16}
"""On a GPU fp32 is what torch's convolutions make of it by default, TF32, as it is for the models."""


@dataclass(frozen=True)
class Convolution:
    """A layer with as many channels in as out, stride 1 and maps that keep their size."""

    batch: int
    channels: int
    side_px: int
    kernel: int

    @property
    def flop(self) -> int:
        """Operations: two for each multiply-accumulate, as `model.cost` counts them."""
        return 2 * self.batch * self.channels**2 * self.kernel**2 * self.side_px**2


ON_CPU = (Convolution(2, 128, 64, 3), Convolution(2, 256, 64, 3), Convolution(2, 256, 128, 1))
ON_GPU = (Convolution(64, 256, 64, 3), Convolution(64, 512, 64, 3), Convolution(64, 512, 64, 1))
"""Layers as networks have them, large enough for the device; the fastest one is the roofline."""


@dataclass(frozen=True)
class Roofline:
    """What a machine's convolutions reach.

    Attributes:
        flop_per_second: by precision; without bf16 where the device would only emulate it.
    """

    flop_per_second: Mapping[str, float]

    def floor_seconds(self, macs: int, precision: str) -> float | None:
        """The least time for so many multiply-accumulates; None for a precision that was not measured."""
        rate = self.flop_per_second.get(precision)
        return None if rate is None else 2 * macs / rate

    def share(self, macs: int, precision: str, seconds: float) -> float | None:
        """The floor as a share of the time that was taken: 1 is as fast as convolution alone."""
        floor = self.floor_seconds(macs, precision)
        return None if floor is None else floor / seconds

    def __str__(self) -> str:
        rates = " and ".join(f"{rate / 1e9:.0f} GFLOP/s in {name}" for name, rate in self.flop_per_second.items())
        return f"convolution alone reaches {rates}"

    def to_dict(self) -> dict[str, float]:
        """GFLOP/s by precision."""
        return {name: round(rate / 1e9, 1) for name, rate in self.flop_per_second.items()}


def measure_roofline(
    device: torch.device, *, rounds: int = 9, layers: tuple[Convolution, ...] | None = None
) -> Roofline:
    """Time the layers in turn, in each precision that the device multiplies in; medians, and the best layer's counts.

    Args:
        layers: by default `ON_CPU` or `ON_GPU`.
    """
    layers = layers or (ON_CPU if device.type == "cpu" else ON_GPU)
    precisions = ["fp32", *(["bf16"] if has_fast_bf16(device) else [])]
    calls = {
        (precision, layer): _call(layer, DTYPES[precision], device) for precision in precisions for layer in layers
    }
    rates: dict[str, float] = {}
    for (precision, layer), timing in alternate(calls, rounds=rounds, device=device).items():
        rates[precision] = max(rates.get(precision, 0.0), layer.flop / timing.median)
    return Roofline(rates)


@torch.inference_mode()
def _call(layer: Convolution, dtype: torch.dtype, device: torch.device) -> Callable[[], Tensor]:
    shapes = (
        (layer.batch, layer.channels, layer.side_px, layer.side_px),
        (layer.channels, layer.channels, layer.kernel, layer.kernel),
    )
    maps, weight = (
        (torch.rand(shape, device=device) - 0.5).to(dtype, memory_format=torch.channels_last) for shape in shapes
    )
    return partial(_convolve, maps, weight)


@torch.inference_mode()
def _convolve(maps: Tensor, weight: Tensor) -> Tensor:
    return F.conv2d(maps, weight, padding=weight.shape[-1] // 2)


@dataclass(frozen=True)
class Conditions:
    """What is measured, where, and the least time that it could take.

    Attributes:
        model: name of the file.
        macs: multiply-accumulates of one image.
    """

    model: str
    encoder: str
    classes: int
    height: int
    width: int
    batch_size: int
    rounds: int
    macs: int
    machine: Machine
    roofline: Roofline

    @property
    def floors_ms(self) -> dict[str, float]:
        """Milliseconds that the convolutions of one image take at the machine's rate, by precision."""
        floors = {name: self.roofline.floor_seconds(self.macs, name) for name in self.roofline.flop_per_second}
        return {name: 1000 * seconds for name, seconds in floors.items() if seconds is not None}

    def __str__(self) -> str:
        floors = " and ".join(f"{floor:.3g} ms in {name}" for name, floor in self.floors_ms.items())
        return (
            f"{self.model}: {self.encoder}, {self.classes} classes, {self.height}x{self.width}, "
            f"{self.macs / 1e9:.3g} GMAC an image\n{self.machine}\n{self.roofline}: the floor of an image is {floors}"
        )

    def to_dict(self) -> dict[str, Any]:
        """As JSON; nothing in it names a path or a host."""
        return {
            "machine": asdict(self.machine),
            "model": {
                "file": self.model,
                "encoder": self.encoder,
                "classes": self.classes,
                "gmac": self.macs / 1e9,
            },
            "height": self.height,
            "width": self.width,
            "batch_size": self.batch_size,
            "rounds": self.rounds,
            "convolution_gflop_per_second": self.roofline.to_dict(),
            "floor_ms": {name: round(floor, 3) for name, floor in self.floors_ms.items()},
        }


@dataclass(frozen=True)
class Row:
    """One backend in one precision.

    Attributes:
        precision: in what it multiplied.
        place: what computed.
        latency_ms: of one image, from pixels to label map.
        latency_share: the floor as a share of it, up to about 1; None in a precision whose floor was not measured.
        images_per_second: of a batch.
        throughput_share: as `latency_share`, for the batch.
        speedup: latency of the first row over this one's, in the same rounds.
        peak_bytes: of a process that loads it and predicts one image; None if that failed, as `note` says then.
        exported: whether its file was made for the benchmark.
        note: what else is to be said of how it ran.
    """

    backend: str
    precision: str
    place: str
    latency_ms: float
    latency_share: float | None
    images_per_second: float
    throughput_share: float | None
    speedup: float
    peak_bytes: int | None
    exported: bool = False
    note: str = ""

    @property
    def name(self) -> str:
        """Backend and precision."""
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class AutoChoice:
    """What `--backend auto` takes for a model on a device.

    Attributes:
        why: the rule by which it was chosen.
        verdict: what the measurements say of it, and what would be faster.
    """

    backend: str
    precision: str
    why: str
    verdict: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join((f"auto takes {self.backend} {self.precision}: {self.why}", *self.verdict))


@dataclass(frozen=True)
class BenchmarkResult:
    """Everything that was measured.

    Attributes:
        left_out: why a backend was not measured, by its name.
    """

    conditions: Conditions
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    auto: AutoChoice

    def to_dict(self) -> dict[str, Any]:
        """The content of benchmark.json."""
        return {
            "pyramidseg": __version__,
            **self.conditions.to_dict(),
            "backends": [asdict(row) for row in self.rows],
            "left_out": dict(self.left_out),
            "auto": asdict(self.auto),
        }

    def table(self) -> str:
        """For a terminal: a row a backend, what was left out, and what `auto` takes."""
        head = ("", "one image", "of floor", f"batch of {self.conditions.batch_size}", "of floor", "speed", "memory")
        lines = _aligned([head, *(_cells(row) for row in self.rows)])
        if any(row.exported for row in self.rows):
            lines.append("* exported for this benchmark; nothing of it is kept")
        lines += [f"{row.name}: {row.note}" for row in self.rows if row.note]
        lines += [f"{name} was not measured: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([*lines, str(self.auto)])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name + ("*" if row.exported else ""),
        f"{row.latency_ms:.1f} ms",
        _percent(row.latency_share),
        f"{row.images_per_second:.1f}/s",
        _percent(row.throughput_share),
        f"{row.speedup:.2f}x",
        "unknown" if row.peak_bytes is None else f"{row.peak_bytes / 2**20:.0f} MiB",
    )


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width: the first one to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        )
        for row in rows
    ]
