"""The run's history: a row an epoch, which of them is the best, and how it is said."""

from collections.abc import Mapping, Sequence
from typing import Any

from pyramidseg.base.errors import ConfigError, nearest
from pyramidseg.base.log import duration
from pyramidseg.training.checkpoint import TrainingProgress
from pyramidseg.training.optim import factor_at
from pyramidseg.training.setup import Setup
from pyramidseg.training.task import Columns


def epoch_row(setup: Setup, position: TrainingProgress, training: Columns, validation: Columns) -> dict[str, Any]:
    """One row of metrics.csv; values that do not exist are None."""
    steps = setup.loader.plan.steps
    last_step = (position.epoch + 1) * steps - 1
    row = {
        "epoch": position.epoch + 1,
        "updates": position.updates,
        "lr": setup.config.optim.peak_lr * factor_at(setup.config, last_step, steps_an_epoch=steps),
        "train_loss": position.loss_sum / position.counted if position.counted else None,
        **training,
        **validation,
        "skipped_steps": position.skipped,
        "seconds": position.seconds,
        "images_per_second": setup.loader.plan.samples / position.seconds if position.seconds else None,
        "waiting_share": position.waited / position.seconds if position.seconds else None,
    }
    return {name: None if value != value else value for name, value in row.items()}


def improves(value: float, best: float, name: str) -> bool:
    """Whether a watched value is better: higher, or lower for losses and errors."""
    return value < best if name.endswith(("loss", "error")) else value > best


def check_watch(watch: str, watchable: Sequence[str]) -> None:
    """Refuse to watch what does not tell how well a run does, or what no row has."""
    if watch not in watchable:
        raise ConfigError(
            f"train.watch={watch}: not among the losses, errors and scores of metrics.csv; {nearest(watch, watchable)}"
        )


def format_row(row: Mapping[str, Any], setup: Setup, *, better: bool) -> str:
    """An epoch in one line."""
    shown = [
        f"{word} {' '.join(_value(row, column, first=place == 0) for place, column in enumerate(columns))}"
        for word, columns in setup.task.headline.items()
    ]
    skipped = [f"skipped {row['skipped_steps']}"] if row["skipped_steps"] else []
    start = f"epoch {row['epoch']:>3}/{setup.config.train.epochs}"
    return "  ".join([start, *shown, duration(row["seconds"]), *skipped, *(["*"] if better else [])])


def _value(row: Mapping[str, Any], column: str, *, first: bool) -> str:
    value = "-" if row[column] is None else f"{row[column]:.4f}"
    return value if first else f"val {value}"
