"""Runs an exported file and the model it was made from on the same images, and compares their logits and latencies.

Legend: B batch, C channels, K classes, H W pixels.
"""

import statistics
import time
from collections.abc import Callable

import torch
from torch import Tensor

from pyramidseg.backends import TorchBackend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import LOGITS
from pyramidseg.base.errors import ConfigError, PyramidSegError
from pyramidseg.export.parity import Comparison, Parity
from pyramidseg.export.samples import Samples
from pyramidseg.model.segmenter import Segmenter

TIMED_PAIRS = 9
"""Number of timed pairs of runs, of the model and of the file; the latencies are their medians."""

TIMED_SECONDS = 10.0
"""No further pair is timed after this time."""


@torch.inference_mode()
def check_parity(
    backend: ExportedBackend, segmenter: Segmenter, samples: Samples, *, predicting: ExportedBackend
) -> Parity:
    """Compare an exported file with its model on the same images.

    Args:
        backend: the file with both of its outputs.
        predicting: the file as `predict` and `evaluate` run it; compared on the crops only.
    """
    total, on_crops = Comparison(segmenter.classes), Comparison(segmenter.classes)
    for crop in samples.crops:
        expected = segmenter(crop)
        for logits in (_run(backend, _full_size(backend), crop), _run(predicting, predicting, crop)):
            total.add(expected, logits)
            on_crops.add(expected, logits)
    largest = samples.crops[-1][:1]
    for images, truth in samples.whole:
        total.add(segmenter(images), _run(backend, _full_size(backend), images), truth)
        largest = max(largest, images[:1], key=Tensor.numel)
    reference = TorchBackend(segmenter, device=backend.compute_device or backend.device)
    return total.result(
        pieces_agreement=on_crops.clear_agreement,
        precision=backend.metadata.precision,
        runtime=f"{backend.name} {backend.precision} on {backend.place}",
        images=str(samples),
        latency_ms=_latencies_ms(reference, backend, largest),
        latency_against=str(reference),
        latency_size=(largest.shape[-2], largest.shape[-1]),
    )


def _full_size(backend: ExportedBackend) -> Callable[[Tensor], Tensor]:
    """The full-size output of the file itself."""
    return lambda images: backend.run(images)[LOGITS]


def _run(backend: ExportedBackend, compute: Callable[[Tensor], Tensor], images: Tensor) -> Tensor:
    """Full-size logits (B, K, H, W) of images, on the CPU.

    Raises:
        ConfigError: the file fails, or its logits have another shape.
    """
    expected = (len(images), len(backend.classes), *images.shape[-2:])
    try:
        logits = compute(images).cpu()
    except PyramidSegError:
        raise
    except Exception as error:  # each runtime raises types of its own
        found = " ".join(str(error).split())[:300]
    else:
        if logits.shape == expected:
            return logits
        found = f"logits of shape {tuple(logits.shape)}"
    raise ConfigError(
        f"encoder={backend.settings.encoder}: cannot be exported to {backend.format}: for images of shape "
        f"{tuple(images.shape)} the file gives {found}; try another --format, or use the bundle in torch"
    )


def _latencies_ms(model: TorchBackend, file: ExportedBackend, image: Tensor) -> tuple[float, float]:
    """Median times from one image to its full-size logits, in alternating runs; at least one pair of runs."""

    def run_ms(run: Callable[[Tensor], object]) -> float:
        started = time.perf_counter()
        run(image)
        if model.device.type == "cuda":
            torch.cuda.synchronize(model.device)
        return 1000 * (time.perf_counter() - started)

    run_ms(model), run_ms(file.run)  # warm-up
    pairs: list[tuple[float, float]] = []
    started = time.perf_counter()
    while not pairs or (len(pairs) < TIMED_PAIRS and time.perf_counter() - started < TIMED_SECONDS):
        pairs.append((run_ms(model), run_ms(file.run)))
    model_ms, file_ms = zip(*pairs, strict=True)
    return statistics.median(model_ms), statistics.median(file_ms)
