"""`benchmark_model`: latency, throughput and memory of a model in every backend, with the machine's roofline."""

import logging
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from pyramidseg.backends import EXPORTED, ModelBackend, RunPrecision, make_backend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.factory import FASTER_ON_CPU, export_path, find_export, is_installed, model_file
from pyramidseg.base.device import choose_device, has_fast_bf16
from pyramidseg.base.errors import ConfigError, PyramidSegError, TrainingError
from pyramidseg.base.files import refuse_existing, write_json
from pyramidseg.base.log import only_warnings
from pyramidseg.base.output_lock import locks_out
from pyramidseg.export.export_model import export_model
from pyramidseg.model.bundle import read_description
from pyramidseg.model.cost import describe_cost, meta_model
from pyramidseg.studies.benchmark_images import time_predictions
from pyramidseg.studies.benchmark_results import BenchmarkResult, Conditions, Row
from pyramidseg.studies.hardware import describe_machine
from pyramidseg.studies.process_memory import peak_memory
from pyramidseg.studies.roofline import measure_roofline

logger = logging.getLogger(__name__)

RUNTIMES: dict[str, type[ExportedBackend]] = {backend.name: backend for backend in EXPORTED.values()}
"""Backends that run exported files, by name."""

CHOOSABLE = ("torch", "torch-compiled", "openvino")
"""Backends whose precision is set at run time; the others use the precision of the file."""


@dataclass(frozen=True)
class Candidate:
    """A backend to measure.

    Attributes:
        file: the model file.
        precision, as_written: the arguments of `make_backend` for it.
    """

    backend: ModelBackend
    file: Path
    precision: RunPrecision
    as_written: bool = False


def export_for(backend: type[ExportedBackend], bundle: Path, folder: Path, *, as_written: bool = False) -> Path:
    """The fp32 export of a bundle for a runtime, checked, in a folder.

    Raises:
        ConfigError: the encoder cannot be exported, or the file's predictions differ too much.
        MissingExtra: a library for the export is not installed.
    """
    logger.info(f"exporting to {backend.format} to benchmark it")
    with only_warnings():
        export = export_model(bundle, format=backend.format, out=folder, as_written=as_written)
    if export.path is None:
        findings = "; ".join(export.parity.findings() if export.parity else ())
        raise ConfigError(f"benchmark: the export to {backend.format} differs from the bundle: {findings}")
    return export.path


def backend_names(model: Path, device: torch.device) -> tuple[str, ...]:
    """The backends that are measured by default.

    For an exported file, the one it was checked in. For a bundle, torch, on a GPU also compiled; and if installed, its
    export in ONNX Runtime and, on a CPU, in OpenVINO.
    """
    if (own := EXPORTED.get(model.suffix)) is not None:
        return (own.name,)
    if device.type == "cpu":
        return ("torch", *(backend.name for backend in FASTER_ON_CPU if is_installed(backend)))
    onnx = RUNTIMES["onnxruntime"]
    return ("torch", "torch-compiled", *([onnx.name] if is_installed(onnx) else []))


def find_candidates(
    model: Path,
    names: Sequence[str] | None,
    device: torch.device,
    exports: Path,
    *,
    as_written: bool = False,
) -> tuple[list[Candidate], dict[str, str]]:
    """Open a model in each backend and each native precision of the device, and its int8 exports if there are any.

    Args:
        names: backends that must run it; None uses `backend_names` and leaves out those that fail.
        exports: folder for what is exported for a runtime.
        as_written: compute every layer of a bundle's decoder.

    Returns:
        The candidates, and the reason for each backend that was left out, by name.

    Raises:
        PyramidSegError: a backend in `names` cannot run the model.
    """
    found, left_out = [], {}
    for name in dict.fromkeys(backend_names(model, device) if names is None else names):
        runtime, is_bundle, label = RUNTIMES.get(name), model.suffix not in EXPORTED, name
        try:
            if runtime is not None:
                runtime.check_device(device)
            file = export_for(runtime, model, exports, as_written=as_written) if runtime and is_bundle else model
            choice: tuple[RunPrecision, ...] = ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",)
            if name not in CHOOSABLE or (runtime and runtime.read_metadata(file).precision == "int8"):
                choice = ("auto",)
            layers = as_written and runtime is None
            for precision in choice:
                backend = make_backend(file, name, device=device, precision=precision, as_written=layers)
                found.append(Candidate(backend, file, precision, layers))
            if runtime and is_bundle and export_path(model, runtime, "int8").is_file():
                label = f"{name} int8"
                file = find_export(model, runtime, "int8")
                found.append(Candidate(make_backend(file, name, device=device, precision="int8"), file, "int8"))
        except PyramidSegError as error:
            if names is not None:
                raise
            left_out[label] = str(error)
    return found, left_out


def reason_for_auto(model: Path, selected: ModelBackend) -> str:
    """Why `--backend auto` selects a backend for a model."""
    if model.suffix in EXPORTED:
        return "the runtime in which the export was checked"
    on_gpu = selected.device.type != "cpu"
    return selected.note or ("the default on a GPU" if on_gpu else "no exported model next to the bundle")


RESULTS = "benchmark.json"

DEFAULT_SIZE = (512, 512)

WARMUP = 2
"""Rounds that are not timed, in which runtimes select their kernels."""


@locks_out
def benchmark_model(
    model: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
    rounds: int = 9,
    backends: Sequence[str] | None = None,
    device: str = "auto",
    as_written: bool = False,
    out: str | Path | None = None,
) -> BenchmarkResult:
    """Measure prediction with a model on this machine, from pixels to label map, as `pyramidseg benchmark` does.

    Measures the convolution roofline, then all backends and precisions in alternating rounds, then the memory of each
    in a separate process. A bundle is exported for the installed runtimes into a temporary folder.

    Args:
        model: a bundle, or an exported file, which runs in its own runtime only.
        size: height and width in pixels; by default those of the training crops of a bundle, else 512x512.
        batch_size: images per batch for the throughput.
        backends: names in `BACKENDS`; by default those of `backend_names`.
        as_written: compute every layer of a bundle's decoder, in exports too (int8 files always do).
        out: folder for benchmark.json.

    Raises:
        ConfigError: a number below 1, or an unknown backend or one that cannot run this model.
        MissingExtra: the library of a backend in `backends` is not installed.
        WeightsError: the model cannot be read.
        OutputError: `out` already has a benchmark, or cannot be written.
    """
    path, folder = model_file(model), None if out is None else Path(out)
    if size is not None and (not isinstance(size, Sequence) or len(size) != 2):
        raise ConfigError(f"benchmark: `size={size!r}`: must be height and width, such as (512, 512)")
    if isinstance(backends, str) or (backends is not None and not backends):
        raise ConfigError(f"benchmark: `backends={backends!r}`: must be a list of names, such as [{backends!r}]")
    for name, given in (("batch_size", (batch_size,)), ("rounds", (rounds,)), ("size", size or (1,))):
        if min(given) < 1:
            value = tuple(given) if len(given) > 1 else given[0]
            raise ConfigError(f"benchmark: `{name}={value}`: must be at least 1")
    if as_written and path.suffix in EXPORTED:
        raise ConfigError(
            f"`as_written`: {path} computes what it was exported with; benchmark the bundle, or leave it out"
        )
    place = choose_device(device)
    if folder is not None:
        refuse_existing(folder, [RESULTS])
    auto = make_backend(path, device=place)
    height, width = size or default_size(path)
    network = meta_model(auto.settings, len(auto.classes))
    with tempfile.TemporaryDirectory(prefix="pyramidseg-benchmark-") as exports:
        candidates, left_out = find_candidates(path, backends, place, Path(exports), as_written=as_written)
        conditions = Conditions(
            model=path.name,
            encoder=network.encoder.name,
            classes=len(auto.classes),
            height=height,
            width=width,
            batch_size=batch_size,
            rounds=rounds,
            as_written=as_written,
            macs=describe_cost(network, height, width).macs,
            machine=describe_machine(place),
            roofline=measure_roofline(place, rounds=rounds),
        )
        logger.info(str(conditions))
        rows = _measure(candidates, conditions, place)
    result = BenchmarkResult(conditions, rows, left_out, f"auto selects {auto.name}: {reason_for_auto(path, auto)}")
    if folder is not None:
        write_json(folder / RESULTS, result.to_dict())
    return result


def default_size(model: Path) -> tuple[int, int]:
    """Height and width of the training crops of a bundle; 512x512 if unknown."""
    if model.suffix in EXPORTED:
        return DEFAULT_SIZE
    match read_description(model).facts.get("crop"):
        case [int(height), int(width)] if min(height, width) > 0:
            return height, width
    return DEFAULT_SIZE


def _measure(candidates: Sequence[Candidate], conditions: Conditions, device: torch.device) -> tuple[Row, ...]:
    logger.info(f"measuring {len(candidates)} backends in {conditions.rounds} rounds, after {WARMUP} rounds of warm-up")
    backends = {index: candidate.backend for index, candidate in enumerate(candidates)}
    size = {"height": conditions.height, "width": conditions.width}
    one, many = (
        time_predictions(backends, device, batch=batch, **size, rounds=conditions.rounds, warmup=WARMUP)
        for batch in (1, conditions.batch_size)
    )
    logger.info("measuring the memory of each in a separate process")
    rows = []
    for index, candidate in enumerate(candidates):
        backend, latency, batch = candidate.backend, one[index], many[index]
        macs, share = conditions.macs, conditions.roofline.share
        peak, failure = _peak(candidate, conditions, device)
        notes = ["" if isinstance(backend, ExportedBackend) else backend.note, failure]
        rows.append(
            Row(
                backend=backend.name,
                precision=backend.precision,
                place=backend.place,
                latency_ms=latency.milliseconds,
                latency_share=share(macs, backend.precision, latency.median),
                images_per_second=conditions.batch_size / batch.median,
                throughput_share=share(macs * conditions.batch_size, backend.precision, batch.median),
                speedup=one[0].ratio_to(latency),
                peak_bytes=peak,
                note="; ".join(filter(None, notes)),
            )
        )
    return tuple(rows)


def _peak(candidate: Candidate, conditions: Conditions, device: torch.device) -> tuple[int | None, str]:
    """Peak memory in bytes and an empty text, or None and the reason: the timings are useful without it."""
    try:
        size = {"height": conditions.height, "width": conditions.width}
        how = {"backend": candidate.backend.name, "precision": candidate.precision, "as_written": candidate.as_written}
        return peak_memory(candidate.file, **size, device=device, **how), ""  # type: ignore[arg-type]
    except TrainingError as error:
        return None, str(error).replace(str(candidate.file), candidate.file.name)  # results contain no paths
