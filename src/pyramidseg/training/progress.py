"""How far a run has come, and its history: one row of metrics.csv per epoch."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import NoneType
from typing import Any

from pyramidseg.base.config import Config
from pyramidseg.base.device import Precision
from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.base.log import duration
from pyramidseg.data.epoch_plan import EpochPlan
from pyramidseg.training.optim import lr_factor

FIRST_LOSS_SCALE, STEPS_TO_DOUBLE = 2.0**16, 2000
"""Loss scale of float16 at the start of a run, and finite steps until it doubles (as in torch.amp.GradScaler)."""


@dataclass
class TrainingProgress:
    """State of a run that is not tensors; checkpoints store all of it.

    Attributes:
        epoch: the current epoch, from 0.
        step: the next step of the current epoch, from 0.
        updates: optimizer steps that were applied (skipped steps are not counted).
        skipped: steps that were skipped because the loss, a gradient or a statistic was not finite.
        skipped_in_a_row: the latest consecutive ones of them.
        loss_sum: sum of the step losses of the current epoch.
        counted: number of steps in `loss_sum`.
        seconds, waited: duration of the current epoch so far, and the part of it spent waiting for data.
        history: rows of metrics.csv.
        best: best value of the metric `train.watch`, and the epoch that it comes from.
        stopped_early: the metric has not improved for `train.patience` epochs.
        loss_scale: factor of the loss in the backward pass of float16 (Micikevicius et al. 2018, arXiv 1710.03740,
            section 3.2); None in the other precisions.
        steps_since_overflow: finite steps since the loss scale last changed.
        largest_batch, largest_val_batch: samples that are computed at once in training and validation, since more of
            them did not fit into memory; None: as in the settings.
    """

    epoch: int = 0
    step: int = 0
    updates: int = 0
    skipped: int = 0
    skipped_in_a_row: int = 0
    loss_sum: float = 0.0
    counted: int = 0
    seconds: float = 0.0
    waited: float = 0.0
    history: list[dict[str, Any]] = field(default_factory=list)
    best: float | None = None
    best_epoch: int = -1
    stopped_early: bool = False
    loss_scale: float | None = None
    steps_since_overflow: int = 0
    largest_batch: int | None = None
    largest_val_batch: int | None = None

    @classmethod
    def start(cls, precision: Precision) -> "TrainingProgress":
        """The state at the start of a run."""
        return cls(loss_scale=FIRST_LOSS_SCALE if precision == "fp16" else None)

    def check(self) -> None:
        """Check a state that was read from a file.

        Raises:
            ValueError: no run can be in this state.
        """
        if not self.step >= 0 or self.epoch != len(self.history) or not -1 <= self.best_epoch < max(1, self.epoch):
            raise ValueError(f"epoch {self.epoch}, step {self.step} and {len(self.history)} epochs in the history")
        if self.loss_scale is not None and not 1 <= self.loss_scale < math.inf:
            raise ValueError(f"loss scale {self.loss_scale}")
        for largest in (self.largest_batch, self.largest_val_batch):
            if largest is not None and largest < 1:
                raise ValueError(f"batches of at most {largest} samples")
        for row in self.history:
            numbers = all(isinstance(value, (int, float, NoneType)) for value in row.values())
            if not numbers or row.keys() != self.history[0].keys() or not {"epoch", "seconds"} <= row.keys():
                raise ValueError(f"a row of the history is not one of metrics.csv: {str(row)[:100]}")

    def val_batch_size(self, config: Config) -> int:
        """Images that are validated at once."""
        return self.largest_val_batch or config.train.val_batch_size

    def is_finished(self, config: Config) -> bool:
        """Whether no epoch is left to train."""
        return self.stopped_early or self.epoch >= config.train.epochs

    def count_step(self, loss: float | None) -> None:
        """Count a step with its loss; None counts it as skipped, and lowers the loss scale of float16 first."""
        self.step += 1
        if loss is None:
            self.skipped += 1
            if self.is_overflow_expected():
                assert self.loss_scale is not None
                self.loss_scale, self.steps_since_overflow = self.loss_scale / 2, 0
            else:
                self.skipped_in_a_row += 1
            return
        if self.loss_scale is not None:
            self.steps_since_overflow += 1
            if self.steps_since_overflow == STEPS_TO_DOUBLE:
                self.loss_scale, self.steps_since_overflow = self.loss_scale * 2, 0
        self.updates += 1
        self.loss_sum += loss
        self.counted += 1
        self.skipped_in_a_row = 0

    def is_overflow_expected(self) -> bool:
        """Whether a step that is not finite has its probable cause in the loss scale of float16."""
        return self.loss_scale is not None and self.loss_scale > 1

    def close_epoch(self, row: dict[str, Any], config: Config) -> bool:
        """Append the epoch's row and move on to the next epoch; returns whether this was the best epoch so far."""
        watch, patience = config.train.watch, config.train.patience
        self.history.append(row)
        value = row[watch]
        # The first epoch is the best even without a value (all steps skipped), so that best.safetensors always exists.
        lower_is_better = watch.endswith(("loss", "error"))
        is_best = self.best is None or (
            value is not None and (value < self.best if lower_is_better else value > self.best)
        )
        if is_best:
            self.best, self.best_epoch = value, self.epoch
        self.stopped_early = bool(patience) and self.epoch - self.best_epoch >= patience
        self.epoch += 1
        self.step = self.counted = 0
        self.loss_sum = self.seconds = self.waited = 0.0
        return is_best

    def note(self) -> str:
        """Mean loss of the epoch so far, and the skipped steps if there are any; for the progress bar."""
        loss = f"loss {self.loss_sum / self.counted:.3f}" if self.counted else ""
        return f"{loss} skipped {self.skipped}" if self.skipped else loss

    def summary(self) -> dict[str, object]:
        """Figures of the whole run by name, for the report."""
        seconds = sum(row["seconds"] for row in self.history)
        waited = sum(row["seconds"] * (row["waiting_share"] or 0) for row in self.history)
        return {
            "best epoch": self.best_epoch + 1,
            "training time": duration(seconds),
            "waiting for data": f"{100 * waited / max(seconds, 1e-9):.1f} % of the training time",
            "skipped steps": self.skipped,
        }


def epoch_row(
    progress: TrainingProgress,
    config: Config,
    plan: EpochPlan,
    *,
    training: Mapping[str, float | None],
    validation: Mapping[str, float | None],
) -> dict[str, Any]:
    """One row of metrics.csv; values that do not exist are None.

    Args:
        training, validation: the task's columns.
    """
    last_step = (progress.epoch + 1) * plan.steps - 1
    row = {
        "epoch": progress.epoch + 1,
        "updates": progress.updates,
        "lr": config.optim.peak_lr * lr_factor(config, last_step, steps_an_epoch=plan.steps),
        "train_loss": progress.loss_sum / progress.counted if progress.counted else None,
        **training,
        **validation,
        "skipped_steps": progress.skipped,
        "seconds": progress.seconds,
        "images_per_second": plan.samples / progress.seconds if progress.seconds else None,
        "waiting_share": progress.waited / progress.seconds if progress.seconds else None,
    }
    return {name: None if value != value else value for name, value in row.items()}


def check_watch(watch: str, metrics: Sequence[str]) -> None:
    """Refuse a value of `train.watch` that is not one of the metrics.

    Raises:
        ConfigError: with the nearest metric.
    """
    if watch not in metrics:
        raise ConfigError(
            f"train.watch={watch}: not among the losses, errors and scores of metrics.csv; {nearest(watch, metrics)}"
        )


def format_row(row: Mapping[str, Any], headline: Mapping[str, Sequence[str]], *, epochs: int, is_best: bool) -> str:
    """An epoch in one line of the log.

    Args:
        headline: columns by label, as `Task.headline`.
    """
    shown = [
        f"{label} {' '.join(_value(row, column, first=place == 0) for place, column in enumerate(columns))}"
        for label, columns in headline.items()
    ]
    skipped = [f"skipped {row['skipped_steps']}"] if row["skipped_steps"] else []
    start = f"epoch {row['epoch']:>3}/{epochs}"
    return "  ".join([start, *shown, duration(row["seconds"]), *skipped, *(["*"] if is_best else [])])


def _value(row: Mapping[str, Any], column: str, *, first: bool) -> str:
    value = "-" if row[column] is None else f"{row[column]:.4f}"
    return value if first else f"val {value}"
