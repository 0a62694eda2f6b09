"""`benchmark_model`: one model in all that can run it here, beside the machine's own limit."""

import importlib.util
import json
import logging
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch

from pyramidseg.backends import BACKENDS, EXPORTED, ModelBackend, RunPrecision, make_backend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.factory import FASTER_ON_CPU
from pyramidseg.base.device import choose_device, has_fast_bf16
from pyramidseg.base.errors import ConfigError, PyramidSegError, TrainingError, nearest
from pyramidseg.base.files import refuse_existing, write_json
from pyramidseg.base.log import only_warnings
from pyramidseg.export.export_model import export_model
from pyramidseg.model.bundle import KIND
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.tensor_files import read_metadata
from pyramidseg.predict.receptive_field import meta_model
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.studies.benchmark_images import as_taken, scene_images
from pyramidseg.studies.benchmark_results import (
    AutoChoice,
    BenchmarkResult,
    Conditions,
    Row,
    Timing,
    alternate,
    describe_machine,
    measure_roofline,
)
from pyramidseg.studies.process_memory import peak_memory

logger = logging.getLogger(__name__)

# What can run a model on this machine: backends and precisions, with the exports that some of them need.

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

    def __init__(self, bundle: Path, folder: Path) -> None:
        self._bundle = bundle
        self._folder = folder
        self._done: dict[str, Path] = {}

    def file_for(self, backend: type[ExportedBackend]) -> Path:
        """The bundle in fp32 for a runtime.

        Raises:
            ConfigError: the encoder cannot be exported, or the file predicts something else.
            MissingExtra: what it takes to export is not installed.
        """
        if backend.format not in self._done:
            logger.info(f"exporting to {backend.format} to benchmark it")
            with only_warnings():
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


# Why `--backend auto` takes what it takes, and whether it is the fastest.


def explain_choice(model: Path, chosen: ModelBackend, rows: Sequence[Row]) -> AutoChoice:
    """The rule by which `auto` has taken a backend for a model, and how it did against the others."""
    return AutoChoice(chosen.name, chosen.precision, _rule(model, chosen), tuple(_verdict(model, chosen, rows)))


def _rule(model: Path, chosen: ModelBackend) -> str:
    if model.suffix in EXPORTED:
        return "an exported file is run by the runtime in which its export was checked"
    if chosen.device.type != "cpu":
        return "a bundle runs in torch on a GPU, and is not compiled unasked, which takes a minute or two"
    order = " and ".join(backend.name for backend in FASTER_ON_CPU)
    if chosen.name in RUNTIMES:
        return f"of {order}, in this order, it is the first whose export lies beside the bundle ({chosen.note})"
    if chosen.note:
        return chosen.note
    return f"it would take {order}, in this order, if an export for them lay beside the bundle"


def _verdict(model: Path, chosen: ModelBackend, rows: Sequence[Row]) -> list[str]:
    own = next((row for row in rows if (row.backend, row.precision) == (chosen.name, chosen.precision)), None)
    if own is None:
        return ["it is not among those measured here"]
    rivals = [row for row in rows if row.precision == own.precision]
    fastest = max(rivals, key=_speed)
    said = []
    if fastest is not own:
        said.append(
            f"in {own.precision}, {fastest.backend} is {_speed(fastest) / _speed(own):.2f} times as fast here, by one "
            f"image: {_way_to(model, fastest)}"
        )
    elif len(rows) > 1:
        said.append(f"in {own.precision}, nothing measured here is faster, by one image")
    in_batches = max(rivals, key=_rate)
    if _rate(in_batches) > _rate(fastest):
        said.append(
            f"in {own.precision}, by the batch, {in_batches.backend} is {_rate(in_batches) / _rate(fastest):.2f} times "
            f"as fast as {fastest.backend}"
        )
    others = [row for row in rows if row.precision != own.precision and _speed(row) > _speed(fastest)]
    if others:
        best = max(others, key=_speed)
        said.append(
            f"in {best.precision}, {best.backend} is {_speed(best) / _speed(fastest):.2f} times as fast as that, and "
            f"never taken unasked, as it moves labels where classes are close: {_way_to(model, best)}"
            + (f" --precision {best.precision}" if best.backend in CHOOSABLE else "")
        )
    return said


def _speed(row: Row) -> float:
    return row.speedup


def _rate(row: Row) -> float:
    return row.images_per_second


def _way_to(model: Path, row: Row) -> str:
    """What to type to have a row's backend."""
    if row.backend in RUNTIMES and model.suffix not in EXPORTED:
        return f"pyramidseg export {model} --format {RUNTIMES[row.backend].format}, then --backend {row.backend}"
    return f"--backend {row.backend}"


RESULTS = "benchmark.json"

DEFAULT_SIZE = (512, 512)

WARMUP = 2
"""Rounds before those that count: runtimes choose their kernels in them."""


def benchmark_model(
    model: str | Path,
    *,
    size: tuple[int, int] | None = None,
    batch_size: int = 8,
    rounds: int = 9,
    backends: Sequence[str] | None = None,
    device: str = "auto",
    out: str | Path | None = None,
) -> BenchmarkResult:
    """Measure a model's prediction on this machine, as `pyramidseg benchmark` does: from pixels to label map.

    First the convolution roofline; then every backend and precision in turn, round by round, with medians; then the
    memory of each, in a process of its own. A bundle is exported for the runtimes that are installed, into a folder
    that goes afterwards.

    Args:
        model: a bundle, or an exported file, which only runs in its own runtime.
        size: height and width in pixels; by default those of the crops that a bundle was trained on, else 512x512.
        batch_size: images at once, for the throughput.
        backends: names in `BACKENDS` that have to be measured; by default those that `backend_names` lists.
        out: folder for benchmark.json.

    Raises:
        ConfigError: a number below 1, or a backend that does not exist or cannot run this model.
        MissingExtra: the library of a backend that was named is not installed.
        WeightsError: the model cannot be read.
        OutputError: `out` holds a benchmark already, or cannot be written.
    """
    path, folder = Path(model), None if out is None else Path(out)
    if size is not None and (not isinstance(size, Sequence) or len(size) != 2):
        raise ConfigError(f"benchmark: size={size!r}: height and width are needed, such as (512, 512)")
    if isinstance(backends, str):
        raise ConfigError(f"benchmark: backends={backends!r}: a list of names is needed, such as [{backends!r}]")
    for name, number in (("batch_size", batch_size), ("rounds", rounds), ("height and width", min(size or (1,)))):
        if number < 1:
            raise ConfigError(f"benchmark: {name}={number}: at least 1 is needed")
    place = choose_device(device)
    if backends is not None:
        check_names(backends, path, place)
    if folder is not None:
        refuse_existing(folder, [RESULTS])
    chosen = make_backend(path, device=place)
    height, width = size or default_size(path)
    network = meta_model(chosen.settings, len(chosen.classes))
    conditions = Conditions(
        model=path.name,
        encoder=network.encoder.name,
        classes=len(chosen.classes),
        height=height,
        width=width,
        batch_size=batch_size,
        rounds=rounds,
        macs=describe_cost(network, height, width).macs,
        machine=describe_machine(place),
        roofline=measure_roofline(place, rounds=rounds),
    )
    logger.info(str(conditions))
    with tempfile.TemporaryDirectory(prefix="pyramidseg-benchmark-") as exports:
        candidates, left_out = find_candidates(path, backends, place, TemporaryExports(path, Path(exports)))
        rows = _measure(candidates, conditions, place)
    result = BenchmarkResult(conditions, rows, left_out, explain_choice(path, chosen, rows))
    if folder is not None:
        write_json(folder / RESULTS, result.to_dict())
    return result


def default_size(model: Path) -> tuple[int, int]:
    """Height and width of the crops that a bundle was trained on; 512x512 where that is not known."""
    if model.suffix in EXPORTED:
        return DEFAULT_SIZE
    crop = json.loads(read_metadata(model, kind=KIND)["facts"]).get("crop")
    return DEFAULT_SIZE if crop is None else (int(crop[0]), int(crop[1]))


def _measure(candidates: Sequence[Candidate], conditions: Conditions, device: torch.device) -> tuple[Row, ...]:
    logger.info(f"measuring {len(candidates)} in turn, {conditions.rounds} rounds, after {WARMUP} that do not count")
    one = _timings(candidates, conditions, batch=1, device=device)
    many = _timings(candidates, conditions, batch=conditions.batch_size, device=device)
    logger.info("measuring the memory of each, in processes of their own")
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
                exported=candidate.exported,
                note="; ".join(filter(None, notes)),
            )
        )
    return tuple(rows)


def _peak(candidate: Candidate, conditions: Conditions, device: torch.device) -> tuple[int | None, str]:
    """Bytes, or why there are none: the timings are worth having without."""
    try:
        peak = peak_memory(
            candidate.file,
            height=conditions.height,
            width=conditions.width,
            device=device,
            backend=candidate.backend.name,
            precision=candidate.asked,
        )
    except TrainingError as error:
        return None, str(error).replace(str(candidate.file), candidate.file.name)  # results name no paths
    return peak, ""


def _timings(
    candidates: Sequence[Candidate], conditions: Conditions, *, batch: int, device: torch.device
) -> Mapping[int, Timing]:
    """By place in the list; each call takes images in memory to label maps."""
    channels = candidates[0].backend.in_channels
    images = scene_images(batch, channels=channels, height=conditions.height, width=conditions.width)
    calls = {
        index: partial(predict_labels, candidate.backend, as_taken(images, candidate.backend))
        for index, candidate in enumerate(candidates)
    }
    return alternate(calls, rounds=conditions.rounds, warmup=WARMUP, device=device)
