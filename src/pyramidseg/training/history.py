"""The run's history: a row an epoch, which of them is the best, and how it is said."""

from collections.abc import Mapping
from typing import Any

from pyramidseg.config import Config
from pyramidseg.console import duration
from pyramidseg.errors import ConfigError, nearest
from pyramidseg.evaluation.metrics import Metrics
from pyramidseg.evaluation.scoring import Scores
from pyramidseg.training.checkpoint import Position
from pyramidseg.training.optim import factor_at
from pyramidseg.training.setup import Setup

WATCHABLE = (
    "train_loss",
    "train_error",
    "train_miou",
    "val_loss",
    "val_error",
    "val_miou",
    "val_class_accuracy",
    "val_dice",
)


def epoch_row(setup: Setup, position: Position, training: Metrics, scores: Scores) -> dict[str, Any]:
    """One row of metrics.csv; values that do not exist are None."""
    metrics = scores.metrics
    steps = setup.loader.plan.steps
    last_step = (position.epoch + 1) * steps - 1
    row = {
        "epoch": position.epoch + 1,
        "updates": position.updates,
        "lr": setup.config.optim.lr * factor_at(setup.config, last_step, steps_an_epoch=steps),
        "train_loss": position.loss_sum / position.counted if position.counted else None,
        "train_error": training.error,
        "train_miou": training.miou,
        "val_loss": scores.loss,
        "val_error": metrics.error,
        "val_miou": metrics.miou,
        "val_class_accuracy": metrics.mean_class_accuracy,
        "val_dice": metrics.mean_dice,
        "skipped_steps": position.skipped,
        "seconds": position.seconds,
        "images_per_second": setup.loader.plan.samples / position.seconds if position.seconds else None,
        "waiting_share": position.waited / position.seconds if position.seconds else None,
    }
    return {name: None if value != value else value for name, value in row.items()}


def improves(value: float, best: float, name: str) -> bool:
    """Whether a watched value is better: higher, or lower for losses and errors."""
    return value < best if name.endswith(("loss", "error")) else value > best


def check_watch(config: Config) -> None:
    """Refuse a watched value that no row has."""
    if config.train.watch not in WATCHABLE:
        raise ConfigError(
            f"train.watch={config.train.watch}: no such value in metrics.csv; {nearest(config.train.watch, WATCHABLE)}"
        )


def row_in_words(row: Mapping[str, Any], config: Config, *, better: bool) -> str:
    """An epoch in one line."""
    shown = {
        name: "-" if row[name] is None else f"{row[name]:.4f}"
        for name in ("train_loss", "val_loss", "train_miou", "val_miou", "val_error")
    }
    skipped = f"  skipped {row['skipped_steps']}" if row["skipped_steps"] else ""
    return (
        f"epoch {row['epoch']:>3}/{config.train.epochs}  loss {shown['train_loss']} val {shown['val_loss']}  "
        f"mIoU {shown['train_miou']} val {shown['val_miou']}  error {shown['val_error']}  "
        f"{duration(row['seconds'])}{skipped}{'  *' if better else ''}"
    )
