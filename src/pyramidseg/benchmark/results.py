"""What a benchmark found: a row a backend and precision, as a table for the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import pyramidseg
from pyramidseg.benchmark.machine import Machine
from pyramidseg.benchmark.roofline import Roofline


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
            "pyramidseg": pyramidseg.__version__,
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
