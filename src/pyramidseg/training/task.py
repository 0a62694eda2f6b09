"""What a run learns: everything about it that depends on the kind of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol

from torch import Tensor, nn

from pyramidseg.data.loading import Batch

if TYPE_CHECKING:
    from pathlib import Path

    from pyramidseg.training.checkpoint import TrainingProgress
    from pyramidseg.training.run_folder import RunFolder
    from pyramidseg.training.setup import Setup

Columns = Mapping[str, float | None]
"""Values of one epoch by their name in metrics.csv; None where a value does not exist."""


@dataclass(frozen=True)
class Validation:
    """What validation found.

    Attributes:
        facts: what a bundle keeps of it.
    """

    columns: Columns
    facts: Mapping[str, Any] = field(default_factory=dict)


class Task(Protocol):
    """Segmentation, or the classification that encoders are pretrained by."""

    @property
    def watchable(self) -> Sequence[str]:
        """Columns that say how good a model is: `train.watch` is one of them."""
        ...

    @property
    def headline(self) -> Mapping[str, Sequence[str]]:
        """What an epoch's line shows: columns by the word before them."""
        ...

    def description(self) -> dict[str, Any]:
        """What was recognised in the data, for RUN/dataset.yaml."""
        ...

    def identity(self) -> str:
        """Fingerprint of the data."""
        ...

    def names(self, indices: Sequence[int]) -> list[str]:
        """Training samples as the user knows them."""
        ...

    def empty_tally(self) -> Tensor:
        """Zeros for what `gradients` counts; int64, added up over steps and processes."""
        ...

    def gradients(self, model: nn.Module, batches: Sequence[Batch], number: int) -> tuple[Tensor, Tensor]:
        """Leave the gradients of one step's loss in the model, equal on all processes.

        Args:
            model: as `Setup.wrapped`.
            batches: this process's micro-batches of the step.
            number: the step's number in the run, from which its randomness follows.

        Returns:
            This process's share of the loss (the shares add up to it), and its tally.
        """
        ...

    def training_columns(self, tally: Tensor) -> Columns:
        """Columns from an epoch's tally over all processes."""
        ...

    def validate(self, model: nn.Module) -> Validation:
        """Score a model in evaluation mode; all processes take part."""
        ...

    def save(self, model: nn.Module, path: "Path", facts: Mapping[str, Any]) -> None:
        """Write what people go on with."""
        ...

    def write_results(self, setup: "Setup", run: "RunFolder", position: "TrainingProgress") -> None:
        """The end of a run: report and plots, and the words that close it; all processes take part."""
        ...
