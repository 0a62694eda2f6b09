"""Scores and costs of the encoders of a comparison, and the differences between them."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pyramidseg.backends import TorchBackend
from pyramidseg.base.classes import Classes
from pyramidseg.base.config import Config
from pyramidseg.base.overrides import load_config
from pyramidseg.data.records import Dataset, Record
from pyramidseg.evaluation.scoring import score
from pyramidseg.formats.open_dataset import open_dataset
from pyramidseg.images.decode import image_size
from pyramidseg.model.cost import describe_cost, meta_model
from pyramidseg.model.segmenter import Segmenter
from pyramidseg.studies.benchmark_images import time_predictions
from pyramidseg.studies.bootstrap import Counts, Difference, compare_pairs, counts_of, ious, miou
from pyramidseg.studies.process_memory import peak_memory
from pyramidseg.training.loop import Run

SIZES_SAMPLED = 51
"""Number of images whose median size is used for latency and cost."""


@dataclass(frozen=True)
class Study:
    """A comparison of encoders.

    Attributes:
        dataset: as given by the user.
        encoders: full names.
        seeds: number of runs per encoder.
        epochs: by encoder; equal for all, or as many as fit into `minutes`.
        minutes: budget for training of one run; None if the budget is in epochs.
        settings: settings that all runs share, by dotted name.
    """

    dataset: str
    encoders: tuple[str, ...]
    seeds: int
    epochs: dict[str, int]
    minutes: float | None
    settings: dict[str, Any]

    def config(self, encoder: str, seed: int) -> Config:
        """Configuration of one run."""
        return run_config(self.settings, encoder=encoder, epochs=self.epochs[encoder], seed=seed)


def run_config(settings: Mapping[str, Any], *, encoder: str, epochs: int, seed: int) -> Config:
    """Configuration of one run of a comparison with these shared settings."""
    return load_config(None, {**settings, "model.encoder": encoder, "train.epochs": epochs, "train.seed": seed})


@dataclass(frozen=True)
class EncoderCost:
    """Costs of the model with one encoder, for one image.

    Attributes:
        parameters, gmac: of the whole model.
        latency_ms: median of alternating rounds.
        memory_mb: peak memory of a predicting process in MiB, without imported libraries.
        training_seconds: per run, mean over the seeds.
    """

    parameters: int
    gmac: float
    latency_ms: float
    memory_mb: float
    training_seconds: float


@dataclass(frozen=True)
class EncoderResult:
    """Results of one encoder at the end of the budget, over its seeds.

    Attributes:
        histories: rows of metrics.csv, by seed.
        mious: mIoU on the validation split by seed; last epoch, single scale.
        iou_by_class: (K,) mean over the seeds.
        counts: by seed, for the bootstrap.
    """

    name: str
    histories: tuple[tuple[Mapping[str, Any], ...], ...]
    mious: tuple[float, ...]
    iou_by_class: tuple[float, ...]
    counts: tuple[Counts, ...]
    cost: EncoderCost

    @property
    def miou(self) -> float:
        """Mean over the seeds."""
        return float(np.mean(self.mious))

    @property
    def error(self) -> float:
        """1 - mIoU."""
        return 1 - self.miou


def error_of(row: Mapping[str, Any]) -> float | None:
    """1 - mIoU of a row of metrics.csv."""
    return None if row["val_miou"] is None else 1 - row["val_miou"]


COSTS: dict[str, Callable[[EncoderResult], float]] = {
    "parameters, millions": lambda result: result.cost.parameters / 1e6,
    "GMAC": lambda result: result.cost.gmac,
    "latency, ms": lambda result: result.cost.latency_ms,
    "memory, MiB": lambda result: result.cost.memory_mb,
    "training time of a run, minutes": lambda result: result.cost.training_seconds / 60,
}
"""Costs that accuracy is plotted against, by title."""

LATENCY = "latency, ms"


@dataclass(frozen=True)
class Results:
    """Content of the report.

    Attributes:
        height, width: image size of the costs.
        differences: between every pair, with the better encoder first.
    """

    encoders: tuple[EncoderResult, ...]
    classes: Classes
    images: int
    height: int
    width: int
    differences: tuple[Difference, ...]


def collect(runs: Mapping[str, Sequence[Run]], dataset: str) -> Results:
    """Score the last bundle of every run by image, and measure the costs of each model."""
    first = next(iter(runs.values()))[0]
    config = load_config(first.folder / "config.yaml")
    opened = open_dataset(dataset, config.data)
    records = opened.split("val")
    height, width = typical_size(records)
    backends = {name: TorchBackend(found[0].last, device=config.train.device) for name, found in runs.items()}
    device = next(iter(backends.values())).device
    latencies = time_predictions(backends, device, height=height, width=width)
    results = []
    for name, found in runs.items():
        counts = tuple(score_by_image(run.last, opened, config.train.device) for run in found)
        totals = [run.sum(axis=0) for run in counts]
        backend = backends[name]
        cost = describe_cost(meta_model(backend.settings, len(backend.classes)), height, width)
        memory = peak_memory(found[0].last, height=height, width=width, device=device)
        results.append(
            EncoderResult(
                name=name,
                histories=tuple(run.history for run in found),
                mious=tuple(float(miou(total)) for total in totals),
                iou_by_class=tuple(np.mean([ious(total) for total in totals], axis=0).tolist()),
                counts=counts,
                cost=EncoderCost(
                    parameters=cost.parameters,
                    gmac=cost.gmac,
                    latency_ms=latencies[name].milliseconds,
                    memory_mb=memory / 2**20,
                    training_seconds=float(np.mean([sum(row["seconds"] for row in run.history) for run in found])),
                ),
            )
        )
    differences = compare_pairs({result.name: list(result.counts) for result in results})
    return Results(tuple(results), opened.classes, len(records), height, width, differences)


def typical_size(records: Sequence[Record]) -> tuple[int, int]:
    """Median height and width of an evenly spaced sample of the images."""
    step = max(1, len(records) // SIZES_SAMPLED)
    sizes = np.array([image_size(record.image) for record in records[::step]])
    height, width = np.median(sizes, axis=0).round().astype(int).tolist()
    return height, width


def score_by_image(bundle: Path, dataset: Dataset, device: str) -> Counts:
    """Counts (N, 3, K) of a bundle on the validation images."""
    backend = TorchBackend(Segmenter.load(bundle), device=device)
    counts: dict[str, Any] = {}

    def keep(record: Record, confusion: Tensor) -> None:
        counts[record.id] = counts_of(confusion.cpu().numpy())

    score(
        backend,
        dataset,
        "val",
        channels=dataset.bands or backend.settings.channels,
        batch_size=4,
        device=backend.device,
        on_image=keep,
    )
    return np.stack([counts[record.id] for record in dataset.split("val")])


def pareto_front(results: Sequence[EncoderResult], cost_of: Callable[[EncoderResult], float]) -> tuple[str, ...]:
    """Names of the encoders that no other encoder beats in cost or accuracy while at least equal in the other."""
    return tuple(
        result.name
        for result in results
        if not any(
            cost_of(other) <= cost_of(result)
            and other.miou >= result.miou
            and (cost_of(other) < cost_of(result) or other.miou > result.miou)
            for other in results
        )
    )
