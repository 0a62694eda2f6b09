"""Results of a benchmark: a row per backend and precision, as a table for the terminal and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from pyramidseg.base.version import __version__
from pyramidseg.studies.hardware import Machine
from pyramidseg.studies.roofline import Roofline


@dataclass(frozen=True)
class Conditions:
    """Model, image size and machine of a benchmark.

    Attributes:
        model: file name.
        macs: multiply-accumulates per image.
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
    as_written: bool = False

    def __str__(self) -> str:
        rates = self.roofline.flop_per_second
        floors = " and ".join(f"{2000 * self.macs / rate:.3g} ms in {name}" for name, rate in rates.items())
        return (
            f"{self.model}: {self.encoder}, {self.classes} classes, {self.height}x{self.width}, "
            f"{'every layer of the decoder as written, ' if self.as_written else ''}"
            f"{self.macs / 1e9:.3g} GMAC per image\n{self.machine}\n{self.roofline}: the floor per image is {floors}"
        )


@dataclass(frozen=True)
class Row:
    """One backend in one precision.

    Attributes:
        precision: of the multiplications.
        place: description of the device.
        latency_ms: for one image, from pixels to label map.
        latency_share: floor divided by the latency, up to about 1; None for a precision without a measured floor.
        images_per_second: with a batch.
        throughput_share: as `latency_share`, for the batch.
        speedup: ratio of the first row's latency to this one's, in the same rounds.
        peak_bytes: peak memory of a process that loads the model and predicts one image; None if that failed, with the
            reason in `note`.
        note: remark about the run; may be empty.
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
    note: str = ""

    @property
    def name(self) -> str:
        """Backend and precision."""
        return f"{self.backend} {self.precision}"


@dataclass(frozen=True)
class BenchmarkResult:
    """All measurements of a benchmark.

    Attributes:
        left_out: why a backend was not measured, by its name.
        auto: the backend that `--backend auto` selects for this model, and why, in one sentence.
    """

    conditions: Conditions
    rows: tuple[Row, ...]
    left_out: Mapping[str, str]
    auto: str

    def to_dict(self) -> dict[str, Any]:
        """The content of benchmark.json, without any path or host name."""
        return {"pyramidseg": __version__, **asdict(self)}

    def table(self) -> str:
        """As text for a terminal: a row per backend, backends that were not measured, and what `auto` selects."""
        head = ("", "one image", "of floor", f"batch of {self.conditions.batch_size}", "of floor", "speed", "memory")
        lines = _aligned([head, *(_cells(row) for row in self.rows)])
        lines += [f"{row.name}: {row.note}" for row in self.rows if row.note]
        lines += [f"{name} was not measured: {reason}" for name, reason in self.left_out.items()]
        return "\n".join([*lines, self.auto])


def _cells(row: Row) -> tuple[str, ...]:
    return (
        row.name,
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
    """Columns of equal width: the first one left-aligned, the others right-aligned."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows]
