"""What the training loop needs of what is learned: segmentation, or classification for pretraining."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from torch import Tensor, nn

from pyramidseg.base.config import Config
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.data.loading import Batch, SampleDataset
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import RunFolder

Columns = Mapping[str, float | None]
"""Values of one epoch by column of metrics.csv; None where a value does not exist."""


Validation = tuple[Columns, Mapping[str, Any]]
"""Columns for metrics.csv, and what the bundles of this epoch store about it."""

Ema = nn.Module | None
"""The average of the weights, in evaluation mode; None if it is off."""


@dataclass(frozen=True, kw_only=True)
class Task(ABC):
    """Data, model and loss of a run, checked and ready to train.

    Attributes:
        metrics: columns that measure how good a model is: the allowed values of `train.watch`.
        headline: columns that the log line of an epoch shows, by label.
        config: the resolved settings.
        model: what is trained, averaged and saved; on its device.
        train_module: what `gradients` calls: the model, or a wrapper whose `forward` computes all that the loss needs.
        samples: for training.
        plan: division of an epoch's samples into steps, processes and micro-batches.
        fingerprint: hash of the data; a resumed run must have the same.
        initial_weights: source of the weights that the run started from.
        notes: choices that were made for the user, for the log and the report.
    """

    metrics: ClassVar[Sequence[str]]
    headline: ClassVar[Mapping[str, Sequence[str]]]

    config: Config
    accelerator: Accelerator
    model: nn.Module
    train_module: nn.Module
    samples: SampleDataset
    plan: EpochPlan
    fingerprint: str
    initial_weights: InitialWeights
    notes: Sequence[str]

    @abstractmethod
    def description(self) -> dict[str, Any]:
        """Content of RUN/dataset.yaml."""

    @abstractmethod
    def names(self, indices: Sequence[int]) -> list[str]:
        """Names of training samples by their index in `EpochPlan.keys`, for messages."""

    @abstractmethod
    def empty_counts(self) -> Tensor:
        """Zeros for the int64 counts that `gradients` returns; they are added up over steps and processes."""

    @abstractmethod
    def gradients(
        self, module: nn.Module, batches: Sequence[Batch], number: int, *, ema: Ema = None, loss_scale: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Add the gradients of one step's loss to the parameters; they are equal on all processes.

        Args:
            module: `train_module`, inside DistributedDataParallel if there are several processes.
            batches: this process's micro-batches of the step.
            number: the step's number in the run, which determines its randomness.
            ema: labels unlabelled images.
            loss_scale: factor of the loss in the backward pass; the gradients are divided by it.

        Returns:
            This process's share of the loss (the shares of all processes add up to the loss), and its counts.
        """

    @abstractmethod
    def training_columns(self, counts: Tensor) -> Columns:
        """Columns from an epoch's counts, summed over all processes."""

    @abstractmethod
    def validate(self, model: nn.Module, *, batch_size: int) -> Validation:
        """Score a model in evaluation mode; called on all processes."""

    @abstractmethod
    def save(self, model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write a bundle."""

    @abstractmethod
    def write_report(self, run: RunFolder, progress: TrainingProgress, notes: Sequence[str]) -> None:
        """Write report and plots at the end of the run; called on all processes."""
