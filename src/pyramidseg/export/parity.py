"""Parity: the difference between the predictions of an exported file and those of the model it was made from.

The reference is the `Segmenter` itself, eager, in float32 on the CPU, with nothing folded. The file runs in its real
runtime. Compared is its full-size output, which other programs use; on crops of odd sizes also its coarse output, which
`predict` uses and upsamples itself.

Legend: B batch, C channels, K classes, H W pixels.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from pyramidseg.backends import TorchBackend
from pyramidseg.backends.exported_backend import ExportedBackend
from pyramidseg.backends.metadata import LOGITS
from pyramidseg.base.classes import Classes
from pyramidseg.base.errors import ConfigError, PyramidSegError
from pyramidseg.base.files import finite
from pyramidseg.base.timing import alternate
from pyramidseg.evaluation.metrics import compute_metrics, confusion_matrix
from pyramidseg.export.samples import Samples
from pyramidseg.model.segmenter import Segmenter

CLEAR_MARGIN = 0.1
"""A pixel is clear if its two largest float32 logits differ by this many standard deviations of the image's logits.

Relative, as logits have no fixed scale: those of an untrained model are a hundredth of those of a trained one."""

MIN_AGREEMENT = 0.9999
"""Least share of pixels that keep their label in fp32; not all, as rounding decides between equal classes."""

MIN_CLEAR_AGREEMENT, MIN_CLEAR_AGREEMENT_INT8 = 0.999, 0.995
"""Least share of clear pixels that keep their label in fp16 and bf16, and in int8."""

LARGEST_MIOU_CHANGE, LARGEST_MIOU_CHANGE_INT8 = 0.002, 0.005
"""Largest change of mIoU in fp16 and bf16, and in int8, in either direction, if no other is given."""

LARGEST_CLASS_CHANGE, MIN_SPEEDUP = 0.02, 1.1
"""For int8: largest change of the IoU of a class, and how many times as fast as fp32 and bf16 a file has to be."""

TIMED_ROUNDS = 5
"""Number of timed runs of the model and of the file, in turns; the latencies are their medians."""


def check_tolerance(points: float | None, precision: str, labelled: str | Path | None) -> None:
    """Refuse a tolerance that is out of range, or has no effect.

    Raises:
        ConfigError: says what it needs.
    """
    if points is None:
        return
    if not 0 < points <= 100:
        raise ConfigError(f"`tolerance={points:g}`: choose a change of mIoU in points, above 0 and at most 100")
    if precision == "fp32":
        raise ConfigError(
            f"`tolerance={points:g}`: is for fp16, bf16 and int8; fp32 files have to keep the labels; leave it out"
        )
    if labelled is None:
        raise ConfigError(f"`tolerance={points:g}`: needs labelled images to compute mIoU on: `check=DATASET`")


@dataclass(frozen=True)
class Parity:
    """Result of a comparison.

    Attributes:
        precision: of the file; determines the tolerance.
        runtime: description of the backend that ran the file.
        images: description of the images.
        pixels: number of compared pixels.
        agreement: share of pixels with the label of the reference; a pixel with a logit that is not finite disagrees.
        clear: share of pixels that are clear (`CLEAR_MARGIN`).
        clear_agreement: as `agreement`, of the clear pixels; NaN if there are none.
        pieces_agreement: as `clear_agreement`, of the crops of odd sizes and batches alone: a failure on these would
            not show among many large images.
        largest_difference: of logits; infinite if the file's are not finite, NaN if it has none.
        deviation: standard deviation of the reference's logits, for comparison with the difference.
        miou: of the reference and of the file; None without labelled images.
        latency_ms: of the bundle in torch and of the file, medians of alternating runs on an image of `latency_size`
            (height, width).
        latency_against: description of the backend that ran the bundle for it.
        tolerance: largest change of `miou`; None for the default of the precision.
        classes: IoU as `miou` by class; None if no true pixel is of this class.
        speedup: how many times as fast as `speedup_against` an int8 file is.
    """

    precision: str
    runtime: str
    images: str
    pixels: int
    agreement: float
    clear: float
    clear_agreement: float
    pieces_agreement: float
    largest_difference: float
    deviation: float
    miou: tuple[float, float] | None
    latency_ms: tuple[float, float]
    latency_against: str
    latency_size: tuple[int, int]
    tolerance: float | None = None
    classes: Mapping[str, tuple[float, float] | None] = field(default_factory=dict)
    speedup: float | None = None
    speedup_against: str = ""

    def findings(self) -> tuple[str, ...]:
        """Every figure outside its tolerance, as text; empty if the file may be used."""
        int8, found = self.precision == "int8", []
        least = MIN_CLEAR_AGREEMENT_INT8 if int8 else MIN_CLEAR_AGREEMENT
        largest = self.tolerance or (LARGEST_MIOU_CHANGE_INT8 if int8 else LARGEST_MIOU_CHANGE)
        if self.precision == "fp32" and not self.agreement >= MIN_AGREEMENT:
            found.append(f"{_percent(self.agreement)} of the pixels keep their label, {MIN_AGREEMENT:.2%} are needed")
        # Without clear pixels, all pixels decide.
        clear = self.agreement if math.isnan(self.clear_agreement) else self.clear_agreement
        if self.precision != "fp32" and not clear >= least:
            found.append(f"{_percent(clear)} of the clear pixels keep their label, {least:.1%} are needed")
        if self.pieces_agreement < least:
            found.append(
                f"{_percent(self.pieces_agreement)} of the clear pixels of odd sizes and batches keep their label, "
                f"{least:.1%} are needed"
            )
        if self.precision != "fp32" and self.miou is not None and not _is_close(*self.miou, largest):
            found.append(f"mIoU goes from {self.miou[0]:.4f} to {self.miou[1]:.4f}, {largest:g} either way are allowed")
        for name, iou in self.classes.items():
            if int8 and iou is not None and not _is_close(*iou, LARGEST_CLASS_CHANGE):
                found.append(
                    f"IoU of {name!r} goes from {iou[0]:.4f} to {iou[1]:.4f}, {LARGEST_CLASS_CHANGE} is allowed"
                )
        if self.speedup is not None and not self.speedup >= MIN_SPEEDUP:
            found.append(f"int8 is {self.speedup:.2f} times as fast as {self.speedup_against}, {MIN_SPEEDUP} is needed")
        return tuple(found)

    def to_dict(self) -> dict[str, Any]:
        """As JSON values; numbers that are not finite become None."""
        return {**finite(asdict(self)), "clear_margin": CLEAR_MARGIN, "passed": not self.findings()}

    def table(self) -> str:
        """As text for a terminal."""
        before, after = self.latency_ms
        height, width = self.latency_size
        clear = f"of {_percent(self.clear)} of them, margin {CLEAR_MARGIN} deviations"
        rows = [
            ("same label", _percent(self.agreement), f"of {self.pixels:,} pixels"),
            ("same label where clear", _percent(self.clear_agreement), clear),
        ]
        if not math.isnan(self.largest_difference):
            difference = f"{self.largest_difference:.2g}"
            rows.append(("largest logit difference", difference, f"deviation {self.deviation:.2g}"))
        if self.miou is not None:
            by_class = {f"IoU {name}": iou for name, iou in self.classes.items() if self.precision == "int8"}
            for name, iou in {"mIoU": self.miou, **by_class}.items():
                change = (f"{iou[1] - iou[0]:+.4f}", f"{iou[0]:.4f} to {iou[1]:.4f}") if iou else ("not shown", "")
                rows.append((name, *change))
        if self.speedup is not None:
            rows.append(("speed", f"{self.speedup:.2f}x", self.speedup_against))
        rows.append(("latency", f"{after:.1f} ms", f"{self.latency_against} {before:.1f} ms, {height}x{width}"))
        return "\n".join(f"{name:<24}  {value:>11}  {of}" for name, value, of in rows)


@dataclass
class AgreementSums:
    """Sums over batches of images."""

    classes: Classes
    pixels: int = 0
    agreeing: int = 0
    clear: int = 0
    clear_agreeing: int = 0
    largest_difference: float = 0.0
    moments: Tensor = field(default_factory=lambda: torch.zeros(3, dtype=torch.float64))
    confusions: Tensor | None = None
    labelled_images: int = 0

    def add(self, expected: Tensor, got: Tensor, truth: Tensor | None = None) -> None:
        """Add logits (B, K, H, W) of the reference and of the file, and the true labels (B, H, W) if known."""
        assert expected.shape == got.shape, (expected.shape, got.shape)
        finite = got.isfinite().all(dim=1)
        labels, own = expected.max(dim=1).indices, got.max(dim=1).indices
        same = (labels == own) & finite
        clear = _margin(expected) >= CLEAR_MARGIN * expected.std(dim=(1, 2, 3), correction=0)[:, None, None]
        self.pixels += same.numel()
        self.agreeing += int(same.sum())
        self.clear += int(clear.sum())
        self.clear_agreeing += int((same & clear).sum())
        difference = float((expected - got).abs().max()) if finite.all() else math.inf
        self.largest_difference = max(self.largest_difference, difference)
        for logits in expected.flatten(0, 1):  # one map at a time: float64 takes twice the memory
            values = logits.double()
            self.moments += torch.stack([torch.tensor(values.numel()), values.sum(), values.square().sum()])
        if truth is not None:
            # Logits that are not finite give no label: count a wrong one.
            own = own.where(finite, (labels + 1) % len(self.classes))
            matrices = [confusion_matrix(found, truth, len(self.classes)) for found in (labels, own)]
            sums = torch.stack(matrices)
            self.confusions = sums if self.confusions is None else self.confusions + sums
            self.labelled_images += len(truth)

    @property
    def clear_agreement(self) -> float:
        """Share of the clear pixels that keep their label; NaN if there are none."""
        return self.clear_agreeing / self.clear if self.clear else math.nan

    def scores(self) -> dict[str, Any]:
        """`miou` and `classes` of a `Parity`; without true labels, there are none."""
        if self.confusions is None:
            return {"miou": None}
        before, after = (
            compute_metrics(confusion, self.classes, images=self.labelled_images) for confusion in self.confusions
        )
        pairs = zip(before.classes, after.classes, strict=True)
        changes = {first.name: (first.iou, second.iou) if first.pixels else None for first, second in pairs}
        return {"miou": (before.miou, after.miou), "classes": changes}

    def result(self, **about: Any) -> Parity:
        """The result; `about` has what only the caller knows: precision, runtime, images, latencies."""
        count, total, squares = self.moments.tolist()
        return Parity(
            pixels=self.pixels,
            agreement=self.agreeing / self.pixels,
            clear=self.clear / self.pixels,
            clear_agreement=self.clear_agreement,
            largest_difference=self.largest_difference,
            deviation=math.sqrt(max(0.0, squares / count - (total / count) ** 2)),
            **self.scores(),
            **about,
        )


@torch.inference_mode()
def check_parity(
    backend: ExportedBackend, segmenter: Segmenter, samples: Samples, *, predicting: ExportedBackend
) -> Parity:
    """Compare an exported file with its model on the same images.

    Args:
        backend: the file with both of its outputs.
        predicting: the file as `predict` and `evaluate` run it; compared on the crops only.
    """
    total, on_crops = AgreementSums(segmenter.classes), AgreementSums(segmenter.classes)
    for crop in samples.crops:
        expected = segmenter(crop)
        for logits in (_run(file, crop) for file in dict.fromkeys((backend, predicting))):
            total.add(expected, logits)
            on_crops.add(expected, logits)
    largest = samples.crops[-1][: backend.batch]
    for images, truth in samples.whole():
        total.add(segmenter(images), _run(backend, images), truth)
        largest = max(largest, images[: backend.batch], key=Tensor.numel)
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


def _run(backend: ExportedBackend, images: Tensor) -> Tensor:
    """Full-size logits (B, K, H, W) of images, on the CPU: those of the file itself, if it computes them."""
    expected = (len(images), len(backend.classes), *images.shape[-2:])
    try:
        logits = (backend.run(images)[LOGITS] if LOGITS in backend.outputs else backend(images)).cpu()
    except PyramidSegError:
        raise
    except Exception as error:  # each runtime raises types of its own
        found = " ".join(str(error).split())[:300]
    else:
        if logits.shape == expected:
            return logits
        found = f"logits of shape {tuple(logits.shape)}"
    raise ConfigError(
        f"encoder {backend.settings.encoder}: cannot be exported to {backend.format}: for images of shape "
        f"{tuple(images.shape)} the file gives {found}; try another `format`, or use the bundle in torch"
    )


def _latencies_ms(model: TorchBackend, file: ExportedBackend, image: Tensor) -> tuple[float, float]:
    """Median times from one image to its full-size logits, in alternating runs."""
    calls: dict[str, Callable[[], object]] = {"model": partial(model, image), "file": partial(file.run, image)}
    found = alternate(calls, rounds=TIMED_ROUNDS, warmup=1, device=model.device)
    return found["model"].milliseconds, found["file"].milliseconds


def _margin(logits: Tensor) -> Tensor:
    """Difference of the two largest logits, (B, H, W); infinite if there is one class."""
    if logits.shape[1] == 1:
        return torch.full_like(logits[:, 0], math.inf)
    first = logits.max(dim=1, keepdim=True)
    second = logits.scatter(1, first.indices, -math.inf).amax(dim=1)  # several times as fast as topk over channels
    return first.values[:, 0] - second


def _is_close(before: float, after: float, largest: float) -> bool:
    return abs(after - before) <= largest or (math.isnan(before) and math.isnan(after))


def _percent(share: float) -> str:
    """Rounded down, so that 100 % means all."""
    return "none" if math.isnan(share) else f"{math.floor(share * 1e6) / 1e4:.4f} %"
