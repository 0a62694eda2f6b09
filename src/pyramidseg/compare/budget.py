"""How many epochs a budget in minutes allows: one trial epoch of each encoder is timed.

What counts is what every epoch costs, training and validation. Checking the dataset, decoding it, the last scores and
the report come once a run and take about as long for all encoders: counted, they would cost the fast ones epochs.
"""

import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

from torch import nn

from pyramidseg.config import Config
from pyramidseg.console import Console
from pyramidseg.errors import ConfigError
from pyramidseg.training.checkpoint import Origin
from pyramidseg.training.interrupt import Interrupted
from pyramidseg.training.loop import plan, run_task
from pyramidseg.training.segmentation import Segmentation
from pyramidseg.training.setup import Setup
from pyramidseg.training.task import Validation


@dataclass(frozen=True)
class TimedSegmentation(Segmentation):
    """Segmentation that notes the seconds of each validation, which metrics.csv does not have."""

    seconds: list[float] = field(default_factory=list)

    def validate(self, model: nn.Module, console: Console) -> Validation:
        """See `Task.validate`."""
        began = time.monotonic()
        found = super().validate(model, console)
        self.seconds.append(time.monotonic() - began)
        return found


def epoch_seconds(config: Config, dataset: str, *, out: Path) -> float:
    """Seconds that training and validation take in one epoch, by a run of one in `out`, which is deleted again.

    Raises:
        Interrupted: in words of a comparison.
    """
    console = Console(quiet=True)
    timed: list[TimedSegmentation] = []

    def timed_setup(resolved: Config, origin: Origin | None) -> Setup:
        setup = plan(resolved, dataset, console, origin)
        task = setup.task
        assert isinstance(task, Segmentation)
        timed.append(TimedSegmentation(task.config, task.dataset, task.summary, task.step, task.class_weights))
        return replace(setup, task=timed[0])

    shutil.rmtree(out, ignore_errors=True)
    try:
        with _nothing_kept():
            run = run_task(config, timed_setup, out=out, resume=False, overwrite=False, console=console)
    finally:
        shutil.rmtree(out, ignore_errors=True)
    return float(sum(row["seconds"] for row in run.history) + sum(timed[0].seconds))


def affordable_epochs(encoder: str, *, minutes: float, seconds: float) -> int:
    """Epochs of so many seconds that fit into the minutes.

    Raises:
        ConfigError: not even one does.
    """
    epochs = int(60 * minutes / seconds)
    if epochs < 1:
        raise ConfigError(
            f"compare: --minutes {minutes:g}: an epoch of {encoder} takes {seconds / 60:.1f} minutes here; give more"
        )
    return epochs


@contextmanager
def _nothing_kept() -> Iterator[None]:
    """What an interruption means in a trial epoch; training's own words are of a run that is kept."""
    try:
        yield
    except Interrupted:
        raise Interrupted(
            "interrupted in a trial epoch, of which nothing is kept; the same command begins again"
        ) from None
