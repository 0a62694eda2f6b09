"""The protocol between the training loop and what is learned: segmentation, or classification for pretraining."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor, nn

from pyramidseg.base.config import Config
from pyramidseg.data.loading import Batch, EpochPlan, SampleDataset
from pyramidseg.training.accelerator import Accelerator
from pyramidseg.training.initial_weights import InitialWeights
from pyramidseg.training.progress import TrainingProgress
from pyramidseg.training.run_folder import RunFolder

Columns = Mapping[str, float | None]
"""Values of one epoch by column of metrics.csv; None where a value does not exist."""


@dataclass(frozen=True)
class Validation:
    """Result of a validation.

    Attributes:
        columns: for metrics.csv.
        metadata: what the bundles of this epoch store about it.
    """

    columns: Columns
    metadata: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Data, model and loss of a run, checked and ready to train."""

    @property
    def config(self) -> Config:
        """The resolved settings."""
        ...

    @property
    def accelerator(self) -> Accelerator:
        """Device and precision."""
        ...

    @property
    def model(self) -> nn.Module:
        """What is trained, averaged and saved; on its device."""
        ...

    @property
    def train_module(self) -> nn.Module:
        """What `gradients` calls: the model, or a wrapper whose `forward` computes all that the loss needs."""
        ...

    @property
    def samples(self) -> SampleDataset:
        """Training samples."""
        ...

    @property
    def plan(self) -> EpochPlan:
        """Division of an epoch's samples into steps, processes and micro-batches."""
        ...

    @property
    def initial_weights(self) -> InitialWeights:
        """Source of the weights that the run started from."""
        ...

    @property
    def notes(self) -> Sequence[str]:
        """Choices that were made for the user, for the log and the report."""
        ...

    @property
    def metrics(self) -> Sequence[str]:
        """Columns that measure how good a model is: the allowed values of `train.watch`."""
        ...

    @property
    def headline(self) -> Mapping[str, Sequence[str]]:
        """Columns that the log line of an epoch shows, by label."""
        ...

    def description(self) -> dict[str, Any]:
        """Content of RUN/dataset.yaml."""
        ...

    def fingerprint(self) -> str:
        """Hash of the data; a resumed run must have the same."""
        ...

    def names(self, indices: Sequence[int]) -> list[str]:
        """Names of training samples, for messages."""
        ...

    def empty_counts(self) -> Tensor:
        """Zeros for the int64 counts that `gradients` returns; they are added up over steps and processes."""
        ...

    def gradients(self, module: nn.Module, batches: Sequence[Batch], number: int) -> tuple[Tensor, Tensor]:
        """Add the gradients of one step's loss to the parameters; they are equal on all processes.

        Args:
            module: `train_module`, inside DistributedDataParallel if there are several processes.
            batches: this process's micro-batches of the step.
            number: the step's number in the run, which determines its randomness.

        Returns:
            This process's share of the loss (the shares of all processes add up to the loss), and its counts.
        """
        ...

    def training_columns(self, counts: Tensor) -> Columns:
        """Columns from an epoch's counts, summed over all processes."""
        ...

    def validate(self, model: nn.Module) -> Validation:
        """Score a model in evaluation mode; called on all processes."""
        ...

    def save(self, model: nn.Module, path: Path, metadata: Mapping[str, Any]) -> None:
        """Write a bundle."""
        ...

    def write_report(self, run: RunFolder, progress: TrainingProgress, notes: Sequence[str]) -> None:
        """Write report and plots at the end of the run; called on all processes."""
        ...
