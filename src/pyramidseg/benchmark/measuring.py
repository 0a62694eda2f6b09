"""`benchmark_model`: one model in all that can run it here, beside the machine's own limit."""

import json
import tempfile
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

import torch

from pyramidseg.benchmark.candidates import Candidate, Say, TemporaryExports, check_names, find_candidates
from pyramidseg.benchmark.choice import explain_choice
from pyramidseg.benchmark.images import as_taken, scene_images
from pyramidseg.benchmark.machine import describe_machine
from pyramidseg.benchmark.memory import peak_memory
from pyramidseg.benchmark.results import BenchmarkResult, Conditions, Row
from pyramidseg.benchmark.roofline import measure_roofline
from pyramidseg.benchmark.timing import Timing, alternate
from pyramidseg.errors import ConfigError, OutputError, TrainingError
from pyramidseg.files import write_text
from pyramidseg.model.bundle import KIND
from pyramidseg.model.cost import describe_cost
from pyramidseg.model.tensor_files import read_metadata
from pyramidseg.predict.backends import EXPORTED, make_backend
from pyramidseg.predict.backends.exported import ExportedBackend
from pyramidseg.predict.skeleton import skeleton
from pyramidseg.predict.tiling import predict_labels
from pyramidseg.runtime import choose_device

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
    say: Say = lambda text: None,
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
        _refuse_taken(folder)
    chosen = make_backend(path, device=place)
    height, width = size or default_size(path)
    network = skeleton(chosen.settings, len(chosen.classes))
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
    say(str(conditions))
    with tempfile.TemporaryDirectory(prefix="pyramidseg-benchmark-") as exports:
        candidates, left_out = find_candidates(path, backends, place, TemporaryExports(path, Path(exports), say))
        rows = _measure(candidates, conditions, place, say)
    result = BenchmarkResult(conditions, rows, left_out, explain_choice(path, chosen, rows))
    if folder is not None:
        write_text(folder / RESULTS, json.dumps(result.to_dict(), indent=1, ensure_ascii=False) + "\n")
    return result


def default_size(model: Path) -> tuple[int, int]:
    """Height and width of the crops that a bundle was trained on; 512x512 where that is not known."""
    if model.suffix in EXPORTED:
        return DEFAULT_SIZE
    crop = json.loads(read_metadata(model, kind=KIND)["facts"]).get("crop")
    return DEFAULT_SIZE if crop is None else (int(crop[0]), int(crop[1]))


def _measure(
    candidates: Sequence[Candidate], conditions: Conditions, device: torch.device, say: Say
) -> tuple[Row, ...]:
    say(f"measuring {len(candidates)} in turn, {conditions.rounds} rounds, after {WARMUP} that do not count")
    one = _timings(candidates, conditions, batch=1, device=device)
    many = _timings(candidates, conditions, batch=conditions.batch_size, device=device)
    say("measuring the memory of each, in processes of their own")
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


def _refuse_taken(out: Path) -> None:
    if out.exists() and not out.is_dir():
        raise OutputError(f"{out}: a file, and a folder is needed; choose another --out")
    if (out / RESULTS).exists():
        raise OutputError(f"{out}: already holds {RESULTS}, and nothing is overwritten; choose another --out")
