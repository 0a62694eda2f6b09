"""Prediction from pixels to label map: SMP in every way that it can be run, and ours, alternating in one process."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from benchmarks.speed.models import Files
from benchmarks.speed.peer import Predict, as_users_run_it, in_onnx_runtime, in_openvino, load_peer, tuned
from benchmarks.speed.rows import Row, timed_rows
from benchmarks.speed.settings import Bench
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from pyramidseg.backends import EXPORTED, make_backend
from pyramidseg.backends.factory import export_path
from pyramidseg.base.device import has_fast_bf16
from pyramidseg.base.timing import Timing, alternate
from pyramidseg.model.inference import inference_copy, logits_of_padded
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.predict.segmentation import predict_labels
from pyramidseg.studies.benchmark_images import scene_images
from pyramidseg.studies.roofline import Roofline

WARMUP = 2

TITLES = {
    "ours": "ours",
    "imported": "SMP's weights imported",
    "ours-as-written": "without smoothing, as written",
    "default": "ours with smoothing",
    "as-written": "ours with smoothing, as written",
}


@dataclass(frozen=True)
class Contestant:
    """A network in a runtime.

    Attributes:
        network: `smp`, or a bundle of `Files`.
        runtime: a backend of ours; for SMP `torch` (as users run it), `torch-tuned`, `torch-compiled`, or a runtime.
    """

    network: str
    runtime: str
    precision: str

    def __str__(self) -> str:
        if self.network != "smp":
            return f"{TITLES[self.network]}, {self.runtime} {self.precision}"
        return {
            "torch": "SMP as users run it",
            "torch-tuned": "SMP, channels_last and bf16",
            "torch-compiled": "SMP, channels_last and bf16, compiled",
        }.get(self.runtime, f"SMP's ONNX, {self.runtime} {self.precision}")


def contestants(device: torch.device, runtimes: tuple[str, ...]) -> Iterator[Contestant]:
    """Everyone who can run here; peers first, SMP as users run it before all others.

    The default network stands beside them, as a share of its own floor: it computes more. On a GPU ours is as written
    only: `TorchBackend` re-associates nothing there.
    """
    precisions = ("fp32", "bf16") if has_fast_bf16(device) else ("fp32",)
    yield Contestant("smp", "torch", "fp32")
    if "bf16" in precisions:
        yield Contestant("smp", "torch-tuned", "bf16")
        if device.type == "cuda":
            yield Contestant("smp", "torch-compiled", "bf16")
    exported = [
        (name, precision) for name in runtimes for precision in (precisions if name == "openvino" else ("fp32",))
    ]
    for name, precision in exported:
        yield Contestant("smp", name, precision)
    own = [("torch", precision) for precision in precisions]
    if device.type == "cuda":
        own += [("torch-compiled", precision) for precision in precisions]
    reassociated = [*own, *exported, *((name, "int8") for name in runtimes)] if device.type == "cpu" else []
    for name, precision in reassociated:
        yield Contestant("ours", name, precision)
    for name, precision in (*own, *exported):
        yield Contestant("ours-as-written", name, precision)
    yield Contestant("imported", "torch", "fp32")
    for name, precision in reassociated:
        yield Contestant("default", name, precision)
    for name, precision in (*own, *exported):
        yield Contestant("as-written", name, precision)


def open_contestant(
    contestant: Contestant, files: Files, *, encoder: str, classes: int, device: torch.device
) -> Predict:
    """Load it from its files; what comes back takes uint8 images to labels."""
    network, runtime, precision = contestant.network, contestant.runtime, contestant.precision
    if network == "smp" and runtime == "onnxruntime":
        return in_onnx_runtime(files.peer_onnx, device)
    if network == "smp" and runtime == "openvino":
        return in_openvino(files.peer_onnx, precision)
    if network == "smp":
        model = load_peer(files.peer, encoder, classes)
        if runtime == "torch":
            return as_users_run_it(model, device)
        return tuned(model, device, compiled=runtime == "torch-compiled")
    own = next((backend for backend in EXPORTED.values() if backend.name == runtime), None)
    file = files.bundle(network) if own is None else export_path(files.bundle(network), own, precision)
    as_written = network.endswith("as-written") and own is None  # an exported file was written so
    backend = make_backend(file, runtime, device=device, precision=_asked(runtime, precision), as_written=as_written)
    return partial(predict_labels, backend)


def measure_prediction(bench: Bench) -> list[Row]:
    """Latency of one image, and throughput of a batch, for every encoder."""
    rows = []
    for encoder in bench.settings.encoders:
        rows += _measure_encoder(bench, encoder)
    return rows


def _measure_encoder(bench: Bench, encoder: str) -> list[Row]:
    settings, device = bench.settings, bench.device
    files = bench.workshop.files(encoder)
    opened = {
        contestant: open_contestant(contestant, files, encoder=encoder, classes=settings.classes, device=device)
        for number, contestant in enumerate(contestants(device, bench.workshop.runtimes))
        if number == 0 or not settings.precisions or contestant.precision in settings.precisions
    }
    side = settings.side_px
    written = {network: convolutions(files.bundle(network), side, as_written=True) for network in ("ours", "default")}
    composed = {network: convolutions(files.bundle(network), side, as_written=False) for network in ("ours", "default")}
    peers = [str(contestant) for contestant in opened if contestant.network == "smp"]
    rows = []
    for batch, rounds in ((1, settings.rounds), (settings.batch, settings.batch_rounds)):
        bench.say(f"{encoder}: {batch} images of {side}x{side}, {len(opened)} contestants, {rounds} rounds")
        images = scene_images(batch, channels=3, height=side, width=side)
        calls = {contestant: partial(predict, images) for contestant, predict in opened.items()}
        timings = alternate(calls, rounds=rounds, warmup=min(WARMUP, rounds), device=device)
        rows += timed_rows(
            group_name(encoder, batch, side),
            {str(contestant): timing for contestant, timing in timings.items()},
            peers=peers,
            images=batch,
            shares=_shares(bench.roofline, batch, written, timings),
            composed_shares=_shares(bench.roofline, batch, composed, timings) if device.type == "cpu" else None,
            notes=_agreements(opened, images),
        )
    return rows


def convolutions(bundle: Path, side_px: int, *, as_written: bool) -> int:
    """Multiply-accumulates of one square image, as the network is written or as it is predicted with."""
    model = inference_copy(Segmenter.load(bundle), as_written=as_written).to("meta")
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        logits_of_padded(model, torch.empty(1, 3, side_px, side_px, device="meta"))
    return int(counter.get_total_flops() // 2)


def _shares(
    roofline: Roofline, batch: int, macs: dict[str, int], timings: Mapping[Contestant, Timing]
) -> dict[str, float | None]:
    """The convolutions' time at the machine's rate as a share of the time taken, by contestant."""
    return {
        str(contestant): roofline.share(
            batch * macs["default" if contestant.network in ("default", "as-written") else "ours"],
            contestant.precision,
            timing.median,
        )
        for contestant, timing in timings.items()
    }


def group_name(encoder: str, batch: int, side_px: int) -> str:
    """What rows of one encoder and batch are called."""
    return f"{encoder}, {'one image' if batch == 1 else f'batch of {batch}'}, {side_px}x{side_px}"


def _agreements(opened: dict[Contestant, Predict], images: Tensor) -> dict[str, str]:
    """How many pixels have the label that SMP gives them, as users run it, of those who have its weights."""
    expected = opened[Contestant("smp", "torch", "fp32")](images).cpu()
    return {
        str(contestant): f"{100 * agreement(predict(images).cpu(), expected):.3f} % of SMP's labels"
        for contestant, predict in opened.items()
        if contestant.network == "imported"
    }


def agreement(labels: Tensor, expected: Tensor) -> float:
    """Share of the pixels whose label is the expected one."""
    return float((labels.long() == expected.long()).double().mean())


def _asked(runtime: str, precision: str) -> str:
    return "auto" if runtime == "onnxruntime" or precision == "int8" else precision
